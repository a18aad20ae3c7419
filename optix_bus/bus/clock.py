"""The only place that asks the machine what time it is."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for stamps, monotonic time for deadlines."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let time pass; returns at once for a duration that is not positive."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch; may jump when the machine's clock is set."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds since some start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(max(seconds, 0.0))


class ManualClock:
    """A clock that only moves when it is told to; for tests and replays."""

    def __init__(self, now_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns = now_ns
        self._monotonic = 0.0

    def now_ns(self) -> int:
        """The time that was set."""
        return self._now_ns

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self._now_ns += round(seconds * 1e9)
        self._monotonic += seconds

    def sleep(self, seconds: float) -> None:
        """Be there at once."""
        self.advance(max(seconds, 0.0))

    def set_wall(self, now_ns: int) -> None:
        """Set the wall clock alone, as an administrator would; it may go back."""
        self._now_ns = now_ns
