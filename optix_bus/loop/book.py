"""The windows under way: what is known of each, and when it is complete."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class OpenWindow:
    """A training window from its command to its completion.

    A window is complete when it was learnt from, its evaluation (if any) is judged, a candidate for the best
    is confirmed, the optimizer has answered and a rollback (if any) is done.
    """

    number: int
    policy_version: int
    evaluate: bool
    steps: int = 0
    policy_after: int | None = None
    hyperparams_after: int | None = None
    score: Any = None
    external: float | None = None
    judgement: Any = None
    confirming: bool = False
    judged: bool = False
    rolling_back: bool = False


@dataclass
class WindowBook:
    """Open windows, oldest first. Only the oldest is ever worked on: verdicts fall in the order of windows,
    whatever the order in which facts arrive."""

    windows: list[OpenWindow] = field(default_factory=list)

    def open(self, window: OpenWindow) -> None:
        """Add the next window."""
        self.windows.append(window)

    def find(self, number: int) -> OpenWindow | None:
        """An open window by its number."""
        return next((window for window in self.windows if window.number == number), None)

    @property
    def oldest(self) -> OpenWindow | None:
        """The window that everything waits for."""
        return self.windows[0] if self.windows else None

    def close(self) -> OpenWindow:
        """The oldest is complete."""
        return self.windows.pop(0)
