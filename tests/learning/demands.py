"""What the scores of several seeds have to reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 20_000


def interquartile_mean(scores: Sequence[float]) -> float:
    """Mean of the middle half, of five the middle three: Agarwal et al. 2021, https://arxiv.org/abs/2108.13264."""
    ordered = sorted(scores)
    cut = len(ordered) // 4
    return float(np.mean(ordered[cut : len(ordered) - cut]))


def interval(scores: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of the interquartile mean over seeds, by percentiles, as in the same paper.

    That paper draws within each environment as a stratum; a gate is one environment, so one stratum.
    """
    drawn = np.random.default_rng(0).choice(np.asarray(scores, float), (_RESAMPLES, len(scores)))
    drawn.sort(axis=1)
    cut = len(scores) // 4
    means = drawn[:, cut : len(scores) - cut].mean(axis=1)
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


@dataclass(frozen=True)
class Demand:
    """``IQM >= 475``, ``every seed >= 475``, ``4 of 5 seeds >= -115``; or against another gate's scores.

    Attributes:
        of: ``IQM``, or the share of the seeds that have to reach the limit, 1 for every seed.
        sign: ``>=`` or ``<=``.
        limit: a score, or the name of the gate whose interquartile mean it is.
    """

    of: str | float
    sign: str
    limit: float | str

    def __post_init__(self) -> None:
        if self.sign not in (">=", "<="):
            raise ValueError(f"found {self.sign!r}, expected >= or <=")
        if self.of != "IQM" and not (isinstance(self.of, float) and 0.0 < self.of <= 1.0):
            raise ValueError(f"found {self.of!r}, expected 'IQM' or a share of the seeds above 0, up to 1")

    @property
    def rests_on(self) -> str | None:
        """The gate whose scores are the limit."""
        return self.limit if isinstance(self.limit, str) else None

    def holds(self, scores: Sequence[float], others: Sequence[float] | None = None) -> bool:
        """Whether scores of seeds meet it; NaN does not. ``others`` are those of `rests_on`."""
        if not scores or not all(math.isfinite(score) for score in scores):
            return False
        limit = self.limit
        if isinstance(limit, str):
            if not others:
                return False
            limit = interquartile_mean(others)
        if self.of == "IQM":
            return self._reaches(interquartile_mean(scores), limit)
        assert isinstance(self.of, float)
        reached = sum(self._reaches(score, limit) for score in scores)
        return reached >= math.ceil(self.of * len(scores) - 1e-9)

    def _reaches(self, score: float, limit: float) -> bool:
        return score >= limit if self.sign == ">=" else score <= limit

    def __str__(self) -> str:
        if self.of == "IQM":
            who = "IQM"
        else:
            assert isinstance(self.of, float)
            who = "every seed" if self.of == 1.0 else f"{round(5 * self.of)} of 5 seeds"
        limit = f"IQM of `{self.limit}`" if isinstance(self.limit, str) else f"{self.limit:g}"
        return f"{who} {self.sign} {limit}"
