"""One record of a segment, if it is exactly as a hub writes it, to the last byte."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from optix_bus.bus import mcap_format as mcap
from optix_bus.bus.journal_files import HELLO, STATE
from optix_bus.bus.record import Stored, decode_checked

#: What a hub writes between the beginning of a segment and its ending.
KINDS = frozenset({mcap.CHANNEL, mcap.MESSAGE, mcap.METADATA})
#: In front of the data of a message: the prefix of the record and the fields of MCAP.
WRAPPER_BYTES = mcap.MESSAGE_PREFIX.size
#: The strings of our metadata, for records from before they had a checksum.
_KEYS = {STATE: {"state"}, HELLO: {"node", "incarnation", "session"}}


class Channel(NamedTuple):
    """A topic gets its number."""

    number: int
    topic: str


class Metadata(NamedTuple):
    """Named strings; ``checked`` is False where they have no checksum, as before there was one."""

    name: str
    pairs: dict[str, str]
    checked: bool


@dataclass(frozen=True, slots=True)
class Whole:
    """A record that ends before byte ``end``; ``number`` is the channel of an event."""

    end: int
    content: Stored | Channel | Metadata
    number: int = 0


def whole_record(descriptor: int, position: int, topics: Mapping[int, str]) -> Whole | None:
    """The record at this offset; None where a byte of it is not as it should be.

    ``topics`` are those of the channels that are known beyond doubt.
    """
    opcode, length = prefix_at(descriptor, position)
    if opcode not in KINDS or length > mcap.MAX_RECORD_BYTES:
        return None
    record = os.pread(descriptor, mcap.PREFIX_BYTES + length, position)
    if len(record) < mcap.PREFIX_BYTES + length:
        return None
    end = position + len(record)
    try:
        if opcode == mcap.MESSAGE:
            return _event(record, end, topics)
        raw = mcap.Raw(opcode, mcap.PREFIX_BYTES, len(record))
        return _channel(record, raw, end) if opcode == mcap.CHANNEL else _metadata(record, raw, end)
    except (ValueError, msgspec.DecodeError):
        return None


def prefix_at(descriptor: int, position: int) -> tuple[int, int]:
    """(opcode, length) that stand at this offset; behind the end of the file the missing bytes are zero."""
    prefix = os.pread(descriptor, mcap.PREFIX_BYTES, position)
    return (prefix[0] if prefix else 0), int.from_bytes(prefix[1:], "little")


def _event(record: bytes, end: int, topics: Mapping[int, str]) -> Whole | None:
    if len(record) <= WRAPPER_BYTES:
        return None
    _, _, number, low, stamp_ns, published_ns = mcap.MESSAGE_PREFIX.unpack_from(record)
    stored = decode_checked(record[WRAPPER_BYTES:])
    fits = (
        stamp_ns == published_ns == stored.stamp_ns
        and low == stored.seq & 0xFFFFFFFF
        and topics.get(number, stored.type) == stored.type
    )
    return Whole(end, stored, number) if fits else None


def _channel(record: bytes, raw: mcap.Raw, end: int) -> Whole | None:
    number, topic = mcap.parse_channel(record, raw)
    return Whole(end, Channel(number, topic)) if mcap.channel(number, topic) == record else None


def _metadata(record: bytes, raw: mcap.Raw, end: int) -> Whole | None:
    name, pairs = mcap.parse_metadata(record, raw)
    checked = mcap.metadata(name, pairs) == record
    usable = checked or (mcap.CHECKSUM.encode() not in record and pairs.keys() == _KEYS.get(name))
    return Whole(end, Metadata(name, pairs, checked)) if usable else None
