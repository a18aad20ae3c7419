"""Collecting experience."""

from __future__ import annotations

from typing import Literal

from optix_bus.messages.base import Event
from optix_bus.types import BlobRef

Role = Literal["train", "validation"]
Purpose = Literal["train", "score", "confirm"]


class CollectWindow(Event, frozen=True, kw_only=True):
    """Collect training window ``window`` with exactly this policy; from the scheduler to the pipelines.

    One event starts both roles: with ``evaluate`` the validation pipeline runs its episodes with the same
    policy, at the same time or, where the roles share one agent, before the training window.
    """

    window: int
    policy_version: int
    hyperparams_version: int
    evaluate: bool


class EvaluationRequested(Event, frozen=True, kw_only=True):
    """Score a policy once more on fresh episodes before it may replace the best; from the scheduler to the
    validation pipeline."""

    window: int
    policy_version: int


class WindowCollected(Event, frozen=True, kw_only=True):
    """A window of training (``purpose`` train) or a set of complete validation episodes; from a pipeline to
    learner, evaluator and scheduler.

    ``data`` holds the arrays of `EpisodeData`. ``steps`` are transitions of this window, ``total_steps``
    those of this pipeline since the run began, ``episodes`` the episodes that ended in it.
    ``hyperparams_version`` is what the window was acted with.
    """

    role: Role
    purpose: Purpose
    window: int
    policy_version: int
    hyperparams_version: int
    evaluate: bool
    data: BlobRef
    steps: int
    total_steps: int
    episodes: int
