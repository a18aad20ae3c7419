"""What can still be found in and behind damaged bytes of a segment."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator

import msgspec

from optix_bus.bus import mcap_format as mcap
from optix_bus.bus.record import Stored, decode_stored

_CHUNK_BYTES = 1024 * 1024
#: The first bytes of a record that a hub writes: its kind, and a length below 16 MiB.
_RECORD = re.compile(
    rb"[%c%c%c%c](?=.{3}\x00{5})" % (mcap.CHANNEL, mcap.MESSAGE, mcap.METADATA, mcap.DATA_END), re.DOTALL
)
_PREFIX = mcap.PREFIX_BYTES
#: The first bytes of an event as it is stored: an array of nine, two integers, a text.
_INTEGER = rb"(?:[\x00-\x7f]|\xcc.|\xcd.{2}|\xce.{4}|\xcf.{8})"
_EVENT = re.compile(rb"\x99(?=" + _INTEGER + _INTEGER + rb"(?:[\xa1-\xbf]|\xd9))", re.DOTALL)
_EVENT_FRONT = 32
#: A body of 64 KiB, and names.
_EVENT_BYTES = 66 * 1024
_CRC = 5


def first_whole_record(
    descriptor: int, start: int, size: int, is_whole: Callable[[int, int], bool]
) -> int | None:
    """Offset of the first record from ``start`` on that is whole; None where there is none.

    ``is_whole`` gets an offset that looks like a record, and its opcode.
    """
    while start + _PREFIX <= size:
        chunk = os.pread(descriptor, _CHUNK_BYTES, start)
        for match in _RECORD.finditer(chunk):
            if is_whole(start + match.start(), chunk[match.start()]):
                return start + match.start()
        start += max(len(chunk) - _PREFIX + 1, 1)
    return None


def loose_events(descriptor: int, start: int, end: int) -> Iterator[tuple[int, int, Stored]]:
    """Events that are whole although the bytes around them are not: (offset of its data, end, event)."""
    while start < end:
        chunk = os.pread(descriptor, min(_CHUNK_BYTES, end - start), start)
        step = len(chunk) if start + len(chunk) >= end else max(len(chunk) - _EVENT_FRONT, 1)
        for match in _EVENT.finditer(chunk):
            if match.start() >= step:
                break
            place = start + match.start()
            found = _event_at(os.pread(descriptor, min(_EVENT_BYTES, end - place), place))
            if found is not None:
                length, stored = found
                yield place, place + length, stored
                step = match.start() + length
                break
        start += step


def _event_at(data: bytes) -> tuple[int, Stored] | None:
    """The event that begins here, found by its checksum, because nothing else says how long it is."""
    checksum, checked, place = 0, 0, data.find(b"\xce")
    while 0 <= place <= len(data) - _CRC:
        checksum = zlib.crc32(data[checked:place], checksum)
        checked = place
        if data[place + 1 : place + _CRC] == checksum.to_bytes(4, "big"):
            try:
                return place + _CRC, decode_stored(data[: place + _CRC])
            except (msgspec.DecodeError, UnicodeDecodeError):
                return None
        place = data.find(b"\xce", place + 1)
    return None
