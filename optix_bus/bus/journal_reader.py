"""Reading a journal, also while a hub in another process writes it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from optix_bus.bus import mcap_format as mcap
from optix_bus.bus.journal_files import segment_holding, segment_path
from optix_bus.bus.record import Record, decode_record
from optix_bus.errors import JournalError

#: One read follows a few events; more would mostly cost the making of the buffer.
_CHUNK_BYTES = 64 * 1024
#: What is new since the last look is rarely more.
_GLANCE_BYTES = 16 * 1024


class JournalCursor:
    """A place in a journal that moves forward.

    It keeps its file open and its position, so that following a growing journal costs only what is new. It
    sees every whole record that the hub has written, and never a part of one.

    Args:
        directory: where the segments are.
        seq: the first event wanted.
        position: (segment, offset) at which ``seq`` or an earlier event begins (as beacons tell).
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        seq: int = 1,
        position: tuple[int, int] | None = None,
    ) -> None:
        self._directory = Path(directory)
        self._descriptor = -1
        self._segment = 0
        self._offset = 0
        self._next = seq
        #: Whether the event before the next one was somewhere else: the next one may be in any segment.
        self._searching = True
        #: Channels of the present file that hold no wanted type, for one choice of wanted types.
        self._unwanted: set[int] = set()
        self._wanted: Collection[str] | None = None
        if position is not None:
            self._open(*position)

    @property
    def seq(self) -> int:
        """The next event that `read` will give."""
        return self._next

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def move(self, seq: int, position: tuple[int, int] | None = None) -> None:
        """Go to another event. Going forward within a segment keeps the place as a start for the search."""
        backward = seq < self._next
        self._searching = self._searching or seq != self._next
        self._next = seq
        if position is not None and (backward or position > (self._segment, self._offset)):
            self._open(*position)
        elif backward:
            self.close()

    def read(
        self, limit: int = 1000, *, up_to: int | None = None, types: Collection[str] | None = None
    ) -> list[Record]:
        """The next events, at most about ``limit`` looked at; empty where there are none yet.

        What stands before a damage is given out first; the call after that raises.

        Args:
            limit: how many events to look at.
            up_to: do not go beyond this event.
            types: leave out events of other types (they are passed all the same).

        Raises:
            JournalError: the journal has a hole, or bytes that are no record.
        """
        found: list[Record] = []
        first = self._next
        for number, data in enumerate(self.read_raw(limit, up_to=up_to)):
            try:
                record = decode_record(data)
            except msgspec.DecodeError as error:
                self.move(first + number)
                if found:
                    return found
                raise JournalError(f"{self._path()} holds a message that is no event: {error}") from None
            if types is None or record.type in types:
                found.append(record)
        return found

    def glance(self, first: int, up_to: int, types: Collection[str] | None = None) -> list[Record]:
        """Events from ``first`` on as far as one short look reaches; `seq` says how far that was.

        Following a growing journal is mostly this. Where more is to do (another file, a new channel, damage)
        it stops, and `read` goes on. Events of other types than ``types`` are passed, without being decoded
        where their channel is known.
        """
        if self._searching or self._descriptor < 0:
            return []
        if types is not self._wanted:
            self._wanted, self._unwanted = types, set()
        buffer = os.pread(self._descriptor, _GLANCE_BYTES, self._offset)
        view, size, place, seq = memoryview(buffer), len(buffer), 0, self._next
        found: list[Record] = []
        while seq <= up_to and place + mcap.MESSAGE_PREFIX.size <= size:
            opcode, length, channel, low = mcap.MESSAGE_HEAD.unpack_from(buffer, place)
            end = place + mcap.PREFIX_BYTES + length
            if opcode != mcap.MESSAGE or low != seq & 0xFFFFFFFF or end > size:
                break
            if seq >= first and channel not in self._unwanted:
                try:
                    record = decode_record(view[place + mcap.MESSAGE_PREFIX.size : end])
                except msgspec.DecodeError:
                    break
                if types is None or record.type in types:
                    found.append(record)
                else:
                    self._unwanted.add(channel)
            place, seq = end, seq + 1
        self._offset += place
        self._next = seq
        return found

    def read_raw(
        self, limit: int = 1000, *, up_to: int | None = None, max_bytes: int | None = None
    ) -> list[memoryview]:
        """As `read`, in stored form: one msgpack array an event."""
        found: list[memoryview] = []
        taken = 0
        last = self._next + limit - 1 if up_to is None else min(self._next + limit - 1, up_to)
        while self._next <= last:
            buffer = self._chunk()
            if not buffer:
                if not self._advance():
                    break
                continue
            before = self._offset
            done = False
            try:
                for opcode, start, end in mcap.records(buffer):
                    if opcode == mcap.MESSAGE:
                        low = int.from_bytes(buffer[start + 2 : start + 6], "little")
                        distance = (low - self._next) & 0xFFFFFFFF
                        if distance == 0:
                            if max_bytes is not None and found and taken + end - start > max_bytes:
                                done = True
                                break
                            found.append(memoryview(buffer)[start + 22 : end])
                            taken += end - start
                            self._next += 1
                            self._searching = False
                        elif distance < 0x80000000:
                            raise ValueError(f"event {self._next} is not at byte {before + start}, a hole")
                    elif opcode == mcap.DATA_END:
                        break
                    self._offset = before + end
                    if self._next > last:
                        done = True  # what lies behind was not asked for, and may be damaged
                        break
            except ValueError as error:
                if found:
                    break
                raise JournalError(
                    f"{self._path()} has no event {self._next}: {error}; the journal is damaged, "
                    "`optix-bus log verify` says where"
                ) from None
            if done or (self._offset == before and not self._advance()):
                break
        return found

    def _chunk(self) -> bytes:
        """Bytes from the present offset, at least one whole record if there is one."""
        if self._descriptor < 0:
            segment = segment_holding(self._directory, self._next)
            if segment is None:
                return b""
            self._open(segment, len(mcap.MAGIC))
        buffer = os.pread(self._descriptor, _CHUNK_BYTES, self._offset)
        if len(buffer) == _CHUNK_BYTES:
            length = int.from_bytes(buffer[1:9], "little") + mcap.PREFIX_BYTES
            if _CHUNK_BYTES < length <= mcap.MAX_RECORD_BYTES:
                buffer = os.pread(self._descriptor, length, self._offset)
        return buffer

    def _advance(self) -> bool:
        """Go on with the segment of the next event, if it is there: this one has come to its end."""
        segment = segment_holding(self._directory, self._next) if self._searching else self._next
        if segment in (None, self._segment) or not segment_path(self._directory, segment).exists():
            return False
        self._open(segment, len(mcap.MAGIC))
        return True

    def _open(self, segment: int, offset: int) -> None:
        if segment != self._segment or self._descriptor < 0:
            self.close()
            path = segment_path(self._directory, segment)
            try:
                self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise JournalError(f"{path} is gone while it was being read: was it removed?") from None
            self._unwanted = set()
        self._segment = segment
        self._offset = offset

    def _path(self) -> Path:
        return segment_path(self._directory, self._segment)


def read_journal(directory: str | os.PathLike[str], from_seq: int = 1) -> Iterator[Record]:
    """All events from ``from_seq`` to the end, oldest first."""
    cursor = JournalCursor(directory, from_seq)
    try:
        while batch := cursor.read():
            yield from batch
    finally:
        cursor.close()
