"""The hub's desk for HELLO, HEAD and FETCH."""

from __future__ import annotations

from collections import OrderedDict

import msgspec
import zmq

from optix_bus.bus import wire
from optix_bus.bus.journal_reader import JournalCursor
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import Ledger
from optix_bus.errors import JournalError

#: Requests answered before the hub looks at events again.
_AT_ONCE = 16
_MAX_FETCH_BYTES = 1024 * 1024
_MAX_CURSORS = 16
_MAX_NODES = 4096
_REFUSALS = {
    "older_incarnation": "a newer incarnation {newest} has said HELLO: this process was replaced, end it",
    "another_process": "another process already speaks for this incarnation: give each start a higher one",
    "name": "the name is none: expected at most 64 of A-Z a-z 0-9 _ . : -",
    "too_many_nodes": f"more than {_MAX_NODES} nodes have said HELLO",
    "request": "the request is none: expected a msgpack map with op hello, head or fetch",
    "journal": "the journal does not hold what was asked for",
}


class ControlDesk:
    """Answers requests; each answer is one message, sent without waiting."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        journal: JournalWriter,
        ledger: Ledger,
        boot: str,
        counters: dict[str, int],
    ) -> None:
        self._socket = socket
        self._journal = journal
        self._ledger = ledger
        self._boot = boot
        self._counters = counters
        self._cursors: OrderedDict[bytes, JournalCursor] = OrderedDict()

    def serve(self, *, busy: bool) -> None:
        """Answer a few requests. ``busy`` says that events wait for the journal."""
        for _ in range(_AT_ONCE):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            peer = frames[0]
            if len(frames) != 2 or len(frames[1]) > wire.MAX_CONTROL_BYTES:
                self._refuse(peer, 0, "", "request")
                continue
            try:
                request = wire.decode_request(frames[1])
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                self._refuse(peer, 0, "", "request")
                continue
            if isinstance(request, wire.Hello):
                self._hello(peer, request, busy)
            elif isinstance(request, wire.Fetch):
                self._fetch(peer, request)
            else:
                self._answer(
                    peer,
                    wire.Head(
                        request.id,
                        self._boot,
                        self._journal.run,
                        self._journal.head,
                        str(self._journal.directory),
                    ),
                )

    def _hello(self, peer: bytes, hello: wire.Hello, busy: bool) -> None:
        node = hello.node
        if not wire.NAME.fullmatch(node) or not 1 <= len(hello.session) <= 64:
            self._refuse(peer, hello.id, node[:64], "name")
            return
        if node not in self._ledger.nodes and len(self._ledger.nodes) >= _MAX_NODES:
            self._refuse(peer, hello.id, node, "too_many_nodes")
            return
        if busy:
            self._answer(peer, wire.Retry(hello.id, "events wait for the journal"))
            return
        before = self._ledger.nodes.get(node)
        if before is not None and hello.incarnation < before.incarnation:
            self._refuse(peer, hello.id, node, "older_incarnation", before.incarnation)
            return
        if self._ledger.is_new(node, hello.incarnation, hello.session):
            if before is not None and hello.incarnation == before.incarnation:
                self._refuse(peer, hello.id, node, "another_process")
                return
            # It is written down first: a hub that is killed now must still fence after its restart.
            if not self._journal.append_hello(node, hello.incarnation, hello.session):
                self._answer(peer, wire.Retry(hello.id, self._journal.failure))
                return
        self._ledger.hello(node, hello.incarnation, hello.session, hello.number)
        state = self._ledger.nodes[node]
        self._answer(
            peer,
            wire.Welcome(
                id=hello.id,
                node=node,
                incarnation=state.incarnation,
                boot=self._boot,
                run=self._journal.run,
                head=self._journal.head,
                number=state.expected,
                cause=state.cause,
                index=state.index,
                root=state.root,
                journal=str(self._journal.directory),
            ),
        )

    def _fetch(self, peer: bytes, fetch: wire.Fetch) -> None:
        self._count("fetches")
        head = self._journal.head
        cursor = self._cursors.pop(peer, None)
        try:
            if cursor is None:
                cursor = JournalCursor(self._journal.directory, fetch.first)
                if len(self._cursors) >= _MAX_CURSORS:
                    self._cursors.popitem(last=False)[1].close()
            else:
                cursor.move(fetch.first)
            found = cursor.read_raw(1_000_000, up_to=head, max_bytes=min(fetch.max_bytes, _MAX_FETCH_BYTES))
        except JournalError:
            self._refuse(peer, fetch.id, "", "journal")
            return
        self._cursors[peer] = cursor
        chunk = b"\xdd" + len(found).to_bytes(4, "big") + b"".join(found)
        self._answer(peer, wire.Records(fetch.id, fetch.first, len(found), head), chunk)

    def _answer(self, peer: bytes, reply: wire.Reply, *frames: bytes) -> None:
        try:
            self._socket.send_multipart([peer, wire.encode(reply), *frames], zmq.NOBLOCK)
        except zmq.Again:
            self._count("answers_dropped")  # the peer asks again

    def _refuse(self, peer: bytes, request: int, node: str, reason: str, newest: int = 0) -> None:
        self._count(f"refused_{reason}")
        message = _REFUSALS[reason].format(newest=newest)
        self._answer(peer, wire.Refused(request, node, reason, message))

    def _count(self, name: str) -> None:
        self._counters[name] = self._counters.get(name, 0) + 1

    def close(self) -> None:
        """Close the files that are open for fetching."""
        for cursor in self._cursors.values():
            cursor.close()
        self._cursors.clear()
