"""The watchdog's mind: the policy stays as it is, so what changes in its scores is the world."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Change = Literal["degraded", "improved", ""]


@dataclass(frozen=True)
class Sample:
    """One score of the watched policy: mean of ``n`` episodes (0: unknown) with what is known of its spread
    (NaN: unknown)."""

    score: float
    n: int
    standard_error: float
    std: float


class Watchdog:
    """Says when a policy that nobody trains scores otherwise than before, for good.

    What it scored while it was being chosen is no measure: the highest of many scores flatters. So the first
    evaluations say what is expected, and all that are as expected make that more exact. Better counts as well
    as worse: a record that can be beaten by standing still measures no learning any more.

    Args:
        patience: scores running that must lie on the same side; as many say at first what is expected.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._expected: list[float] = [0.0, 0.0, 0.0]  # scores, sum of their weights, sum of weighted scores
        self._run: list[Sample] = []
        self._side = 0
        self.watched = 0
        self.woken = 0

    def start(self) -> None:
        """It begins to watch a policy; what it saw before does not count."""
        self._expected, self._run, self._side = [0.0, 0.0, 0.0], [], 0

    @property
    def level(self) -> float:
        """What is expected: the mean of all that was; NaN before the first."""
        _, weights, total = self._expected
        return total / weights if weights else math.nan

    def see(self, sample: Sample, distance: Callable[[float], float]) -> Change:
        """Take in one score; how the world has changed for good, or nothing.

        Args:
            sample: the score; one that is not finite says nothing.
            distance: how far from a level a score has to lie to be unexpected.
        """
        self.watched += 1
        if not math.isfinite(sample.score):
            return ""
        side = 0
        if self._expected[0] >= self._patience:
            off = sample.score - self.level
            side = 0 if abs(off) <= distance(self.level) else (1 if off > 0.0 else -1)
        if side != self._side:
            self._run, self._side = [], side
        if not side:
            weight = float(sample.n or 1)
            scores, weights, total = self._expected
            self._expected = [scores + 1.0, weights + weight, total + weight * sample.score]
            return ""
        self._run.append(sample)
        if len(self._run) < self._patience:
            return ""
        self.woken += 1
        return "improved" if side > 0 else "degraded"

    @property
    def run(self) -> Sequence[Sample]:
        """The latest scores that lie on the same side of what is expected, oldest first."""
        return self._run

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on; unknown numbers are None."""
        rows = [[s.score, s.n, s.standard_error, s.std] for s in self._run]
        return {
            "expected": list(self._expected),
            "run": [[value if math.isfinite(value) else None for value in row] for row in rows],
            "side": self._side,
            "watched": self.watched,
            "woken": self.woken,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self._expected = [float(value) for value in state["expected"]]
        rows = [[math.nan if value is None else value for value in row] for row in state["run"]]
        self._run = [Sample(score, int(n), error, std) for score, n, error, std in rows]
        self._side = int(state["side"])
        self.watched, self.woken = int(state["watched"]), int(state["woken"])


def pooled(samples: Sequence[Sample]) -> Sample:
    """All episodes of some scores as one score; where a number of episodes is unknown, scores weigh alike."""
    known = all(sample.n > 0 for sample in samples)
    weights = [float(sample.n) if known else 1.0 for sample in samples]
    total = sum(weights)
    mean = sum(w * s.score for w, s in zip(weights, samples, strict=True)) / total
    error = math.sqrt(sum((w * s.standard_error) ** 2 for w, s in zip(weights, samples, strict=True))) / total
    return Sample(mean, int(total) if known else 0, error, math.nan)
