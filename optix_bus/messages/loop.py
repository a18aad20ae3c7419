"""What the scheduler makes of scores."""

from __future__ import annotations

from typing import Any

from optix_bus.messages.base import Event


class WindowJudged(Event, frozen=True, kw_only=True):
    """The verdict on one evaluated window; from the scheduler to optimizer, checkpoint and whoever draws.

    ``verdict`` is one of improved, not_improved, plateaued, degraded, dormant, unscored.
    ``convergence`` holds the numbers of the convergence test where it was consulted. ``learnt`` is False
    where the watchdog only evaluated the best policy: then the optimizer has nothing to answer.
    """

    window: int
    policy_version: int
    verdict: str
    state: str
    interval: int
    score: float
    standard_error: float
    smoothed: float
    margin: float
    best_score: float
    best_policy_version: int
    steps: int
    convergence: dict[str, Any] = {}
    learnt: bool = True


class Improved(Event, frozen=True, kw_only=True):
    """A score beat the best by more than the margin; of a watched policy: what it had scored so far."""

    window: int
    policy_version: int
    score: float
    margin: float


class Plateaued(Event, frozen=True, kw_only=True):
    """No improvement for ``plateau_threshold`` evaluations: the loop cools down."""

    window: int
    state: str


class Degraded(Event, frozen=True, kw_only=True):
    """The score stayed clearly below the best for several evaluations."""

    window: int
    policy_version: int
    score: float
    best_score: float


class Dormant(Event, frozen=True, kw_only=True):
    """Training is done: the convergence test has decided."""

    window: int
    reason: str


class LoopStateChanged(Event, frozen=True, kw_only=True):
    """The loop went from one `LoopState` to another."""

    window: int
    old: str
    new: str


class PolicyPromoted(Event, frozen=True, kw_only=True):
    """A policy version is the best known, by fresh episodes where there is validation; from the scheduler to
    checkpoint, which still holds exactly this version.

    ``regime`` counts how often the watchdog has found the world changed: scores of an earlier regime are not
    comparable, and a policy of a later one is better whatever they say.
    """

    policy_version: int
    window: int
    hyperparams_version: int
    score: float
    n: int
    standard_error: float
    metrics: dict[str, float] = {}
    params: dict[str, Any] = {}
    regime: int = 0
