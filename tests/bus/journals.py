"""Journals as a hub would have written them, from the identities of their events."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import Ledger
from optix_bus.bus.record import Record, encode_record
from tests.bus.harness import body

#: A node, the event that it was handling, and the count of what that handler (or, for 0, the node) emitted.
Identity = tuple[str, int, int]


def ticks(count: int, node: str = "a") -> list[Identity]:
    """Roots of one node."""
    return [(node, 0, index) for index in range(count)]


def written(
    folder: Path, identities: Iterable[Identity], *, segment_events: int = 0, run: str = "run"
) -> Path:
    """A journal with these events, numbered from 1 and stamped with a thousand times their number; a new
    segment begins after every ``segment_events``."""
    ledger = Ledger()
    writer = JournalWriter(folder, ledger, run=run)
    for seq, (node, cause, index) in enumerate(identities, start=1):
        record = Record(seq, 1000 * seq, node, 1, cause, index, "Tick", body(n=seq))
        ledger.note_record(record)
        entry = writer.encode(record.type, seq, record.stamp_ns, encode_record(record))
        assert writer.append([entry], [record.type], [record.stamp_ns]) == 1
        if segment_events and seq % segment_events == 0:
            assert writer.rotate()
    writer.close()
    return folder


def place_of(folder: Path, seq: int) -> tuple[int, int]:
    """(segment, offset) at which an event begins: where a cursor stands that has read up to it."""
    from optix_bus.bus.journal_reader import JournalCursor

    cursor = JournalCursor(folder)
    try:
        while cursor.seq < seq:
            cursor.read(limit=1)
        return cursor._segment, cursor._offset
    finally:
        cursor.close()
