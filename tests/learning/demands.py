"""What the scores of several seeds have to reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from optix_bus.stats import interquartile_mean


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
            limit = float(interquartile_mean(others))
        if self.of == "IQM":
            return self._reaches(float(interquartile_mean(scores)), limit)
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
