"""Scores."""

from __future__ import annotations

from optix_bus.messages.base import Event
from optix_bus.messages.collection import Purpose


class WindowScored(Event, frozen=True, kw_only=True):
    """The score of one policy version; from the evaluator to scheduler and optimizer.

    ``score`` is the validation score where there is validation, otherwise the training score; NaN means
    that no episode ended, so that there is no evidence. ``hyperparams_version`` is what the window was acted
    with, ``learnt_with`` what produced the policy: a tuner's credit goes to ``learnt_with``.
    """

    window: int
    purpose: Purpose
    policy_version: int
    hyperparams_version: int
    learnt_with: int
    score: float
    n: int
    standard_error: float
    std: float
    train_score: float
    generalization_gap: float
    metrics: dict[str, float] = {}
