"""Variants of policies, and ensembles of them."""

from __future__ import annotations

from typing import Any, Literal

from optix_bus.messages.base import Event
from optix_bus.types import BlobRef

Action = Literal["spawn", "prune", "stop", "no_op"]


class EvolutionDecided(Event, frozen=True, kw_only=True):
    """The policy manager's answer to `Dormant`; to the scheduler, which waits for it.

    With ``spawn`` training goes on from variant ``variant`` with these ``params``, with all others the run
    may end. ``noise_scale`` is how far hyperparameters were moved, ``weight_noise`` how far weights are to
    be, ``seed`` that of the noise. ``made`` says that the agent is the variant already: in Python a callback
    has the agent in hand. ``figures`` are the numbers behind the decision.
    """

    window: int
    action: Action
    reason: str
    variant: int = 0
    noise_scale: float = 0.0
    weight_noise: float = 0.0
    seed: int = 0
    params: dict[str, Any] = {}
    made: bool = False
    figures: dict[str, float] = {}


class EnsembleReweighted(Event, frozen=True, kw_only=True):
    """Weights of the variants from their rolling validation scores, both by number; from the policy manager.

    A variant without a score of its own is not among the ``scores``.
    """

    window: int
    weights: dict[str, float]
    scores: dict[str, float]


class VariantPruned(Event, frozen=True, kw_only=True):
    """A variant is no longer in the ensemble; from the policy manager."""

    window: int
    variant: int
    weight: float
    reason: str


class VariantRequested(Event, frozen=True, kw_only=True):
    """Clone the best snapshot for the learner; from the scheduler to checkpoint, once the window is otherwise
    complete, so that the proposal of a tuner cannot come in between. Fields as in `EvolutionDecided`.
    """

    window: int
    variant: int
    params: dict[str, Any]
    noise_scale: float = 0.0
    weight_noise: float = 0.0
    seed: int = 0
    made: bool = False


class VariantSpawned(Event, frozen=True, kw_only=True):
    """The clone: ``policy`` is that of ``snapshot_id``; from checkpoint to the learner, which goes on from
    it.

    Without a policy the agent is the variant already.
    """

    window: int
    variant: int
    snapshot_id: str
    params: dict[str, Any]
    noise_scale: float = 0.0
    weight_noise: float = 0.0
    seed: int = 0
    policy: BlobRef | None = None


class EvolutionReported(Event, frozen=True, kw_only=True):
    """The policy manager's part of the report at the end of a run; to the scheduler, which waits for it."""

    window: int
    lines: tuple[str, ...] = ()
