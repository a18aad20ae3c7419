"""Collecting experience."""

from __future__ import annotations

from typing import Literal

from optix_bus.messages.base import Event
from optix_bus.types import BlobRef

Role = Literal["train", "validation"]
Purpose = Literal["train", "score", "confirm", "watch"]


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
    """Score a policy on fresh episodes, apart from any training; from the scheduler to the pipeline of this
    role.

    ``purpose`` is confirm where the policy may replace the best, and watch where nothing is trained any more
    and the best policy is evaluated now and then. Without a validation pipeline, the training pipeline
    collects a window for the watchdog, from which nobody learns.
    """

    window: int
    policy_version: int
    purpose: Purpose = "confirm"
    role: Role = "validation"
    hyperparams_version: int = -1


class WindowCollected(Event, frozen=True, kw_only=True):
    """A window of training (``purpose`` train) or a set of complete validation episodes; from a pipeline to
    learner, evaluator and scheduler. Only windows of training are learnt from.

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
