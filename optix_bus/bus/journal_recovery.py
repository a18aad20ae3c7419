"""What a hub reads back from the last segment when it starts, and where it cuts off a torn tail."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from optix_bus.bus import mcap_format as mcap
from optix_bus.bus.journal_files import HELLO, STATE, SegmentState
from optix_bus.bus.journal_scan import SegmentScan
from optix_bus.bus.journal_sync import sync_data
from optix_bus.bus.ledger import Ledger
from optix_bus.bus.record import Stored, decode_record
from optix_bus.errors import JournalError

#: Larger than any record of a hub: the state of 4096 nodes takes about 1 MB.
_CHUNK_BYTES = 4 * 1024 * 1024
#: What a power cut may take (R27), with a margin: damage among events this close to the last is a torn tail.
_UNSYNCED_NS = 5_000_000_000


@dataclass
class Segment:
    """What one segment holds.

    Attributes:
        end: bytes of whole data records; what lies behind is the ending of an orderly close, or torn.
        head: sequence number of the last event in it, or before it.
        torn_bytes: bytes behind ``end`` that are no ending.
    """

    first_seq: int
    end: int = 0
    head: int = 0
    stamp_ns: int = 0
    first_ns: int = 0
    run: str = ""
    torn_bytes: int = 0
    channels: dict[str, int] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    metadata: list[mcap.MetadataEntry] = field(default_factory=list)


def read_segment(path: Path, first_seq: int, ledger: Ledger) -> Segment:
    """Read a whole segment into the ledger; stops at the first byte that is no whole record.

    Raises:
        JournalError: the segment has no readable beginning, or its events are not in order.
    """
    with path.open("rb", buffering=0) as file:
        magic = file.read(len(mcap.MAGIC))
        if magic != mcap.MAGIC:
            raise JournalError(f"{path} is no MCAP file: found {magic!r}, expected {mcap.MAGIC!r}")
        segment = Segment(first_seq, end=len(mcap.MAGIC), head=first_seq - 1)
        closed = _read_records(file.fileno(), segment, ledger, path)
        size = file.seek(0, os.SEEK_END)
    if not any(entry.name == STATE for entry in segment.metadata):
        raise JournalError(f"{path} has no state record: it was not begun by a hub; move it away to go on")
    segment.torn_bytes = 0 if closed else size - segment.end
    if segment.torn_bytes:
        _refuse_damage(path, segment)
    return segment


def _refuse_damage(path: Path, segment: Segment) -> None:
    """What was not yet synced when the power went is a torn tail: pages reach a disk in any order. Behind it
    stands nothing that is much younger; where something is, cutting would take back what others have seen."""
    with SegmentScan(path, segment.end) as scan:
        newest = max((item.stamp_ns for _, _, item in scan if isinstance(item, Stored)), default=0)
    if newest > segment.stamp_ns + _UNSYNCED_NS:
        raise JournalError(
            f"{path} is damaged behind event {segment.head}, and events stand behind the damage: restore it "
            "from a copy, or let `optix-bus log repair` say what is lost and keep the rest"
        )


def _read_records(descriptor: int, segment: Segment, ledger: Ledger, path: Path) -> bool:
    """Read up to the end of the data; whether that is an orderly one. In chunks: a hub stays small."""
    try:
        while True:
            base = segment.end
            buffer = os.pread(descriptor, _CHUNK_BYTES, base)
            for raw in mcap.records(buffer):
                if raw.opcode == mcap.DATA_END:
                    return True
                if raw.opcode == mcap.MESSAGE:
                    _read_message(buffer, raw, segment, ledger, path)
                elif raw.opcode == mcap.CHANNEL:
                    number, topic = mcap.parse_channel(buffer, raw)
                    segment.channels[topic] = number
                elif raw.opcode == mcap.METADATA:
                    _read_metadata(buffer, raw, base, segment, ledger)
                elif raw.opcode != mcap.HEADER:
                    return False  # no hub writes such a record
                segment.end = base + raw.end
            if segment.end == base:
                return False
    except (ValueError, IndexError, KeyError, msgspec.DecodeError):
        return False  # bytes that were being written when the power went: they are cut off


def _read_message(buffer: bytes, raw: mcap.Raw, segment: Segment, ledger: Ledger, path: Path) -> None:
    front = mcap.parse_message(buffer, raw)
    record = decode_record(memoryview(buffer)[mcap.message_data_start(raw) : raw.end])
    number, stamp_ns = segment.channels[record.type], record.stamp_ns
    if front != (number, record.seq & 0xFFFFFFFF, stamp_ns, stamp_ns):
        raise ValueError(f"what stands in front of event {record.seq} does not fit it")
    if record.seq != segment.head + 1:
        raise JournalError(
            f"{path} has event {record.seq} behind {segment.head}, expected {segment.head + 1}: "
            "the journal is damaged; restore it from a copy, or let `optix-bus log repair` keep what is whole"
        )
    segment.head = record.seq
    segment.first_ns = segment.first_ns or record.stamp_ns
    segment.stamp_ns = record.stamp_ns
    segment.counts[number] = segment.counts.get(number, 0) + 1
    ledger.note_record(record)


def _read_metadata(buffer: bytes, raw: mcap.Raw, base: int, segment: Segment, ledger: Ledger) -> None:
    name, pairs = mcap.parse_metadata(buffer, raw)
    if name == HELLO:
        ledger.note_hello(pairs["node"], int(pairs["incarnation"]), pairs["session"])
    elif name == STATE:
        state = msgspec.json.decode(pairs["state"], type=SegmentState)
        segment.run = state.run
        segment.stamp_ns = state.stamp_ns
        ledger.load(state.nodes.items())
    start = raw.start - mcap.PREFIX_BYTES
    segment.metadata.append(mcap.MetadataEntry(base + start, raw.end - start, name))


def write_ending(path: Path, segment: Segment) -> None:
    """Give a segment its ending, in place of a torn tail if it has one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, segment.end)
        os.pwrite(descriptor, ending_of(segment), segment.end)
        sync_data(descriptor)
    finally:
        os.close(descriptor)


def ending_of(segment: Segment) -> bytes:
    """The bytes that close a segment."""
    return mcap.ending(
        segment.end,
        segment.channels,
        segment.counts,
        segment.metadata,
        segment.first_ns,
        segment.stamp_ns if segment.counts else 0,
    )
