"""A process's connection to the hub: loses nothing, repeats nothing, and never waits without a bound."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import zmq

from optix_bus.bus import wire
from optix_bus.bus.clock import Clock, SystemClock
from optix_bus.bus.endpoints import HubEndpoints
from optix_bus.bus.journal_follower import JournalFollower
from optix_bus.bus.outbox import Outbox
from optix_bus.bus.record import Record, decode_record
from optix_bus.bus.reporter import Reporter
from optix_bus.bus.side_listener import Report, SideListener
from optix_bus.bus.sockets import MORE, NOW, READABLE, compiled, connected
from optix_bus.errors import BusError, CodecError

_AT_ONCE = 512
_GRACE_SECONDS = 0.02
_ASK_AGAIN_SECONDS = 0.25
_RESEND_SECONDS = (0.3, 3.0)
_SLICE_SECONDS = 0.05
_LOOK_SECONDS = 0.02
_HURRY_SECONDS = 0.005
#: Events held for `poll` while `emit` or `flush` wait; beyond it, acknowledgements come by the beacon alone.
_INBOX_LIMIT = 10_000
_decode_header = wire.decode_ordered_header
_decode_chunk = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


class Link:
    """Speaks for some nodes, or for none and only listens. For one thread.

    Args:
        endpoints: the hub's addresses.
        nodes: the node names that this process speaks for.
        incarnation: which life of these nodes this is; each start has a higher one.
        from_seq: the first event wanted; 1 replays the whole journal, ``None`` begins behind the head.
        types: hand out only these event types; the others are skipped on their first frame.
        wake_types: be woken by these event types only. All events are still handed out, in order: the
            others are read from the journal when the next of these, or a beacon, comes. A wake-up costs
            more than the event that causes it, and most nodes need few of them. Of no effect without a
            journal on this host.
        side: kinds of reports to listen to on the side channel, see `reports`.
        remote: fetch missing events from the hub even where its journal could be read directly.
        outbox_limit: events that may wait for acknowledgement before `emit` waits.
        queue_events: events the receiving socket keeps while the process is busy; more are caught up later.
        near: an event at or before ``from_seq`` with its (segment, offset) in the journal, so that the search
            need not begin at the beginning of a file.

    Raises:
        BusError: from every method, once another process has taken over one of the nodes (``fenced``).
    """

    def __init__(
        self,
        endpoints: HubEndpoints,
        nodes: Sequence[str] = (),
        incarnation: int = 0,
        from_seq: int | None = 1,
        *,
        types: Collection[str] | None = None,
        wake_types: Collection[str] | None = None,
        side: Sequence[str] = (),
        remote: bool = False,
        outbox_limit: int = 10_000,
        queue_events: int = 2000,
        near: tuple[int, tuple[int, int]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock if clock is not None else SystemClock()
        self._incarnation = incarnation
        self._session = secrets.token_hex(8)
        self._outboxes = {node: Outbox(node, incarnation) for node in nodes}
        self._seq = -1 if from_seq is None else from_seq - 1
        self._types = None if types is None else frozenset(name.encode() for name in types)
        #: What is read from the journal: the types that are handed out, and those of this link's own events.
        self._wanted = self._type_names = None if types is None else frozenset(types)
        self._names: dict[bytes, str] = {}
        self._encoded: dict[str, bytes] = {}
        self._remote = remote
        self._limit = outbox_limit
        self._inbox: deque[Record] = deque()
        self.counters = {"catch_ups": 0, "duplicates": 0, "resends": 0, "hellos": 0, "hostile": 0}
        self.fenced = ""
        self.beacon: wire.Beacon | None = None
        self.run = ""

        self._context = zmq.Context(io_threads=1)
        self._in = connected(self._context, zmq.SUB, endpoints.events_out, queue_events)
        self._in.rcvtimeo = round(_SLICE_SECONDS * 1000)
        #: Whether gaps are normal, because most events are not subscribed to.
        self._wakes_for_some = wake_types is not None and not remote
        for prefix in wake_types if wake_types is not None and self._wakes_for_some else ("",):
            self._in.setsockopt(zmq.SUBSCRIBE, prefix.encode())
        self._side = connected(self._context, zmq.SUB, endpoints.side_out, 1000)
        for kind in ("beacon", *side):
            self._side.setsockopt(zmq.SUBSCRIBE, kind.encode())
        self._address = endpoints.control
        self._listener = SideListener(self._side)
        self._control = connected(self._context, zmq.DEALER, endpoints.control, 100)
        self._out = connected(self._context, zmq.PUSH, endpoints.events_in, queue_events)
        self._reporter = Reporter(endpoints, self._context)
        self._poll = [(socket, READABLE) for socket in (self._in, self._side, self._control)]
        self._recv = compiled(self._in).recv
        self._send = compiled(self._out).send
        self._look_at = 0.0

        self._boot = ""
        self._head = 0
        self._head_since = 0.0
        self._fetching = -1
        self._request = 0
        self._asked_at = -1e9
        self._follower = JournalFollower(near)
        self._progress_at = self._clock.monotonic()
        self._resend_after = _RESEND_SECONDS[0]
        self._ask()

    # -- what a process does with it ---------------------------------------------------------------------

    @property
    def seq(self) -> int:
        """The last event that was handed out or skipped."""
        return self._inbox[0].seq - 1 if self._inbox else max(self._seq, 0)

    @property
    def head(self) -> int:
        """The last event that the hub is known to have."""
        return self._head

    @property
    def ahead(self) -> Iterable[Record]:
        """Events that have arrived and that `poll` has not handed out yet."""
        return self._inbox

    @property
    def is_connected(self) -> bool:
        """Whether the present hub process has answered, for all nodes."""
        return bool(self._boot) and all(outbox.greeted for outbox in self._outboxes.values())

    def connect(self, timeout: float = 10.0) -> None:
        """Wait until the hub has answered.

        Raises:
            BusError: it has not, or it refuses.
        """
        deadline = self._clock.monotonic() + timeout
        while not self.is_connected:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                raise BusError(
                    f"no hub answered within {timeout:g} s at {self._address}: "
                    "is it running, and is this its directory?"
                )
            self._wait(min(left, _SLICE_SECONDS))

    def poll(self, timeout: float = 0.0) -> list[Record]:
        """The next events, in order and without gaps; waits at most ``timeout`` seconds for the first.

        Raises:
            BusError: this process was replaced, or the journal went back behind what was already handed out.
        """
        if not self._inbox and timeout <= 0:
            self._service()
        elif not self._inbox:
            # What has arrived already ends the wait at once: no look before it is needed.
            deadline = self._clock.monotonic() + timeout
            left = timeout
            while not self._inbox and left > 0:
                if left >= _SLICE_SECONDS and self._is_settled:
                    self._await_event()
                else:
                    self._wait(left)
                left = deadline - self._clock.monotonic()
        found = list(self._inbox)
        self._inbox.clear()
        return found

    def emit(
        self, node: str, cause: int, index: int, event_type: str, body: bytes, *, timeout: float = 30.0
    ) -> bool:
        """Put an event into the outbox and send it if there is somebody to send it to.

        Returns False where the journal is known to have this identity: a restarted node says it again.

        Raises:
            BusError: the outbox stayed full for ``timeout`` seconds, or this process was replaced.
            CodecError: the event could never be accepted.
        """
        outbox = self._outboxes.get(node)
        if outbox is None:
            own = ", ".join(self._outboxes) or "nobody"
            raise BusError(f"this link does not speak for {node!r}, only for {own}")
        if len(body) > wire.MAX_BODY_BYTES or not wire.is_one_map(body):
            raise CodecError(
                f"the body of {event_type} ({len(body)} bytes) is not one msgpack map of at most "
                f"{wire.MAX_BODY_BYTES} bytes",
                "body",
            )
        encoded = self._encoded.get(event_type)
        if encoded is None:
            if not wire.NAME.fullmatch(event_type):
                raise CodecError(f"{event_type!r} is no event type name", "type")
            encoded = self._encoded[event_type] = event_type.encode()
            if self._wanted is not None:
                self._wanted |= {event_type}
        if len(outbox) >= self._limit:
            self._make_room(outbox, timeout)
        if self.fenced:
            raise BusError(self.fenced)
        if not len(outbox):
            self._progress_at = self._clock.monotonic()  # idleness before this was no stall
        if not outbox.add(cause, index, encoded, body):
            return False
        if outbox.greeted:
            self._push(outbox)
        return True

    def _make_room(self, outbox: Outbox, timeout: float) -> None:
        deadline = self._clock.monotonic() + timeout
        while len(outbox) >= self._limit:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                why = self.beacon.journal.reason if self.beacon is not None else ""
                raise BusError(
                    f"{len(outbox)} events of {outbox.node} have waited {timeout:g} s for the hub"
                    f"{': ' + why if why else ' and it is not there'}; the outbox holds {self._limit}"
                )
            self._wait(min(left, _SLICE_SECONDS))

    def last_identity(self, node: str) -> tuple[int, int, int]:
        """(cause, index, root index) of the last events of a node that the journal is known to have.

        After `connect` a restarted source of roots goes on numbering behind the third; -1 means none.
        """
        outbox = self._outboxes[node]
        return (*outbox.last, outbox.last_root)

    @property
    def outbox_size(self) -> int:
        """Events that were emitted and are not yet known to be in the journal."""
        return sum(len(outbox) for outbox in self._outboxes.values())

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything emitted is in the journal; whether that came true in time."""
        deadline = self._clock.monotonic() + timeout
        self._service()
        while self.outbox_size:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return False
            self._wait(min(left, _SLICE_SECONDS))
        return True

    def report(self, kind: str, body: Mapping[str, Any], node: str = "") -> bool:
        """Say something on the lossy side channel; False where it was dropped (and counted)."""
        return self._reporter.report(kind, node, self._incarnation, body)

    @property
    def reports_dropped(self) -> int:
        """Reports of this link that found no room."""
        return self._reporter.dropped

    def reports(self) -> list[Report]:
        """(kind, node, incarnation, body) of reports that were listened to, since the last call."""
        if not self._inbox:
            self._service()
        return self._listener.take()

    def close(self, linger_seconds: float = 0.5) -> None:
        """Give what is in the outbox a last chance, then close; never takes longer than about a second."""
        if self._context.closed:
            return
        if self.outbox_size and linger_seconds > 0 and self.is_connected and not self.fenced:
            self.flush(linger_seconds)
        self._reporter.close()
        for socket in (self._in, self._side, self._control, self._out):
            socket.close(linger=0)
        self._context.term()
        self._follower.close()

    # -- one turn -------------------------------------------------------------------------------------------

    @property
    def _is_settled(self) -> bool:
        """Whether there is nothing to do but wait for the next event."""
        waiting = self._fetching >= 0 or not self._boot or bool(self.fenced)
        for outbox in self._outboxes.values():
            waiting = waiting or not outbox.greeted or outbox.unsent > 0
        return not waiting

    def _await_event(self) -> None:
        """Wait for one event, at most a slice; look at everything else now and then.

        Waiting in the receiving call costs a third of polling all sockets, and no look into an empty queue.
        """
        try:
            event_type = self._recv()
            header, body = self._recv(), self._recv()
        except zmq.Again:
            self._look_around()
            return
        self._accept(event_type, header, body)
        if self._clock.monotonic() >= self._look_at:
            self._look_around()

    def _look_around(self) -> None:
        self._service([socket for socket, _ in zmq.zmq_poll(self._poll[1:], 0)])
        self._look_at = self._clock.monotonic() + _LOOK_SECONDS

    def _wait(self, seconds: float) -> None:
        """Wait for something to arrive, at most this long, and deal with it."""
        hurry = not self.is_connected or any(outbox.unsent for outbox in self._outboxes.values())
        seconds = min(seconds, _HURRY_SECONDS if hurry else _SLICE_SECONDS)
        # While events are missing, the live ones stay where they are: they would only be missing again.
        blocked = self._fetching >= 0 or len(self._inbox) >= _INBOX_LIMIT
        found = zmq.zmq_poll(self._poll[1:] if blocked else self._poll, max(1, round(seconds * 1000)))
        self._service([socket for socket, _ in found])

    def _service(self, ready: Collection[Any] | None = None) -> None:
        """One turn; ``ready`` are the sockets that have something, all of them are looked at without it."""
        if self.fenced:
            raise BusError(self.fenced)
        if self._fetching < 0 and len(self._inbox) < _INBOX_LIMIT and (ready is None or self._in in ready):
            self._receive()
        if ready is None or self._side in ready:
            self._listen()
        if ready is None or self._control in ready:
            self._answers()
        now = self._clock.monotonic()
        if not self.is_connected or self._fetching >= 0:
            if now - self._asked_at > _ASK_AGAIN_SECONDS:
                self._fetching = -1
                self._ask()
        elif self._head > self._seq >= 0 and (
            # Where gaps are normal, what is missing is not on its way.
            self._wakes_for_some or now - self._head_since > _GRACE_SECONDS
        ):
            self._catch_up()
        for outbox in self._outboxes.values():
            if outbox.greeted and len(outbox):
                self._push(outbox)
                self._resend_if_stalled(outbox, now)
        if self.fenced:
            raise BusError(self.fenced)

    def _push(self, outbox: Outbox) -> None:
        send = self._send
        try:
            while outbox.unsent:
                header, event_type, body = outbox.peek()
                send(header, MORE)
                send(event_type, MORE)
                send(body, NOW)
                outbox.sent()
        except zmq.Again:
            return  # no room, or no hub: they stay in the outbox

    def _resend_if_stalled(self, outbox: Outbox, now: float) -> None:
        """Go back N where nothing was acknowledged for a while although the hub is alive."""
        if outbox.unsent or now - self._progress_at < self._resend_after:
            return
        if self._seq < self._head and len(self._inbox) < _INBOX_LIMIT:
            return  # after a long handler the echoes may be among what is still to be read
        self._progress_at = now
        self._resend_after = min(2 * self._resend_after, _RESEND_SECONDS[1])
        self.counters["resends"] += 1
        outbox.greeted = False  # HELLO first: the hub may have lost track of the numbers
        outbox.rewind()
        self._ask()

    # -- events ---------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        recv, accept = self._recv, self._accept
        try:
            for _ in range(_AT_ONCE):
                event_type = recv(NOW)
                if not accept(event_type, recv(NOW), recv(NOW)):
                    return
        except zmq.Again:
            return

    def _accept(self, event_type: bytes, header_bytes: bytes, body: bytes) -> bool:
        """Take in one event; False while events before it are missing."""
        header = _decode_header(header_bytes)
        seq = header.seq
        if seq != self._seq + 1:
            if seq <= self._seq:
                self.counters["duplicates"] += not self._wakes_for_some
                return True
            self._announce(seq)
            if self._seq < 0:
                return True  # the head is not known yet: HEAD or WELCOME will say where to begin
            self._catch_up()
            return self._fetching < 0 and self._seq >= seq
        self._seq = seq
        if seq > self._head:
            self._head = seq
        outbox = self._outboxes.get(header.node)
        if outbox is not None:
            outbox.echo(header.cause, header.index)
            self._progressed()
        if self._types is None or event_type in self._types:
            name = self._names.get(event_type)
            if name is None:
                name = self._names[event_type] = event_type.decode()
            self._inbox.append(
                Record(
                    seq,
                    header.stamp_ns,
                    header.node,
                    header.incarnation,
                    header.cause,
                    header.index,
                    name,
                    body,
                )
            )
        return True

    def _progressed(self) -> None:
        self._progress_at = self._clock.monotonic()
        self._resend_after = _RESEND_SECONDS[0]

    def _announce(self, head: int) -> None:
        if head > self._head:
            self._head = head
            self._head_since = self._clock.monotonic()

    # -- what is missing ------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Read up to the announced head: from the file where there is one, else ask the hub for a chunk."""
        if self._remote or not self._follower.can_read:
            if self._fetching < 0:
                self.counters["catch_ups"] += 1
                self._fetch()
            return
        self.counters["catch_ups"] += not self._wakes_for_some
        while self._seq < self._head and len(self._inbox) < _INBOX_LIMIT:
            records = self._follower.read(self._seq + 1, self._head, self._wanted)
            if self._follower.seq <= self._seq + 1:
                return  # announced but not visible yet: the next turn tries again
            for record in records:
                self._take(record)
            self._seq = self._follower.seq - 1
        self._head_since = self._clock.monotonic()

    def _take(self, record: Record) -> None:
        self._seq = record.seq
        outbox = self._outboxes.get(record.node)
        if outbox is not None:
            outbox.echo(record.cause, record.index)
            self._progressed()
        if self._type_names is None or record.type in self._type_names:
            self._inbox.append(record)

    def _fetch(self) -> None:
        self._request += 1
        self._fetching = self._request
        self._asked_at = self._clock.monotonic()
        self._send_control(wire.Fetch(first=self._seq + 1, id=self._request))

    def _fetched(self, reply: wire.Records, chunk: bytes) -> None:
        if reply.id != self._fetching:
            return
        self._fetching = -1
        for raw in _decode_chunk(chunk):
            record = decode_record(bytes(raw))
            if record.seq == self._seq + 1:
                self._take(record)
        self._announce(reply.head)
        if self._seq < self._head and reply.count and len(self._inbox) < _INBOX_LIMIT:
            self._fetch()

    # -- control and side channel ---------------------------------------------------------------------------

    def _ask(self) -> None:
        """Say HELLO for every node that the present hub does not know; a mere listener asks for the head."""
        self._asked_at = self._clock.monotonic()
        seen = max(self._seq, 0)  # comes back as `id`: no answer may have a head below it
        if not self._boot or not self._outboxes:
            self._send_control(wire.HeadRequest(id=seen))
        for outbox in self._outboxes.values():
            if not outbox.greeted:
                self.counters["hellos"] += self._send_control(
                    wire.Hello(
                        node=outbox.node,
                        incarnation=self._incarnation,
                        session=self._session,
                        number=outbox.acknowledged,
                        id=seen,
                    )
                )

    def _send_control(self, request: wire.Request) -> bool:
        try:
            self._control.send(wire.encode(request), NOW)
        except zmq.Again:
            self._asked_at = -1e9  # no hub: the next turn asks again
            return False
        return True

    def _answers(self) -> None:
        while True:
            try:
                frames = self._control.recv_multipart(NOW)
            except zmq.Again:
                return
            try:
                reply = wire.decode_reply(frames[0])
                if isinstance(reply, wire.Records):
                    self._fetched(reply, frames[1])
                elif isinstance(reply, wire.Welcome):
                    self._welcomed(reply)
                elif isinstance(reply, wire.Head):
                    self._met(reply)
                elif isinstance(reply, wire.Refused):
                    self._refused(reply)
            except (msgspec.DecodeError, RecursionError, IndexError):
                self.counters["hostile"] += 1

    def _met(self, reply: wire.Head | wire.Welcome) -> None:
        if reply.boot != self._boot:
            for outbox in self._outboxes.values():
                outbox.greeted = False
            self._boot = reply.boot
            self._fetching = -1
        self.run = reply.run
        self._follower.learn_directory(reply.journal)
        if self._wakes_for_some and not self._follower.can_read:
            self._wakes_for_some = False
            self._in.setsockopt(zmq.SUBSCRIBE, b"")
        if reply.head < reply.id:
            raise BusError(
                f"the hub's journal ends at event {reply.head}, but this process has already seen "
                f"{reply.id}: it lost its tail or is another run's; start the nodes again from their last cut"
            )
        if self._seq < 0:
            self._seq = reply.head
        self._announce(reply.head)

    def _welcomed(self, reply: wire.Welcome) -> None:
        self._met(reply)
        outbox = self._outboxes.get(reply.node)
        if outbox is None or reply.incarnation != self._incarnation:
            return
        outbox.known(reply.cause, reply.index, reply.root)
        outbox.acknowledge(reply.number)
        outbox.rewind()
        outbox.greeted = True
        self._progressed()
        self._push(outbox)

    def _refused(self, reply: wire.Refused) -> None:
        if reply.node in self._outboxes:
            self.fenced = f"the hub refuses {reply.node} of incarnation {self._incarnation}: {reply.message}"
        elif reply.id == self._fetching:
            raise BusError(f"the hub cannot give event {self._seq + 1}: {reply.message}")

    def _listen(self) -> None:
        beacon = self._listener.listen()
        self.counters["hostile"] += self._listener.hostile
        self._listener.hostile = 0
        if beacon is not None:
            self._read_beacon(beacon)

    def _read_beacon(self, beacon: wire.Beacon) -> None:
        self.beacon = beacon
        if not self._boot:
            return
        if beacon.boot != self._boot:
            self._boot = ""
            for outbox in self._outboxes.values():
                outbox.greeted = False
            self._ask()
            return
        self._follower.learn_place(beacon, self._seq)
        self._announce(beacon.head)
        for name, outbox in self._outboxes.items():
            seen = beacon.nodes.get(name)
            if seen is None:
                continue
            if seen.incarnation > self._incarnation:
                self.fenced = (
                    f"{name} of incarnation {self._incarnation} was replaced by {seen.incarnation}: this "
                    "process must end"
                )
            elif outbox.greeted and seen.incarnation == self._incarnation and seen.number >= 0:
                outbox.known(seen.cause, seen.index, seen.root)
                if outbox.acknowledge(seen.number):
                    self._progressed()
