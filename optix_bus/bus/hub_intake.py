"""Taking events in: from frames of anybody to entries of the journal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import zmq

from optix_bus.bus import wire
from optix_bus.bus.clock import Clock
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import FUTURE_CAUSE, GAP, UNANNOUNCED, Ledger, NodeState
from optix_bus.bus.record import stored_form
from optix_bus.bus.sockets import NOW, compiled

#: A name costs memory in every process that reads the journal; nobody needs this many.
MAX_TYPES = 1000
_MAX_REFUSALS = 20
_RCVMORE = int(zmq.RCVMORE)
#: A batch is held in memory, once as it came and once as it is written.
_BATCH_BYTES = 1024 * 1024


class Intake:
    """Reads a bounded batch, checks it, numbers and stamps it, and keeps it until it is in the journal.

    What could not be written stays here, in the bytes in which it will be written again.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        journal: JournalWriter,
        ledger: Ledger,
        clock: Clock,
        counters: dict[str, int],
    ) -> None:
        self._recv = compiled(socket).recv
        self._option = compiled(socket).get
        self._journal = journal
        self._ledger = ledger
        self._clock = clock
        self._counters = counters
        self._head = journal.head
        self._stamp_ns = journal.stamp_ns
        self._names: dict[bytes, str] = {}
        self._entries: list[bytes] = []
        self._topics: list[str] = []
        self._stamps: list[int] = []
        self._frames: list[tuple[bytes, bytes, bytes]] = []
        self._before: dict[str, tuple[int, int, int]] = {}
        self._refusals: list[str] = []
        self._bytes = 0

    @property
    def waiting(self) -> int:
        """Events that have a number but are not in the journal."""
        return len(self._entries)

    def take(self, limit: int) -> None:
        """Read at most ``limit`` messages, or about a MiB of them, that have arrived."""
        self._bytes = 0
        recv, option = self._recv, self._option
        try:
            for _ in range(limit):
                if self._bytes > _BATCH_BYTES:
                    return
                header = recv(NOW)
                if not option(_RCVMORE):
                    self._refuse("frames", "one frame, expected three: header, type, body")
                    continue
                event_type = recv(NOW)
                if not option(_RCVMORE):
                    self._refuse("frames", "two frames, expected three: header, type, body")
                    continue
                body = recv(NOW)
                if option(_RCVMORE):
                    while option(_RCVMORE):
                        recv(NOW)
                    self._refuse("frames", "more than three frames")
                    continue
                self._one(header, event_type, body)
        except zmq.Again:
            return

    def _one(self, header_bytes: bytes, event_type: bytes, body: bytes) -> None:
        if len(header_bytes) > wire.MAX_HEADER_BYTES:
            self._refuse("header", f"a header of {len(header_bytes)} bytes, at most {wire.MAX_HEADER_BYTES}")
            return
        try:
            header = wire.decode_event_header(header_bytes)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            self._refuse("header", f"a header that is none: {error}")
            return
        if header.version != wire.PROTOCOL_VERSION:
            self._refuse("version", f"protocol {header.version} of {header.node[:64]!r}, this hub speaks 1")
            return
        node = header.node
        state = self._ledger.nodes.get(node)
        identity = (state.cause, state.index, state.root) if state is not None else (0, -1, -1)
        reason = self._ledger.accept(
            node, header.incarnation, header.number, header.cause, header.index, self._head
        )
        if reason:
            self._count(reason)
            if reason == FUTURE_CAUSE:
                self._refuse(reason, f"{node} names event {header.cause} as cause, the last is {self._head}")
            elif reason in (GAP, UNANNOUNCED):
                self._count("dropped")
            return
        topic = self._names.get(event_type) or self._name(event_type, node)
        if not topic or not self._is_body(body, node, topic):
            assert state is not None  # an accepted event has a node
            state.cause, state.index, state.root = identity  # its number is used up, its identity is not
            return
        self._before.setdefault(node, identity)
        self._head = seq = self._head + 1
        self._stamp_ns = stamp_ns = max(self._clock.now_ns(), self._stamp_ns + 1)
        core = wire.encode((seq, stamp_ns, node, header.incarnation, header.cause, header.index))[1:]
        self._bytes += len(body)
        data = stored_form(core, wire.encode(topic), body)
        self._entries.append(self._journal.encode(topic, seq, stamp_ns, data))
        self._topics.append(topic)
        self._stamps.append(stamp_ns)
        self._frames.append((event_type, b"\x97\x01" + core, body))

    def _name(self, event_type: bytes, node: str) -> str:
        text = event_type[:65].decode("ascii", "replace")
        if not wire.NAME.fullmatch(text):
            self._refuse("type", f"{node} sent an event type that is no name: {text!r}")
            return ""
        if len(self._names) >= MAX_TYPES:
            self._refuse("type", f"{node} sent {text!r}, but {MAX_TYPES} event types are known already")
            return ""
        self._names[event_type] = text
        return text

    def _is_body(self, body: bytes, node: str, topic: str) -> bool:
        if len(body) > wire.MAX_BODY_BYTES:
            self._refuse("too_large", f"{topic} of {node}: {len(body)} bytes, at most {wire.MAX_BODY_BYTES}")
            return False
        if not wire.is_one_map(body):
            self._refuse("body", f"{topic} of {node} is not one msgpack map")
            return False
        return True

    def write(self) -> int:
        """Append what waits; returns how many events are now in the journal."""
        return self._journal.append(self._entries, self._topics, self._stamps)

    def types(self, count: int) -> Iterable[str]:
        """The types of the first ``count`` that were written."""
        return self._topics[:count]

    def published(self, count: int) -> Iterator[tuple[bytes, bytes, bytes]]:
        """The frames of the first ``count``, which are forgotten with this."""
        frames = self._frames[:count]
        del self._entries[:count], self._topics[:count], self._stamps[:count], self._frames[:count]
        if not self._entries:
            self._before.clear()
        return iter(frames)

    def journaled_identity(self, name: str, state: NodeState) -> tuple[int, int, int]:
        """(cause, index, root) of a node as far as the journal has them."""
        return self._before.get(name, (state.cause, state.index, state.root))

    def take_refusals(self) -> list[str]:
        """What was refused since the last call, in words; at most twenty, the rest is only counted."""
        taken, self._refusals = self._refusals, []
        return taken

    def _count(self, reason: str) -> None:
        self._counters[reason] = self._counters.get(reason, 0) + 1

    def _refuse(self, reason: str, words: str) -> None:
        self._count(f"hostile_{reason}")
        if len(self._refusals) < _MAX_REFUSALS:
            self._refusals.append(words)
