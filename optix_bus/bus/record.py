"""One event as the hub ordered it: the unit of the journal and of what a link hands out."""

from __future__ import annotations

import zlib

import msgspec


class Record(msgspec.Struct, array_like=True, gc=False):
    """An event with its place in the order, its body still as bytes.

    The journal stores it as one msgpack array of these eight fields, in this order, ``body`` embedded as the
    map that it is, and a CRC-32 of all bytes before it as the ninth. Treat it as immutable; it is not frozen
    only because that would make reading slower.

    Attributes:
        seq: sequence number, from 1, without gaps.
        stamp_ns: the hub's wall clock, strictly growing.
        node: who sent it.
        incarnation: which life of that node.
        cause: ``seq`` of the event that was being handled, 0 for a root.
        index: counts what that handler emitted, or the roots of the node.
        type: name of the event type.
        body: one msgpack map, by field name.
    """

    seq: int
    stamp_ns: int
    node: str
    incarnation: int
    cause: int
    index: int
    type: str
    body: bytes

    @property
    def identity(self) -> tuple[str, int, int]:
        """(node, cause, index): the same when a restarted node emits the event again."""
        return (self.node, self.cause, self.index)


class Stored(msgspec.Struct, array_like=True, gc=False):
    """`Record` as it is decoded: the body stays a view until it is copied out; ``crc`` is not compared."""

    seq: int
    stamp_ns: int
    node: str
    incarnation: int
    cause: int
    index: int
    type: str
    body: msgspec.Raw
    crc: int


decode_stored = msgspec.msgpack.Decoder(Stored).decode
_encode = msgspec.msgpack.Encoder().encode
#: The checksum is always written as a 32-bit integer (0xce), whatever its value.
_CRC_BYTES = 5


def decode_checked(data: bytes | memoryview) -> Stored:
    """An event from its stored form, its checksum compared.

    Raises:
        msgspec.DecodeError: the bytes are none, or not those that were written.
    """
    crc = b"\xce" + zlib.crc32(data[:-_CRC_BYTES]).to_bytes(4, "big")
    if data[-_CRC_BYTES:] != crc:
        raise msgspec.DecodeError("the checksum of an event is wrong: a byte has changed")
    return decode_stored(data)


def decode_record(data: bytes | memoryview) -> Record:
    """A record from its stored form.

    Raises:
        msgspec.DecodeError: as `decode_checked`.
    """
    stored = decode_checked(data)
    return Record(
        stored.seq,
        stored.stamp_ns,
        stored.node,
        stored.incarnation,
        stored.cause,
        stored.index,
        stored.type,
        bytes(stored.body),
    )


def encode_record(record: Record) -> bytes:
    """The stored form of a record."""
    fields = (record.seq, record.stamp_ns, record.node, record.incarnation, record.cause, record.index)
    return stored_form(_encode(fields)[1:], _encode(record.type), record.body)


def stored_form(fields: bytes, event_type: bytes, body: bytes) -> bytes:
    """The stored form from encoded parts: the first six fields in a row, the type, the map of the body."""
    front = b"".join((b"\x99", fields, event_type, body))
    return front + b"\xce" + zlib.crc32(front).to_bytes(4, "big")
