"""How benchmarks measure: medians with their spread, beside a peer or a raw limit of the same minutes.

A machine that others use is faster in one minute than in the next. So ours and the peer take turns, and a
ratio is taken round by round before its median is.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table as Drawn

#: Exit code of a benchmark that ran and missed a demand; an error is Python's own 1.
MISSED = 3


@dataclass(frozen=True)
class Series:
    """The same quantity, measured several times."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a series holds at least one measurement")

    @classmethod
    def of(cls, values: Iterable[float]) -> Series:
        """From anything that gives numbers."""
        return cls(tuple(values))

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The smallest."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest."""
        return max(self.values)

    def map(self, fn: Callable[[float], float]) -> Series:
        """The same series in another unit."""
        return Series(tuple(fn(value) for value in self.values))

    def over(self, other: Series) -> Series:
        """Ratios, round by round; both sides of a round were measured one after the other."""
        if len(self.values) != len(other.values):
            raise ValueError(f"found {len(self.values)} and {len(other.values)} rounds, expected as many")
        return Series(tuple(a / b for a, b in zip(self.values, other.values, strict=True)))

    def text(self, unit: str = "") -> str:
        """Median, lowest to highest, unit; a series of one has no spread to tell."""
        spread = f" ({number(self.low)}-{number(self.high)})" if len(self.values) > 1 else ""
        return f"{number(self.median)}{spread}{' ' if unit else ''}{unit}"


@dataclass(frozen=True)
class Demand:
    """What the median has to reach: ``Demand(">=", 1.5)``. It speaks of the ratio where there is a peer."""

    sign: str
    limit: float
    unit: str = ""

    def __post_init__(self) -> None:
        if self.sign not in ("<", "<=", ">", ">="):
            raise ValueError(f"found {self.sign!r}, expected <, <=, > or >=")

    def holds(self, value: float) -> bool:
        """Whether a value meets it; NaN does not."""
        if math.isnan(value):
            return False
        strict = value < self.limit if self.sign.startswith("<") else value > self.limit
        return strict or (len(self.sign) == 2 and value == self.limit)

    def __str__(self) -> str:
        return f"{self.sign} {number(self.limit)}{' ' if self.unit else ''}{self.unit}"


@dataclass
class Table:
    """Rows of measurements, printed together; a row with a demand passes or fails by its median.

    ``judged`` is False for runs that are too small to mean anything: their demands are printed, not judged.
    """

    title: str
    judged: bool = True
    rows: list[tuple[str, ...]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add(
        self,
        name: str,
        ours: Series,
        unit: str,
        *,
        beside: str = "",
        peer: Series | None = None,
        ratio: Series | None = None,
        demand: Demand | None = None,
    ) -> None:
        """One row. ``beside`` names the peer; ``ratio`` is how often we are as good as it."""
        verdict = ""
        if demand is not None and self.judged:
            passed = demand.holds((ratio if ratio is not None else ours).median)
            verdict = "PASS" if passed else "FAIL"
            if not passed:
                self.failed.append(name)
        self.rows.append(
            (
                name,
                ours.text(unit),
                f"{beside}: {peer.text(unit)}" if peer is not None else beside,
                f"{ratio.text()} x" if ratio is not None else "",
                str(demand) if demand is not None else "",
                verdict,
            )
        )

    def show(self) -> None:
        """Print all of it."""
        drawn = Drawn(title=self.title, title_justify="left")
        for heading in ("what", "median (lowest-highest)", "beside", "ratio", "demand", ""):
            drawn.add_column(heading, overflow="fold")
        for row in self.rows:
            drawn.add_row(*row)
        Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(drawn)


def interleaved(
    rounds: int, measures: dict[str, Callable[[], float]], *, warm_up: bool = True
) -> dict[str, Series]:
    """Call each function once a round, every other round backwards; what they return, by name."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    if warm_up:
        for measure in measures.values():
            measure()
    for number_of_round in range(rounds):
        names = list(measures)
        for name in names if number_of_round % 2 == 0 else reversed(names):
            found[name].append(measures[name]())
    return {name: Series(tuple(values)) for name, values in found.items()}


def seconds(action: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if not math.isfinite(value):
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def machine() -> str:
    """What the numbers were measured on, in one line."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, load {load:.1f} before the start"
    )


def run(bench: Callable[[bool], Table]) -> None:
    """Entry of a benchmark module. Exit code `MISSED` where a demand is missed."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: show that it works, judge nothing")
    quick = parser.parse_args().quick
    print(machine(), flush=True)
    table = bench(quick)
    table.show()
    sys.exit(MISSED if table.failed else 0)
