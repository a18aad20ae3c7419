"""The price of a decision: two branches of a run, repeated with common chance, and their difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from optix_bus.messages import RunFinished
from optix_bus.stats import t_quantile


@dataclass(frozen=True)
class Pair:
    """One future of both branches: the same past, the same random streams, other settings."""

    branch: int
    same: RunFinished
    changed: RunFinished


@dataclass(frozen=True)
class Difference:
    """Changed minus same, over all pairs.

    Attributes:
        quantity: what is compared.
        same, changed: means of the branches.
        mean: of the paired differences.
        half_width: of the 95 % interval of that mean (Student's t on the differences); infinite for one pair.
    """

    quantity: str
    same: float
    changed: float
    mean: float
    half_width: float

    @property
    def decided(self) -> bool:
        """Whether the interval excludes zero."""
        return abs(self.mean) > self.half_width


def differences(pairs: Sequence[Pair]) -> list[Difference]:
    """Best score, windows and steps of the two branches. Pairs without a score are left out of its row."""
    return [
        _difference("best score", [(p.same.best_score, p.changed.best_score) for p in pairs]),
        _difference("windows", [(float(p.same.windows), float(p.changed.windows)) for p in pairs]),
        _difference("steps", [(float(p.same.steps), float(p.changed.steps)) for p in pairs]),
    ]


def _difference(quantity: str, values: Sequence[tuple[float, float]]) -> Difference:
    known = [(a, b) for a, b in values if math.isfinite(a) and math.isfinite(b)]
    if not known:
        return Difference(quantity, math.nan, math.nan, math.nan, math.inf)
    apart = [b - a for a, b in known]
    half = math.inf
    if len(apart) > 1:
        half = t_quantile(0.975, len(apart) - 1.0) * stdev(apart) / math.sqrt(len(apart))
    return Difference(quantity, fmean(a for a, _ in known), fmean(b for _, b in known), fmean(apart), half)


def table_lines(pairs: Sequence[Pair]) -> list[str]:
    """The pairs and what follows from them, as text."""
    lines = [f"{'future':>6}  {'same':>12}  {'changed':>12}  {'difference':>12}   windows"]
    for pair in pairs:
        same, changed = pair.same.best_score, pair.changed.best_score
        lines.append(
            f"{pair.branch:>6}  {_cell(same)}  {_cell(changed)}  {_cell(changed - same, '+')}   "
            f"{pair.same.windows} / {pair.changed.windows}"
        )
    lines += [f"{row.quantity}: {_in_words(row)}" for row in differences(pairs)]
    return lines


def _cell(value: float, sign: str = "") -> str:
    return f"{value:>{sign}12.3f}" if math.isfinite(value) else f"{'none':>12}"


def _in_words(row: Difference) -> str:
    if not math.isfinite(row.mean):
        return "no future has one in both branches"
    means = f"{row.changed:.2f} instead of {row.same:.2f}"
    if not math.isfinite(row.half_width):
        return f"{means}; difference {row.mean:+.2f}; one pair has no interval"
    if row.mean == row.half_width == 0.0:
        return f"{means}; no difference in any future"
    verdict = "" if row.decided else "; these futures do not tell the branches apart"
    return f"{means}; difference {row.mean:+.2f} ± {row.half_width:.2f} (95 %){verdict}"
