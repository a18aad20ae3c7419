"""Worlds of which the optimum is known, as a tuner sees them, and the tuners that are tried there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from optix_bus.interfaces import BaseOptimizer
from optix_bus.optimizers import (
    AdaptiveOptimizer,
    BackoffOptimizer,
    MomentumOptimizer,
    PBTOptimizer,
    SPSAOptimizer,
)
from optix_bus.types import EvalMetrics, HyperparamSet

Objective = Callable[[np.ndarray], float]

#: What `optimizer:` of a topology calls them.
TUNERS: dict[str, type[Any]] = {
    "spsa": SPSAOptimizer,
    "momentum": MomentumOptimizer,
    "backoff": BackoffOptimizer,
    "pbt": PBTOptimizer,
    "adaptive": AdaptiveOptimizer,
}


class Loop:
    """The loop as a tuner sees it: what it proposes after window w makes the policy that is scored ``delay``
    windows later, and the score carries the version of what made it."""

    def __init__(
        self, objective: Objective, start: list[float], *, noise: float = 0.0, seed: int = 0
    ) -> None:
        self.objective, self.noise = objective, noise
        self.rng = np.random.default_rng([99, seed])
        self.params = HyperparamSet({f"p{i}": value for i, value in enumerate(start)})
        self.version = 0
        self.made_by: list[tuple[np.ndarray, int]] = []
        self.history: list[EvalMetrics] = []
        self.seen: list[dict[str, Any]] = []
        self.lost: frozenset[int] = frozenset()

    def run(self, tuner: BaseOptimizer, windows: int, delay: int, *, integrate: bool = False) -> None:
        level = 0.0
        for _ in range(windows):
            self.made_by.append((np.array(list(self.params.params.values())), self.version))
            point, version = self.made_by[max(len(self.made_by) - 1 - delay, 0)]
            effect = self.objective(point)
            level = level + effect if integrate else effect
            if len(self.made_by) in self.lost:
                continue  # no episode ended: nobody is asked for a suggestion
            score = level + self.noise * float(self.rng.normal())
            self.history.append(
                EvalMetrics(score, {"hyperparams_version": float(version)}, len(self.made_by))
            )
            proposed = tuner.suggest(self.params, self.history)
            self.version += proposed.params != self.params.params
            self.params = proposed
            self.seen.append(dict(proposed.params))


def tuner(method: str, dimensions: int = 1, seed: int = 0, **options: Any) -> Any:
    """One of the five, for parameters p0, p1 ... in [0, 1]."""
    return TUNERS[method]({f"p{i}": (0.0, 1.0) for i in range(dimensions)}, seed=seed, **options)


def centre(found: Any) -> np.ndarray:
    """``[d]`` what it holds for the best."""
    return np.array(list(found.centre.values()))
