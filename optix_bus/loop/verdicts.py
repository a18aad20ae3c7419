"""What goes into the mind of the loop, and what comes out: evaluations and judgements."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Evaluation:
    """One score of one policy version, with what lies behind it.

    Attributes:
        window: number of the window, from 0.
        policy_version: the policy that was scored.
        hyperparams_version: the hyperparameters that it was learnt with.
        score: higher is better; NaN without evidence.
        n: episodes behind it; 0 where unknown.
        standard_error: of the score; NaN where unknown.
        std: standard deviation of single-episode returns; NaN where unknown.
        steps_total: environment steps of training so far.
        probing: the hyperparameters were a tuner's probe.
        train_score: the training window's own score.
        gap: training minus validation score.
    """

    window: int
    policy_version: int
    hyperparams_version: int = -1
    score: float = math.nan
    n: int = 0
    standard_error: float = math.nan
    std: float = math.nan
    steps_total: int = 0
    probing: bool = False
    train_score: float = math.nan
    gap: float = math.nan

    @classmethod
    def of(cls, scored: Any, steps: int, *, probing: bool = False) -> Evaluation:
        """From anything with the fields of a score, after so many environment steps of training."""
        return cls(
            window=scored.window,
            policy_version=scored.policy_version,
            hyperparams_version=scored.learnt_with,
            score=scored.score,
            n=scored.n,
            standard_error=scored.standard_error,
            std=scored.std,
            steps_total=steps,
            probing=probing,
            train_score=scored.train_score,
            gap=scored.generalization_gap,
        )


@dataclass(frozen=True)
class Judgement:
    """The verdict on one evaluation.

    Attributes:
        verdict: ``improved``, ``not_improved``, ``plateaued`` (it cooled down), ``degraded``, ``dormant`` or
            ``unscored``.
        state, previous_state: of the loop, after and before; values of `LoopState`.
        interval: windows until the next evaluation.
        margin: what an improvement had to exceed.
        smoothed: the score that was compared.
        noise: standard deviation of the latest scores around their trend.
        rollback: restore the best snapshot now.
        candidate: this policy may be the best; with validation it has to be confirmed.
        renewed: the world has changed, and the watched policy holds a new record.
        convergence: the numbers of the last look, see `EquivalenceReport`; empty without one.
        reason: one sentence.
    """

    verdict: str
    state: str
    previous_state: str
    interval: int
    margin: float
    smoothed: float
    noise: float
    rollback: bool = False
    candidate: bool = False
    renewed: bool = False
    convergence: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
