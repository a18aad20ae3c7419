"""One event as the hub ordered it: the unit of the journal and of what a link hands out."""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, array_like=True, gc=False):
    """An event with its place in the order, its body still as bytes.

    The journal stores it as one msgpack array of these eight fields, in this order, ``body`` embedded as the
    map that it is. Treat it as immutable; it is not frozen only because that would make reading slower.

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


class _Stored(msgspec.Struct, array_like=True, gc=False):
    """`Record` as it is decoded: the body stays a view until it is copied out."""

    seq: int
    stamp_ns: int
    node: str
    incarnation: int
    cause: int
    index: int
    type: str
    body: msgspec.Raw


_decode = msgspec.msgpack.Decoder(_Stored).decode


def decode_record(data: bytes | memoryview) -> Record:
    """A record from its stored form.

    Raises:
        msgspec.DecodeError: the bytes are none.
    """
    stored = _decode(data)
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


_encode = msgspec.msgpack.Encoder().encode


def encode_record(record: Record) -> bytes:
    """The stored form of a record: an array of eight (0x98), the body embedded as it is."""
    fields = (record.seq, record.stamp_ns, record.node, record.incarnation, record.cause, record.index)
    return b"\x98" + _encode(fields)[1:] + _encode(record.type) + record.body
