"""When the next cut is due, so that no restart has to repeat too much and no blob is kept for too long."""

from __future__ import annotations

from typing import Any


class CutPlan:
    """Counts complete windows, and the bytes that each node has announced for them.

    Bytes count when their window is complete, not when they arrive, so that the order in which independent
    nodes reach the hub changes nothing.

    Args:
        windows: complete windows from one cut to the next; 0 means never.
        limit: bytes of one node at which a cut comes earlier.
    """

    def __init__(self, windows: int = 0, limit: int = 0) -> None:
        self._windows = windows
        self._limit = limit
        self._last = 0
        self._closed = 0
        self._open: dict[int, dict[str, int]] = {}
        self._since: dict[str, int] = {}

    def announced(self, window: int, owner: str, size: int) -> None:
        """A node has announced a blob of ``size`` bytes that belongs to this window."""
        if self._windows:
            sizes = self._open.setdefault(window, {})
            sizes[owner] = sizes.get(owner, 0) + size

    def close(self, window: int) -> int:
        """Note that a window is complete; the number of the cut that is due now, from 1 on, or 0."""
        if not self._windows:
            return 0
        self._closed += 1
        for number in [number for number in self._open if number <= window]:
            for owner, size in self._open.pop(number).items():
                self._since[owner] = self._since.get(owner, 0) + size
        if self._closed < self._windows and max(self._since.values(), default=0) <= self._limit:
            return 0
        self._last += 1
        self._closed = 0
        self._since = {}
        return self._last

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on. No setting is among them."""
        return {
            "last": self._last,
            "closed": self._closed,
            "open": {window: dict(sizes) for window, sizes in self._open.items()},
            "since": dict(self._since),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`; keys may have become texts."""
        self._last, self._closed = int(state["last"]), int(state["closed"])
        self._open = {int(window): dict(sizes) for window, sizes in state["open"].items()}
        self._since = dict(state["since"])
