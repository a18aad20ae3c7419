"""Returns of complete episodes, by walking through the rows one at a time."""

from __future__ import annotations

from typing import Any


def returns_of_rows(rewards: Any, ends: Any, valid: Any, starts: Any) -> list[float]:
    """Environment by environment; an episode counts only if its first row was seen in the window."""
    found: list[float] = []
    for row in range(len(rewards[0])):
        total: float | None = None
        after_end = False
        for step in range(len(rewards)):
            if not valid[step][row]:
                continue
            if starts[step][row] or after_end:
                total = 0.0
            after_end = False
            if total is not None:
                total += float(rewards[step][row])
            if ends[step][row]:
                if total is not None:
                    found.append(total)
                total, after_end = None, True
    return found
