"""Reading missing events straight from the hub's journal on the same host."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from optix_bus.bus import wire
from optix_bus.bus.journal_reader import JournalCursor
from optix_bus.bus.record import Record

_AT_ONCE = 1000


class JournalFollower:
    """A cursor that learns from beacons where to begin, so that catching up never searches from the start.

    ``near`` is a first place to know: an event, and where it is.
    """

    def __init__(self, near: tuple[int, tuple[int, int]] | None = None) -> None:
        self._directory: Path | None = None
        self._cursor: JournalCursor | None = None
        #: (event, its place): the newest place behind what was read, and the newest of all.
        self._behind: tuple[int, tuple[int, int]] | None = near
        self._newest: tuple[int, tuple[int, int]] | None = None

    def learn_directory(self, directory: str | None) -> None:
        """Where the hub says that its journal is; only a directory that exists here counts."""
        self._directory = Path(directory) if directory is not None and Path(directory).is_dir() else None

    @property
    def can_read(self) -> bool:
        """Whether there is a journal on this host."""
        return self._directory is not None

    def learn_place(self, beacon: wire.Beacon, seq: int) -> None:
        """Note where the journal ended when the beacon was sent; ``seq`` is the last event that was read."""
        if self._newest is not None and self._newest[0] <= seq + 1:
            self._behind = self._newest
        self._newest = (beacon.head + 1, (beacon.journal.segment, beacon.journal.offset))

    @property
    def seq(self) -> int:
        """The event behind what was read or passed; the same as before where nothing was visible."""
        return self._cursor.seq if self._cursor is not None else 0

    def read(self, first: int, up_to: int, types: Collection[str] | None = None) -> list[Record]:
        """Some of the events from ``first`` to ``up_to``; those of other types than ``types`` are passed."""
        assert self._directory is not None
        cursor = self._cursor
        if cursor is not None and cursor.seq <= first:
            found = cursor.glance(first, up_to, types)
            if cursor.seq > first:
                return found
        place = self._behind[1] if self._behind is not None and self._behind[0] <= first else None
        if cursor is None:
            cursor = self._cursor = JournalCursor(self._directory, first, place)
        else:
            cursor.move(first, place)
        return cursor.read(_AT_ONCE, up_to=up_to, types=types)

    def close(self) -> None:
        """Close the file."""
        if self._cursor is not None:
            self._cursor.close()
