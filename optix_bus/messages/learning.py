"""Learning, policies and hyperparameters."""

from __future__ import annotations

from typing import Any, Literal

from optix_bus.messages.base import Event
from optix_bus.types import BlobRef

Origin = Literal["initial", "learned", "rolled_back", "restored", "variant"]


class AgentDescribed(Event, frozen=True, kw_only=True):
    """What the loop may know of an agent; from the learner, once, to scheduler and optimizer."""

    is_on_policy: bool
    min_episodes_before_dormant: int
    param_bounds: dict[str, tuple[float, float]] = {}
    log_params: tuple[str, ...] = ()


class PolicyUpdated(Event, frozen=True, kw_only=True):
    """A policy version exists; from the learner to pipelines, evaluator, scheduler and checkpoint.

    Versions count up from 0 (``origin`` initial). ``window`` is the window it was learnt from (-1 for none)
    and ``hyperparams_version`` what it was learnt with. ``policy`` holds the agent's state. ``origin`` says
    what it comes of: ``rolled_back`` and, at the end of a run, ``restored`` are the best snapshot,
    ``variant`` is a clone of that with noise.
    """

    version: int
    window: int
    hyperparams_version: int
    origin: Origin
    policy: BlobRef
    diagnostics: dict[str, float] = {}


class ExternallyScored(Event, frozen=True, kw_only=True):
    """The user's own scorer has judged a policy; from the learner to the scheduler, before it learns on."""

    window: int
    policy_version: int
    score: float


class HyperparametersProposed(Event, frozen=True, kw_only=True):
    """The optimizer's answer to an evaluated window; to the learner. ``changed`` is False where it leaves
    everything as it is; it answers all the same, because the scheduler acts on complete sets."""

    window: int
    params: dict[str, Any]
    changed: bool
    probing: bool = False
    method: str = ""


class HyperparametersChanged(Event, frozen=True, kw_only=True):
    """The learner's answer to a proposal (and, with version 0, its first set).

    ``version`` grows only where ``changed``. From the learner to scheduler, optimizer, pipelines.
    """

    version: int
    window: int
    params: dict[str, Any]
    changed: bool
    probing: bool = False


class OptimizerSwitched(Event, frozen=True, kw_only=True):
    """An optimizer that chooses among others has chosen another one; to scheduler and whoever draws.

    From the optimizer, after the evaluation of ``window``. ``autocorrelation`` is lag-1, of the residuals of
    the scores; ``gap`` how far the newest scores lie below the best one, as a share of it; ``rank`` the share
    of scores that lie below the newest ones; ``reason`` the decision in words.
    """

    window: int
    old: str
    new: str
    autocorrelation: float
    gap: float
    rank: float
    reason: str = ""
