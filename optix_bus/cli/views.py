"""The ways in which `up` draws a run: live in a terminal, plain lines elsewhere, JSON lines, nothing."""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from optix_bus.messages import (
    Event,
    EvolutionDecided,
    LoopStateChanged,
    OptimizerSwitched,
    RunFinished,
    SnapshotSaved,
    VariantAdmitted,
    VariantDismissed,
    VariantPruned,
    WindowJudged,
)
from optix_bus.runtime.progress import Progress, QuietView, View

_COLOURS = {"active": "green", "cooling": "yellow", "dormant": "blue", "watchdog": "magenta"}
_FOR_PROGRAMS = (
    WindowJudged,
    LoopStateChanged,
    OptimizerSwitched,
    SnapshotSaved,
    EvolutionDecided,
    VariantPruned,
    VariantAdmitted,
    VariantDismissed,
    RunFinished,
)
_STATES = {"ready": "green", "starting": "yellow", "lost": "red", "ended": "dim"}


class PlainView(QuietView):
    """One line for each evaluated window and for each change of state: for logs and pipes."""

    def phase(self, text: str) -> None:
        """A line on what the supervisor does."""
        print(text, flush=True)

    def event(self, event: Event, progress: Progress) -> None:
        """A line for what a person wants to know."""
        if isinstance(event, WindowJudged):
            print(judged_line(event, progress), flush=True)
        elif isinstance(event, LoopStateChanged):
            print(f"state {event.old.upper()} -> {event.new.upper()} at window {event.window}", flush=True)
        elif isinstance(event, EvolutionDecided):
            noise = f" (variant {event.variant}, noise {event.noise_scale:.3g})" * (event.action == "spawn")
            print(f"evolution: {event.action}{noise} at window {event.window}: {event.reason}", flush=True)
        elif isinstance(event, VariantPruned):
            print(f"evolution: variant {event.variant} is pruned: {event.reason}", flush=True)
        elif isinstance(event, OptimizerSwitched):
            print(switched_line(event), flush=True)


class JsonView(QuietView):
    """One JSON object a line: type and fields of the events that matter to a program."""

    def event(self, event: Event, progress: Progress) -> None:
        """The event as JSON; numbers that are not finite become null."""
        if isinstance(event, _FOR_PROGRAMS):
            print(json.dumps({"event": type(event).__name__, **plain(event)}), flush=True)


class LiveView(QuietView):
    """A panel that is redrawn in place. The only thing that draws while it lives."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._started = time.monotonic()
        self._live = Live(console=Console(file=sys.stdout), refresh_per_second=8, transient=True)
        self._live.start()

    def phase(self, text: str) -> None:
        """A line above the panel."""
        self._live.console.print(Text(text, style="dim"))

    def tick(self, progress: Progress, nodes: dict[str, str]) -> None:
        """Redraw."""
        self._live.update(self._draw(progress, nodes))

    def close(self) -> None:
        """Take the panel away and give the cursor back."""
        self._live.stop()

    def _draw(self, progress: Progress, nodes: dict[str, str]) -> Group:
        numbers = Table.grid(padding=(0, 2))
        numbers.add_column(style="dim")
        numbers.add_column()
        state = Text(progress.state.upper(), style=_COLOURS.get(progress.state, ""))
        numbers.add_row("state", state)
        numbers.add_row("score", interval(progress.score, progress.half_interval))
        earned = f"  (policy {progress.best_version})" if progress.best_version >= 0 else ""
        numbers.add_row("best", number(progress.best) + earned)
        numbers.add_row(
            "windows", f"{progress.window + 1}  ({progress.evaluations} evaluated, every {progress.interval})"
        )
        numbers.add_row("steps", f"{progress.steps:,}  ({progress.steps_per_second:,.0f}/s)")
        if progress.tuner:
            numbers.add_row("tuner", progress.tuner)
        numbers.add_row("convergence", convergence_text(progress.convergence))
        numbers.add_row("elapsed", f"{time.monotonic() - self._started:.0f} s")
        line = Text("nodes  ", style="dim")
        for name, state_of in nodes.items():
            line.append(f"{name} ", style=_STATES.get(state_of, ""))
        return Group(Text(f"{self._title}", style="bold"), numbers, line)


def choose_view(title: str, *, quiet: bool, as_json: bool) -> View:
    """The view for this terminal and these options."""
    if as_json:
        return JsonView()
    if quiet:
        return QuietView()
    return LiveView(title) if sys.stdout.isatty() else PlainView()


def judged_line(event: WindowJudged, progress: Progress) -> str:
    """One evaluated window in one line."""
    score = interval(event.score, 1.96 * event.standard_error)
    line = (
        f"window {event.window:4d}  {event.state.upper():8s} score {score:>16s}"
        f"  best {number(event.best_score):>8s}  every {event.interval:<3d}"
        f" {event.steps:>9,} steps {progress.steps_per_second:>8,.0f}/s"
        f"  {event.verdict}"
    )
    convergence = convergence_text(event.convergence)
    return f"{line}  {convergence}" if convergence else line


def switched_line(event: OptimizerSwitched) -> str:
    """A change of the tuner in one line."""
    return f"tuning {event.old} -> {event.new} after window {event.window}: {event.reason}"


def convergence_text(report: dict[str, Any]) -> str:
    """What the convergence test says so far, in a few words."""
    if not report or report.get("bound") is None:
        return ""
    return (
        f"[change < {report['bound']:.3g} of {report['margin']:.3g} allowed, r {report.get('r', 0.0):.2f}, "
        f"{report.get('looks', 0)} looks passed, {report.get('looks_needed', 0)} needed]"
    )


def interval(value: float, half: float) -> str:
    """A score with its 95 % interval."""
    return number(value) + ("" if math.isnan(half) else f" ± {half:.1f}")


def number(value: float) -> str:
    """A score, or a dash where there is none."""
    return "—" if math.isnan(value) else f"{value:.2f}"


def plain(event: Any) -> dict[str, Any]:
    """The fields of an event as JSON-able values."""

    def clean(value: Any) -> Any:
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        return [clean(item) for item in value] if isinstance(value, list) else value

    fields: dict[str, Any] = clean(msgspec.to_builtins(event))
    return fields
