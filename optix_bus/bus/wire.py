"""What travels between links and the hub: headers, control messages, the beacon, and the limits.

Everything is msgpack. The page with the reasons is ``optix_bus/PROTOCOL.md``; golden bytes in the tests keep
this module and that page together.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

PROTOCOL_VERSION = 1
MAX_BODY_BYTES = 64 * 1024
MAX_HEADER_BYTES = 256
MAX_CONTROL_BYTES = 4096
MAX_SIDE_BYTES = 64 * 1024
#: Names are part of file names, topics and log lines, so they hold nothing that could mean something there.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}")

Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class EventHeader(msgspec.Struct, array_like=True, gc=False):
    """First frame of an event on its way to the hub."""

    version: int
    node: str
    incarnation: Count
    number: Count
    cause: Count
    index: Count


class OrderedHeader(msgspec.Struct, array_like=True, gc=False):
    """Second frame of an event on its way from the hub."""

    version: int
    seq: int
    stamp_ns: int
    node: str
    incarnation: int
    cause: int
    index: int


class SideHeader(msgspec.Struct, array_like=True):
    """Second frame of a report on the side channel."""

    version: int
    node: str
    incarnation: Count


class Progress(msgspec.Struct):
    """What the hub itself reads of a heartbeat: the last event that the node has handled."""

    seq: int = -1


class Hello(msgspec.Struct, tag_field="op", tag="hello", omit_defaults=True):
    """A node announces itself. ``session`` is drawn by the link once and tells two processes that claim the
    same incarnation apart; ``number`` is the first that it will send; ``id`` comes back in the answer."""

    node: str
    incarnation: Count
    session: str
    number: Count
    id: Count = 0


class HeadRequest(msgspec.Struct, tag_field="op", tag="head", omit_defaults=True):
    """Asks for the head of the journal; all that a mere subscriber needs."""

    id: Count = 0


class Fetch(msgspec.Struct, tag_field="op", tag="fetch", omit_defaults=True):
    """Asks for records from ``first`` on, at most ``max_bytes`` of them (at least one record)."""

    first: Count
    max_bytes: Count = 256 * 1024
    id: Count = 0


class Welcome(msgspec.Struct, tag_field="op", tag="welcome"):
    """The hub knows the node. ``cause``, ``index`` and ``root`` are the last identities it has from it."""

    id: int
    node: str
    incarnation: int
    boot: str
    run: str
    head: int
    number: int
    cause: int
    index: int
    root: int
    journal: str | None


class Refused(msgspec.Struct, tag_field="op", tag="refused"):
    """The hub will not have it. ``reason`` is one word, ``message`` is for people."""

    id: int
    node: str
    reason: str
    message: str


class Retry(msgspec.Struct, tag_field="op", tag="retry"):
    """The hub cannot answer now, because its journal cannot be written; ask again."""

    id: int
    message: str


class Head(msgspec.Struct, tag_field="op", tag="head"):
    """How far the journal goes, and where it lies (None for peers that cannot open it)."""

    id: int
    boot: str
    run: str
    head: int
    journal: str | None


class Records(msgspec.Struct, tag_field="op", tag="records"):
    """Announces the second frame: one msgpack array of ``count`` records, from ``first`` on."""

    id: int
    first: int
    count: int
    head: int


class NodeBeacon(msgspec.Struct, array_like=True):
    """What the hub has journaled of one node. ``number`` is the next it expects, -1 before HELLO;
    ``progress`` is the last event the node said it has handled, -1 where it said nothing."""

    incarnation: int
    number: int
    cause: int
    index: int
    root: int
    progress: int


class JournalState(msgspec.Struct):
    """``ok`` or ``failing`` with the reason; the position just behind the head; the last synced event."""

    state: str
    reason: str
    segment: int
    offset: int
    synced: int


class Beacon(msgspec.Struct):
    """What the hub repeats every 100 ms on the side channel."""

    version: int
    boot: str
    run: str
    head: int
    nodes: dict[str, NodeBeacon]
    counters: dict[str, int]
    journal: JournalState


Request = Hello | HeadRequest | Fetch
Reply = Welcome | Refused | Retry | Head | Records

encode = msgspec.msgpack.Encoder().encode
decode_event_header = msgspec.msgpack.Decoder(EventHeader).decode
decode_ordered_header = msgspec.msgpack.Decoder(OrderedHeader).decode
decode_side_header = msgspec.msgpack.Decoder(SideHeader).decode
decode_progress = msgspec.msgpack.Decoder(Progress).decode
decode_request: Any = msgspec.msgpack.Decoder(Request).decode
decode_reply: Any = msgspec.msgpack.Decoder(Reply).decode
decode_beacon = msgspec.msgpack.Decoder(Beacon).decode
decode_map = msgspec.msgpack.Decoder(dict[str, Any]).decode

_skip = msgspec.msgpack.Decoder(msgspec.Raw).decode


def is_one_map(body: bytes) -> bool:
    """Whether the bytes are exactly one well-formed msgpack map; its content is skipped, not decoded."""
    if not body or not (0x80 <= body[0] <= 0x8F or body[0] in (0xDE, 0xDF)):
        return False
    try:
        _skip(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
