"""A journal up to an event, copied: the past that two futures share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from optix_bus.bus.journal_files import segments
from optix_bus.bus.journal_reader import read_journal
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import Ledger
from optix_bus.bus.record import Record, encode_record
from optix_bus.errors import JournalError

_BATCH = 512


def copy_past(
    source: Path,
    target: Path,
    run: str,
    up_to: int,
    *,
    kept: Callable[[Record], None] | None = None,
    dropped: Callable[[Record], None] | None = None,
) -> int:
    """Write events 1 to ``up_to`` of a journal into a new one; returns its last sequence number.

    An event that was caused by one of these but lies behind ``up_to`` belongs to the same past: whoever
    emitted it will not do so again. Those follow, renumbered and with their own stamps.

    Args:
        source: an existing journal.
        target: an empty folder, or none yet.
        run: name of the run that goes on with the copy.
        up_to: the last event that is copied as it is.
        kept: called with every record of the copy, as it is there.
        dropped: called with every record that is left out.

    Raises:
        JournalError: the source is damaged, does not reach ``up_to``, or the disk is full; or there is a
            journal in the target.
    """
    if segments(target):
        raise JournalError(f"{target} already holds a journal: a copy needs a folder of its own")
    ledger = Ledger()
    writer = JournalWriter(target, ledger, run=run)
    copied = _Copy(writer, ledger)
    try:
        for record in read_journal(source):
            if record.seq > up_to:
                if not 0 < record.cause <= up_to:
                    if dropped is not None:
                        dropped(record)
                    continue
                record = _renumbered(record, copied.head + 1)
            copied.add(record)
            if kept is not None:
                kept(record)
        copied.write()
        if copied.head < up_to:
            raise JournalError(f"the journal in {source} ends at event {copied.head}, {up_to} was asked for")
        return copied.head
    finally:
        writer.close()


class _Copy:
    """Records on their way into a journal, in batches."""

    def __init__(self, writer: JournalWriter, ledger: Ledger) -> None:
        self._writer = writer
        self._ledger = ledger
        self._waiting: list[Record] = []
        self.head = 0

    def add(self, record: Record) -> None:
        self.head = record.seq
        self._waiting.append(record)
        if len(self._waiting) == _BATCH:
            self.write()

    def write(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        for record in waiting:
            self._ledger.note_record(record)
        entries = [
            self._writer.encode(record.type, record.seq, record.stamp_ns, encode_record(record))
            for record in waiting
        ]
        stamps = [record.stamp_ns for record in waiting]
        if self._writer.append(entries, [record.type for record in waiting], stamps) != len(waiting):
            raise JournalError(f"the copy of a journal cannot be written: {self._writer.failure}")
        if self._writer.is_full:
            self._writer.rotate()


def _renumbered(record: Record, seq: int) -> Record:
    return Record(
        seq,
        record.stamp_ns,
        record.node,
        record.incarnation,
        record.cause,
        record.index,
        record.type,
        record.body,
    )
