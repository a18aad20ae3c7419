"""Timers of the nodes of one process: set by an event, and fired by another."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from pathlib import Path

import msgspec

from optix_bus.errors import CheckpointError
from optix_bus.messages import Event, TimerFired, TimerSet
from optix_bus.runtime.cuts import FOLDER, write_whole
from optix_bus.runtime.disk_sync import DiskSync


class _Saved(msgspec.Struct):
    """Timers of one node as of a cut. They are beside its state and not in it, because they hold stamps."""

    fired: int
    pending: list[tuple[int, str]]


class Timers:
    """Timers are in the journal: one that was set there and has not fired there is still to come."""

    def __init__(self, nodes: Collection[str]) -> None:
        #: Set, and not yet fired: (stamp at which it is due, node, key).
        self._pending: list[tuple[int, str, str]] = []
        #: Fired, and not yet come back.
        self._firing: list[tuple[int, str, str]] = []
        self._fired = dict.fromkeys(nodes, 0)

    def note(self, event: Event, stamp_ns: int) -> None:
        """Take in an event of the journal."""
        if isinstance(event, TimerSet) and event.node in self._fired:
            self._pending.append((stamp_ns + int(event.seconds * 1e9), event.node, event.key))
            self._pending.sort()
        elif isinstance(event, TimerFired) and event.node in self._fired:
            self._fired[event.node] += 1
            # In `_firing` it is ours; otherwise it was fired in an earlier life of this process.
            for timers in (self._firing, self._pending):
                found = next((timer for timer in timers if timer[1:] == (event.node, event.key)), None)
                if found is not None:
                    timers.remove(found)
                    return

    def due(self) -> list[tuple[str, str, int]]:
        """(node, key, index of the root) of timers to fire now."""
        if not self._pending or self._pending[0][0] > time.time_ns():
            return []
        now, found = time.time_ns(), []
        while self._pending and self._pending[0][0] <= now:
            timer = self._pending.pop(0)
            under_way = sum(other[1] == timer[1] for other in self._firing)
            self._firing.append(timer)
            found.append((timer[1], timer[2], self._fired[timer[1]] + under_way))
        return found

    def save(self, root: Path, cut: int, node: str, disk: DiskSync | None = None) -> None:
        """Write down the timers of a node, where it has ever set one.

        Raises:
            CheckpointError: the disk is full or cannot be written.
        """
        pending = [(due, key) for due, owner, key in (*self._firing, *self._pending) if owner == node]
        if pending or self._fired[node]:
            path = _path(root, cut, node)
            try:
                saved = memoryview(msgspec.json.encode(_Saved(self._fired[node], pending)))
                write_whole(path, [saved], disk)
            except OSError as error:
                raise CheckpointError(f"{path} cannot be written: {error.strerror}") from None

    def load(self, root: Path, cut: int) -> None:
        """Begin with the timers as of a cut.

        Raises:
            CheckpointError: they are damaged.
        """
        for node in self._fired:
            path = _path(root, cut, node)
            with contextlib.suppress(FileNotFoundError):
                try:
                    saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
                except msgspec.DecodeError as error:
                    raise CheckpointError(
                        f"{path} is damaged: {error}; without the folder it is in, the run goes on from an "
                        "older cut"
                    ) from None
                self._fired[node] = saved.fired
                self._pending += [(due, node, key) for due, key in saved.pending]
        self._pending.sort()


def _path(root: Path, cut: int, node: str) -> Path:
    return root / FOLDER / f"{cut:06d}" / f"{node}.timers.json"
