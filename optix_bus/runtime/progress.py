"""What a person sees of a run: one model, several ways to draw it."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from optix_bus.messages import (
    Event,
    HyperparametersChanged,
    LoopStateChanged,
    OptimizerSwitched,
    RunFinished,
    SnapshotSaved,
    WindowCollected,
    WindowJudged,
)


class View(Protocol):
    """Draws a run. Called by the supervisor, in its thread."""

    def phase(self, text: str) -> None:
        """What the supervisor is doing: starting, running, stopping."""
        ...

    def event(self, event: Event, progress: Progress) -> None:
        """An event of the run; ``progress`` already knows it."""
        ...

    def tick(self, progress: Progress, nodes: dict[str, str]) -> None:
        """A few times a second: state of each process by name."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...


class QuietView:
    """Draws nothing."""

    def phase(self, text: str) -> None:
        """Say nothing."""

    def event(self, event: Event, progress: Progress) -> None:
        """Say nothing."""

    def tick(self, progress: Progress, nodes: dict[str, str]) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class Progress:
    """The numbers behind every view, folded from the events of a run."""

    state: str = "starting"
    window: int = -1
    steps: int = 0
    evaluations: int = 0
    score: float = math.nan
    standard_error: float = math.nan
    best: float = math.nan
    best_version: int = -1
    interval: int = 1
    verdict: str = ""
    convergence: dict[str, float] = field(default_factory=dict)
    snapshots: int = 0
    hyperparams_version: int = 0
    tuner: str = ""
    finished: RunFinished | None = None
    _rate: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=32))

    def fold(self, event: Event, clock: float | None = None) -> None:
        """Take one event in; ``clock`` is a monotonic time in seconds, for the rate."""
        if isinstance(event, WindowCollected) and event.purpose == "train":
            self.window, self.steps = event.window, event.total_steps
            self._rate.append((time.monotonic() if clock is None else clock, event.total_steps))
            if self.state == "starting":
                self.state = "active"
        elif isinstance(event, WindowJudged):
            self.evaluations += 1
            self.score, self.standard_error = event.score, event.standard_error
            self.best, self.best_version = event.best_score, event.best_policy_version
            self.interval, self.verdict, self.state = event.interval, event.verdict, event.state
            self.convergence = event.convergence
        elif isinstance(event, LoopStateChanged):
            self.state = event.new
        elif isinstance(event, SnapshotSaved):
            self.snapshots += 1
        elif isinstance(event, HyperparametersChanged):
            self.hyperparams_version = event.version
        elif isinstance(event, OptimizerSwitched):
            self.tuner = event.new
        elif isinstance(event, RunFinished):
            self.finished = event

    @property
    def steps_per_second(self) -> float:
        """Over the last windows; 0 before the second."""
        if len(self._rate) < 2:
            return 0.0
        (before, few), (now, many) = self._rate[0], self._rate[-1]
        return (many - few) / max(now - before, 1e-9)

    @property
    def half_interval(self) -> float:
        """Half the width of the score's 95 % interval."""
        return 1.96 * self.standard_error
