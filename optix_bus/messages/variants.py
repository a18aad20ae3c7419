"""Variants that are trained by nodes of their own, beside those of the topology.

Their types are their own, so that no node that does not ask for variants ever takes a variant's window or
policy for one of the learner's. Policy versions of variant ``n`` count up from ``n * 10**9``: a version
names one policy in the whole run.
"""

from __future__ import annotations

from typing import Any

from optix_bus.messages.base import Event
from optix_bus.messages.collection import Purpose, Role
from optix_bus.types import BlobRef


class VariantAdmitted(Event, frozen=True, kw_only=True):
    """From here on these ``nodes`` belong to the run; from the scheduler to checkpoint, which gives them
    their beginning, and to the supervisor (or the inline runner), which starts them.

    The other fields are those of `EvolutionDecided`.
    """

    window: int
    variant: int
    nodes: tuple[str, ...]
    params: dict[str, Any]
    noise_scale: float = 0.0
    weight_noise: float = 0.0
    seed: int = 0


class VariantSeeded(Event, frozen=True, kw_only=True):
    """The beginning of a variant: ``policy`` is that of snapshot ``snapshot_id``; from checkpoint to the
    learner of the variant, which adds the noise. Without a snapshot it begins with its own first policy."""

    window: int
    variant: int
    snapshot_id: str
    params: dict[str, Any]
    weight_noise: float = 0.0
    seed: int = 0
    policy: BlobRef | None = None


class VariantUpdated(Event, frozen=True, kw_only=True):
    """A policy version of a variant exists; from its learner to its pipelines, scheduler and checkpoint.

    Learnt from ``window``; the first one was learnt from nothing, and ``window`` is that of the plateau at
    which it was made. ``params`` are its hyperparameters, which stay as they are: a tuner's proposals are for
    the learner of the topology.
    """

    variant: int
    version: int
    window: int
    policy: BlobRef
    params: dict[str, Any] = {}
    diagnostics: dict[str, float] = {}


class VariantCollected(Event, frozen=True, kw_only=True):
    """A window of training, or a set of complete validation episodes, of a variant; from its pipelines to its
    learner and its evaluator. Fields as in `WindowCollected`."""

    variant: int
    role: Role
    purpose: Purpose
    window: int
    policy_version: int
    evaluate: bool
    data: BlobRef
    steps: int
    total_steps: int
    episodes: int


class VariantScored(Event, frozen=True, kw_only=True):
    """The score of a variant on validation episodes; from its evaluator to scheduler and policy manager.

    ``purpose`` is confirm where the variant's policy may become the best.
    """

    variant: int
    purpose: Purpose
    window: int
    policy_version: int
    score: float
    n: int
    standard_error: float
    std: float
    metrics: dict[str, float] = {}


class VariantEvaluationRequested(Event, frozen=True, kw_only=True):
    """A variant's policy may become the best: score it on fresh episodes; from the scheduler to the
    validation pipeline of the variant."""

    variant: int
    window: int
    policy_version: int


class VariantDismissed(Event, frozen=True, kw_only=True):
    """From here on these ``nodes`` belong to the run no longer; from the scheduler, when all that they were
    asked for is done. The supervisor (or the inline runner) ends them, in order."""

    window: int
    variant: int
    nodes: tuple[str, ...]
    reason: str
