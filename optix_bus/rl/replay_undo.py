"""Taking back what a window did to a replay: learning that fails leaves everything as it was.

Only what the window can change is copied: the places that its transitions will take, the open ends, and where
draws follow priorities, those. A copy of the whole replay would cost more than the learning.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from optix_bus.rl.replay import ReplayBuffer


def undo_of(replay: ReplayBuffer, coming: int) -> Callable[[], None]:
    """Remember a replay before it changes; the function that comes back restores it to the bit.

    Args:
        replay: not resized in between.
        coming: at most so many transitions will be added, beside those that wait for their ends already.
    """
    ring, windows = replay._ring, replay._windows
    open_ends = windows.state()
    waiting = int(open_ends["waiting"].sum()) if open_ends else 0
    places = (ring.position + np.arange(min(coming + waiting, ring.capacity))) % ring.capacity
    rows = {name: column[places] for name, column in ring.columns.items()}
    priorities = None if replay.alpha == 0.0 else ring.columns["priorities"][: len(ring)].copy()
    written, greatest = ring.written, replay._greatest

    def undo() -> None:
        for name, column in ring.columns.items():
            column[places] = rows[name]
        ring.written = written
        if priorities is not None:
            ring.columns["priorities"][: len(priorities)] = priorities
        windows.load_state(open_ends)
        replay._greatest = greatest
        replay._plant()

    return undo
