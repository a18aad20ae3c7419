"""Journals as hubs leave them, and ways to damage them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from optix_bus.bus import mcap_format as mcap
from optix_bus.bus.journal_files import segment_path, segments
from optix_bus.bus.journal_reader import JournalCursor
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import Ledger
from optix_bus.bus.record import Record, encode_record
from tests.bus.harness import body

NODES = ("scheduler", "learner", "pipeline")
TYPES = ("Asked", "Learnt", "Collected")
SECOND = 10**9
START = 1_700_000_000 * SECOND


#: A node, the event that it was handling, and the count of what that handler (or, for 0, the node) emitted.
Identity = tuple[str, int, int]


class Journal:
    """A journal that is written as a hub writes it: with a ledger, HELLOs and rotation."""

    def __init__(
        self, folder: Path, *, segment_bytes: int = 2**30, hub: bool = True, run: str = "run"
    ) -> None:
        self.folder = folder
        self.ledger = Ledger()
        self.writer = JournalWriter(folder, self.ledger, run=run, segment_bytes=segment_bytes)
        for node in NODES if hub else ():
            self.hello(node, 1)

    def hello(self, node: str, incarnation: int, session: str = "0123456789abcdef") -> None:
        assert self.writer.append_hello(node, incarnation, session)
        self.ledger.note_hello(node, incarnation, session)

    def append(
        self,
        node: str = "",
        *,
        kind: str = "",
        incarnation: int = 0,
        cause: int | None = None,
        index: int = 0,
        stamp_ns: int = 0,
        packed: bytes = b"",
    ) -> Record:
        """One event; by default each is caused by the one before it."""
        seq = self.writer.head + 1
        node = node or NODES[seq % 3]
        known = self.ledger.nodes.get(node)
        record = Record(
            seq,
            stamp_ns or START + seq * 10 * SECOND,
            node,
            incarnation or (known.incarnation if known else 1),
            seq - 1 if cause is None else cause,
            index,
            kind or TYPES[seq % 3],
            packed or body(n=seq, text="some words", score=seq / 3),
        )
        entry = self.writer.encode(record.type, seq, record.stamp_ns, encode_record(record))
        assert self.writer.append([entry], [record.type], [record.stamp_ns]) == 1
        self.ledger.note_record(record)
        if self.writer.is_full:
            assert self.writer.rotate()
        return record

    def close(self, *, orderly: bool = True) -> None:
        self.writer.close(orderly=orderly)


def write(
    folder: Path, count: int, *, segment_bytes: int = 2**30, orderly: bool = True, hub: bool = True
) -> list[Record]:
    """A whole journal; the events in it."""
    journal = Journal(folder, segment_bytes=segment_bytes, hub=hub)
    records = [journal.append() for _ in range(count)]
    journal.close(orderly=orderly)
    return records


def files(folder: Path) -> list[Path]:
    """Its segments, oldest first."""
    return [segment_path(folder, first) for first in segments(folder)]


def spans(stored: bytes, opcodes: Iterable[int] = (mcap.MESSAGE,)) -> list[tuple[int, int]]:
    """(offset, end) of the records of these kinds in the data of a segment."""
    found = []
    try:
        for raw in mcap.records(stored, len(mcap.MAGIC)):
            if raw.opcode == mcap.DATA_END:
                break
            if raw.opcode in opcodes:
                found.append((raw.start - mcap.PREFIX_BYTES, raw.end))
    except ValueError:
        pass  # damaged before: what was found up to there will do
    return found


def flip(path: Path, offset: int, bit: int = 0) -> None:
    stored = bytearray(path.read_bytes())
    stored[offset] ^= 1 << bit
    path.write_bytes(stored)


def swap(path: Path, place: int) -> None:
    """Exchange an event and the record behind it."""
    stored = path.read_bytes()
    start, middle = spans(stored)[place]
    end = next(e for s, e in spans(stored, (mcap.MESSAGE, mcap.CHANNEL, mcap.METADATA)) if s == middle)
    path.write_bytes(stored[:start] + stored[middle:end] + stored[start:middle] + stored[end:])


def copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


DAMAGES = ("flip", "flips", "cut", "zeros", "swap", "twice", "left out", "garbage", "inserted", "tail")


def damage(path: Path, chance: random.Random) -> str:
    """Damage a segment in one of many ways; returns which."""
    kind, stored = chance.choice(DAMAGES), bytearray(path.read_bytes())
    size = len(stored)
    events = spans(bytes(stored))[:-1]
    if size < 2 or (kind in ("swap", "twice", "left out") and not events):
        return "nothing"
    place = chance.randrange(size)
    if kind in ("flip", "flips"):
        for _ in range(1 if kind == "flip" else chance.randrange(2, 6)):
            stored[chance.randrange(size)] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del stored[place:]
    elif kind == "zeros":
        length = min(chance.choice((16, 64, 512, 4096)), size - place)
        stored[place : place + length] = bytes(length)
    elif kind == "garbage":
        length = min(chance.randrange(1, 300), size - place)
        stored[place : place + length] = chance.randbytes(length)
    elif kind == "inserted":
        stored[place:place] = chance.randbytes(chance.randrange(1, 50))
    elif kind == "tail":
        stored += chance.randbytes(chance.randrange(1, 200))
    elif kind == "swap":
        path.write_bytes(stored)
        swap(path, chance.randrange(len(events)))
        return kind
    else:
        start, end = chance.choice(events)
        stored[start:end] = stored[start:end] * 2 if kind == "twice" else b""
    path.write_bytes(stored)
    return kind


def readable(folder: Path, records: Sequence[Record]) -> set[int]:
    """The events whose stored form is anywhere in the files, by a search that knows nothing of records."""
    stored = b"".join(path.read_bytes() for path in files(folder))
    return {record.seq for record in records if encode_record(record) in stored}


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
    cursor = JournalCursor(folder)
    try:
        while cursor.seq < seq:
            cursor.read(limit=1)
        return cursor._segment, cursor._offset
    finally:
        cursor.close()
