"""The ways in which `tune` draws a search: a live table in a terminal, a line a trial elsewhere, nothing."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from optix_bus.trials.crew import TuneView
from optix_bus.trials.study import Row
from optix_bus.trials.tune_plan import TunePlan

_COLOURS = {"running": "yellow", "complete": "green", "pruned": "dim", "failed": "red"}
_SHOWN = 12


class QuietTuneView:
    """Draws nothing."""

    def rows(self, rows: list[Row], plan: TunePlan) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing to close."""


class PlainTuneView(QuietTuneView):
    """One line for each trial that has ended: for logs and pipes."""

    def __init__(self) -> None:
        self._said: set[int] = set()

    def rows(self, rows: list[Row], plan: TunePlan) -> None:
        """A line for those that have ended since."""
        for row in rows:
            if row.state != "running" and row.number not in self._said:
                self._said.add(row.number)
                print(trial_line(row), flush=True)

    def say(self, text: str) -> None:
        """A line."""
        print(text, flush=True)


class LiveTuneView(QuietTuneView):
    """A table that is redrawn in place: what runs, and the best so far."""

    def __init__(self, run: Path) -> None:
        self._run, self._started = run, time.monotonic()
        self._live = Live(console=Console(file=sys.stdout), refresh_per_second=4, transient=True)
        self._live.start()

    def rows(self, rows: list[Row], plan: TunePlan) -> None:
        """Redraw."""
        self._live.update(self._draw(rows, plan))

    def say(self, text: str) -> None:
        """A line above the table."""
        self._live.console.print(Text(text, style="yellow"))

    def close(self) -> None:
        """Take the table away and give the cursor back."""
        self._live.stop()

    def _draw(self, rows: list[Row], plan: TunePlan) -> Group:
        table = Table("trial", "state", "score", "steps", "settings", box=None, header_style="dim")
        chosen = sorted(_ranked(rows)[: _SHOWN // 2] + [r for r in rows if r.state == "running"], key=_number)
        for row in chosen:
            state = Text(row.state, style=_COLOURS.get(row.state, ""))
            steps = f"{row.steps:,} / {plan.steps:,}" if row.state == "running" else f"{row.steps:,}"
            table.add_row(str(row.number), state, _score(row.score), steps, settings_text(row.params))
        head = f"{plan.name}  {self._run}  {time.monotonic() - self._started:.0f} s"
        return Group(Text(head, style="bold"), Text(summary(rows, plan)), table)


def choose_tune_view(run: Path, *, quiet: bool) -> TuneView:
    """The view for this terminal and these options."""
    if quiet:
        return QuietTuneView()
    return LiveTuneView(run) if sys.stdout.isatty() else PlainTuneView()


def trial_line(row: Row) -> str:
    """One trial that has ended."""
    why = f"  ({row.reason})" if row.reason else ""
    score = "" if row.state == "failed" else _score(row.score)
    return (
        f"trial {row.number:4d}  {row.state:8s} {score:>10s} {row.steps:>11,} steps  "
        f"{settings_text(row.params)}{why}"
    )


def summary(rows: Sequence[Row], plan: TunePlan) -> str:
    """How far the search has come."""
    counts = {state: sum(row.state == state for row in rows) for state in _COLOURS}
    done = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    best = _ranked(rows)[:1]
    record = f"; best {_score(best[0].score)} (trial {best[0].number})" if best else ""
    return f"{len(rows)} of {plan.trials} trials: {done or 'none yet'}{record}"


def table_lines(rows: Sequence[Row], plan: TunePlan) -> list[str]:
    """The result as text: the best trials, and what pruning has saved."""
    lines = [f"{'trial':>6}  {'score':>10}  {'steps':>10}  settings"]
    for row in _ranked(rows)[:_SHOWN]:
        settings = settings_text(row.params)
        lines.append(f"{row.number:>6}  {_score(row.score):>10}  {row.steps:>10,}  {settings}")
    used = sum(row.steps for row in rows)
    full = plan.steps * sum(row.state in ("complete", "pruned") for row in rows)
    pruned = sum(row.state == "pruned" for row in rows)
    failed = [row for row in rows if row.state == "failed"]
    if pruned:
        lines.append(f"{pruned} trials were ended early: {used:,} steps instead of {full:,}")
    lines += [f"trial {row.number} failed: {row.reason}" for row in failed]
    return lines


def settings_text(params: Mapping[str, Any]) -> str:
    """Settings by the last part of their names, shortly."""
    return " ".join(f"{name.rpartition('.')[2]}={_value(value)}" for name, value in params.items())


def _ranked(rows: Sequence[Row]) -> list[Row]:
    complete = [row for row in rows if row.state == "complete" and math.isfinite(row.score)]
    return sorted(complete, key=lambda row: (-row.score, row.number))


def _number(row: Row) -> int:
    return row.number


def _score(value: float) -> str:
    return "—" if math.isnan(value) else f"{value:.2f}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
