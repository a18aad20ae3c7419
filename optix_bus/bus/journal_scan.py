"""Everything that lies in a segment, byte for byte, also where it is damaged.

The readers of `journal_reader` stop at the first byte that is wrong. This one goes on behind it: it finds the
next record that is whole, takes out of the bytes between what can still be read, and says what cannot.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from optix_bus.bus import mcap_format as mcap
from optix_bus.bus.journal_ending import judge_ending
from optix_bus.bus.journal_files import BEGINNING
from optix_bus.bus.journal_gap import first_whole_record, loose_events
from optix_bus.bus.journal_whole import (
    KINDS,
    WRAPPER_BYTES,
    Channel,
    Metadata,
    Whole,
    prefix_at,
    whole_record,
)
from optix_bus.bus.record import Stored, decode_checked, decode_stored

#: Large enough to read a disk at its speed, small enough to stay in the cache of a processor.
_CHUNK_BYTES = 512 * 1024
_CRC_BYTES = 5


class Broken(NamedTuple):
    """Bytes that are not as a hub writes them. Events that are whole all the same come behind it."""

    text: str
    may_hide_events: bool = True


Content = Stored | Channel | Metadata | Broken
#: (offset, where it ends, what it is).
Item = tuple[int, int, Content]


class SegmentScan:
    """What is in one segment, from front to back; a context manager.

    Iterate as often as you like: it goes on where it stopped, with what was written meanwhile.

    Attributes:
        position: everything before it was given out.
        closed: the segment has an ending, whole or not.
        ending_damage: what is wrong with that.
        torn_bytes: what lies behind ``position`` and is the beginning of a record, as a killed hub leaves it.
    """

    def __init__(self, path: Path, position: int = 0) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.position = position
        self.closed = False
        self.ending_damage = ""
        self.torn_bytes = 0
        self._declared: dict[int, str] = {}
        #: Declared, and used by an event that says the same: beyond doubt.
        self._topics: dict[int, str] = {}
        #: What events say of their channels: one that speaks alone is wrong, of two the channel record is.
        self._claims: set[tuple[int, str]] = set()

    def __enter__(self) -> SegmentScan:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def size(self) -> int:
        """Bytes of the file at this moment."""
        return os.fstat(self._descriptor).st_size

    def ending(self) -> bytes:
        """Everything behind the data."""
        return os.pread(self._descriptor, max(self.size - self.position, 0), self.position)

    def data(self, start: int, end: int) -> bytes:
        """The stored form of the event that was given out with these places."""
        return os.pread(self._descriptor, end - start - WRAPPER_BYTES, start + WRAPPER_BYTES)

    def __iter__(self) -> Iterator[Item]:
        """Everything up to the end of the data."""
        if self.position == 0:
            yield from self._beginning()
        while not self.closed:
            yield from self._messages()
            before = self.position
            yield from self._other()
            if self.position == before:
                return

    def _beginning(self) -> Iterator[Item]:
        if os.pread(self._descriptor, len(BEGINNING), 0) == BEGINNING:
            self.position = len(BEGINNING)
        elif self.size == 0:
            yield 0, 0, Broken("the file is empty")
        elif self._whole(len(BEGINNING)) is not None:
            self.position = len(BEGINNING)
            yield (
                0,
                self.position,
                Broken("the first bytes are not those of a journal", may_hide_events=False),
            )

    def _messages(self) -> Iterator[Item]:
        """The quick way: whole events, one after the other; stops at anything else."""
        unpack, crc32, topics, decode = (
            mcap.MESSAGE_PREFIX.unpack_from,
            zlib.crc32,
            self._topics,
            decode_stored,
        )
        while True:
            base, at = self.position, 0
            buffer = os.pread(self._descriptor, _CHUNK_BYTES, base)
            size, view = len(buffer), memoryview(buffer)
            while at + WRAPPER_BYTES + _CRC_BYTES < size:
                opcode, length, number, low, stamp_ns, published_ns = unpack(buffer, at)
                end = at + 9 + length
                data, checksum = at + WRAPPER_BYTES, end - _CRC_BYTES
                if opcode != mcap.MESSAGE or end > size or checksum <= data:
                    break
                if buffer[checksum:end] != b"\xce" + crc32(view[data:checksum]).to_bytes(4, "big"):
                    break
                try:
                    stored = decode(view[data:end])
                except (msgspec.DecodeError, UnicodeDecodeError):
                    break
                if (
                    topics.get(number) != stored.type
                    or stamp_ns != stored.stamp_ns
                    or published_ns != stamp_ns
                    or low != stored.seq & 0xFFFFFFFF
                ):
                    break
                self.position = base + end
                yield base + at, base + end, stored
                at = end
            if at == 0:
                return

    def _other(self) -> Iterator[Item]:
        """One thing that is no ordinary event: another record, the ending, or damage."""
        position, size = self.position, self.size
        self.torn_bytes = 0
        if position == size:
            return
        found = self._whole(position)
        if found is not None:
            self.position = found.end
            text = self._doubt(found)
            if text:
                yield position, found.end, Broken(text, may_hide_events=False)
            yield position, found.end, found.content
            return
        ending = judge_ending(self._descriptor, position, size)
        if ending is not None and (not ending or not self._event_behind(position)):
            self.closed, self.ending_damage = True, ending
            return
        yield from self._gap(position, size)

    def _gap(self, position: int, size: int) -> Iterator[Item]:
        behind = self._behind(position, size)
        loose = list(loose_events(self._descriptor, position, behind))
        if behind == size and not loose and self._is_torn(position, size):
            self.torn_bytes = size - position
            return
        broken = self._broken(position, size)
        self.position = behind
        yield position, behind, broken
        for start, end, stored in loose:
            yield start - WRAPPER_BYTES, end, stored

    def _doubt(self, found: Whole) -> str:
        """What is wrong with the channel of a record that is whole in itself."""
        content = found.content
        if isinstance(content, Channel):
            known = self._declared.setdefault(content.number, content.topic)
            if known != content.topic:
                return f"channel {content.number} is {known} already, here it becomes {content.topic}"
        elif isinstance(content, Stored):
            declared = self._declared.get(found.number)
            claim = (found.number, content.type)
            if (
                declared == content.type
                or content.type not in self._declared.values()
                or claim in self._claims
            ):
                self._declared[found.number] = self._topics[found.number] = content.type
            self._claims.add(claim)
            if declared != content.type:
                named = f"declared as {declared}" if declared else "not declared"
                return f"event {content.seq} is a {content.type} on channel {found.number}, which is {named}"
        return ""

    def _whole(self, position: int) -> Whole | None:
        return whole_record(self._descriptor, position, self._topics)

    def _behind(self, position: int, size: int) -> int:
        """Where something whole begins behind damaged bytes; the end of the file where nothing does."""
        _, length = prefix_at(self._descriptor, position)
        end = position + mcap.PREFIX_BYTES + length
        if end == size or (end < size and self._is_whole(end)):
            return end  # its length is right
        found = first_whole_record(self._descriptor, position + 1, size, self._is_whole)
        return size if found is None else found

    def _is_whole(self, position: int, opcode: int = mcap.DATA_END) -> bool:
        if opcode == mcap.DATA_END and judge_ending(self._descriptor, position, self.size) is not None:
            return True
        return self._whole(position) is not None

    def _event_behind(self, position: int) -> bool:
        def is_event(place: int, opcode: int) -> bool:
            return opcode == mcap.MESSAGE and self._whole(place) is not None

        return first_whole_record(self._descriptor, position + 1, self.size, is_event) is not None

    def _is_torn(self, position: int, size: int) -> bool:
        """Whether the rest of the file is the beginning of a record, as a killed hub leaves it."""
        opcode, length = prefix_at(self._descriptor, position)
        end = position + mcap.PREFIX_BYTES + length
        return opcode in KINDS and length <= mcap.MAX_RECORD_BYTES and end > size

    def _broken(self, position: int, size: int) -> Broken:
        """What is wrong with the bytes at this offset."""
        opcode, length = prefix_at(self._descriptor, position)
        end = position + mcap.PREFIX_BYTES + length
        if opcode == length == 0:
            return Broken("zeros where a record should begin")
        if opcode not in KINDS:
            return Broken(f"a record of kind {opcode}, which no hub writes")
        if end > size:
            return Broken(f"a record that claims {length} bytes, more than the file has")
        if opcode == mcap.CHANNEL:
            return Broken("a channel record that is not as a hub writes it", may_hide_events=False)
        if opcode == mcap.METADATA:
            return Broken("a metadata record that is not as a hub writes it", may_hide_events=False)
        try:
            stored = decode_checked(os.pread(self._descriptor, end - position, position)[WRAPPER_BYTES:])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Broken("an event whose checksum is wrong: a byte has changed")
        return Broken(f"what stands in front of event {stored.seq} does not fit the event")
