"""The hub: the one process that orders events.

It takes events from nodes (PULL), gives each the next number and a stamp, appends them to the journal and
only then publishes them (PUB). It answers HELLO, HEAD and FETCH (ROUTER), forwards the side channel, and
repeats every 100 ms what it has. It holds no log in memory and knows no event type.

    python -m optix_bus.bus.hub --directory SOCKETS --journal JOURNAL
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import zmq

from optix_bus.bus import wire
from optix_bus.bus.clock import Clock, SystemClock
from optix_bus.bus.endpoints import HubEndpoints, make_private
from optix_bus.bus.hub_control import ControlDesk
from optix_bus.bus.hub_intake import Intake
from optix_bus.bus.hub_side import SideDesk
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import Ledger
from optix_bus.bus.sockets import MORE, NOW, READABLE, compiled
from optix_bus.errors import OptixError
from optix_bus.failpoints import reached
from optix_bus.settings import setting

#: Events that follow each other faster than this are taken in batches.
_BURST_SECONDS = 0.0002
#: A node that never stops sending must not keep the hub from stopping; what is left stays in its outbox.
_DRAIN_BATCHES = 100


@dataclass(frozen=True)
class HubSettings:
    """How one hub works."""

    directory: str = setting("", "Private directory (0700) for the sockets; keep it short.")
    journal: str = setting("", "Directory of the journal.")
    run: str = setting("", "Name of the run; a journal of another run is refused.")
    sync_seconds: float = setting(1.0, "Most that a power cut can lose.", above=0, unit="seconds")
    sync_each: tuple[str, ...] = setting((), "Event types that are synced before anybody sees them.")
    segment_bytes: int = setting(64 * 1024 * 1024, "Size at which a new journal file begins.", minimum=4096)
    batch_events: int = setting(512, "Most events in one write.", minimum=1)
    beacon_seconds: float = setting(0.1, "How often the hub says what it has.", above=0, unit="seconds")
    queue_events: int = setting(2000, "Events kept for a slow subscriber before it must fetch.", minimum=1)


class Hub:
    """All of the hub but its process; `step` is one turn of its loop.

    Raises:
        ConfigurationError: the socket directory is not private.
        JournalError: the journal is in use, damaged, or another run's.
    """

    def __init__(self, settings: HubSettings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock if clock is not None else SystemClock()
        self.endpoints = HubEndpoints.in_directory(make_private(settings.directory))
        self.boot = secrets.token_hex(8)
        self.ledger = Ledger()
        self.counters: dict[str, int] = {}
        self.journal = JournalWriter(
            Path(settings.journal).absolute(),
            self.ledger,
            run=settings.run,
            segment_bytes=settings.segment_bytes,
            sync_seconds=settings.sync_seconds,
        )
        self._each = frozenset(settings.sync_each)
        self._context = zmq.Context(io_threads=1)
        self._sockets: list[zmq.Socket[bytes]] = []
        self._in = self._bind(zmq.PULL, self.endpoints.events_in)
        self._out = self._bind(zmq.PUB, self.endpoints.events_out)
        control = self._bind(zmq.ROUTER, self.endpoints.control)
        side_in = self._bind(zmq.PULL, self.endpoints.side_in)
        side_out = self._bind(zmq.PUB, self.endpoints.side_out)
        self._side = SideDesk(side_in, side_out, self.ledger, self.counters)
        self._control = ControlDesk(control, self.journal, self.ledger, self.boot, self.counters)
        self._intake = Intake(self._in, self.journal, self.ledger, self.clock, self.counters)
        self._poll = [(socket, READABLE) for socket in (self._in, control, side_in)]
        self._send = compiled(self._out).send
        self._control_socket = control
        self._next_beacon = self.clock.monotonic()
        self._ordered_at = 0.0
        self._was_failing = False
        if self.journal.torn_bytes:
            self.counters["torn_bytes"] = self.journal.torn_bytes
            self._side.say("journal", f"cut {self.journal.torn_bytes} torn bytes off the journal's tail")

    def _bind(self, kind: int, address: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        self._sockets.append(socket)
        socket.linger = 0
        socket.setsockopt(zmq.MAXMSGSIZE, 2 * wire.MAX_BODY_BYTES)
        socket.set_hwm(self.settings.queue_events)
        socket.bind(address)
        return socket

    def step(self, timeout_seconds: float) -> int:
        """Wait for work at most this long, do it, and return how many events were published."""
        until_beacon = self._next_beacon - self.clock.monotonic()
        published = 0
        if until_beacon > 0:
            wait = round(min(timeout_seconds, until_beacon) * 1000)
            # While the journal refuses, events stay in the queues of the nodes, which feel the pressure.
            failing = bool(self._intake.waiting)
            ready = zmq.zmq_poll(self._poll[1:] if failing else self._poll, wait)
            for socket, _ in ready:
                if socket is self._in:
                    published = self._order()
                elif socket is self._control_socket:
                    self._control.serve(busy=failing)
                else:
                    self._side.forward()
        if self.clock.monotonic() >= self._next_beacon:
            published += self._tick()
        return published

    def _order(self) -> int:
        # Alone, an event costs one look into the queue and not a second one that finds it empty.
        now = self.clock.monotonic()
        self._intake.take(self.settings.batch_events if now - self._ordered_at < _BURST_SECONDS else 1)
        published = self._commit()
        self._ordered_at = self.clock.monotonic()
        return published

    def _commit(self) -> int:
        intake = self._intake
        if not intake.waiting:
            self.ledger.settle()
            return 0
        reached("journal.append.before")
        count = intake.write()
        if count:
            reached("publish.before")
            if self._each and not self._each.isdisjoint(intake.types(count)):
                self.journal.sync()
            out = self._send
            for event_type, header, body in intake.published(count):
                out(event_type, MORE)
                out(header, MORE)
                out(body, NOW)
            reached("publish.after")
        if intake.waiting:
            self._report_failure()
        else:
            self.ledger.settle()
            if self._was_failing:
                self._was_failing = False
                self._side.say("journal", "the journal can be written again; nothing was lost")
            if self.journal.is_full and not self.journal.rotate():
                self._report_failure()
        return count

    def _report_failure(self) -> None:
        if not self._was_failing:
            self._was_failing = True
            self.counters["journal_failures"] = self.counters.get("journal_failures", 0) + 1
            self._side.say(
                "journal",
                f"the journal in {self.settings.journal} cannot be written: {self.journal.failure}; events "
                "wait in the outboxes of their nodes; make room on the disk",
            )

    def _tick(self) -> int:
        self._next_beacon = self.clock.monotonic() + self.settings.beacon_seconds
        published = self._commit() if self._intake.waiting else 0
        self.journal.check()
        for refusal in self._intake.take_refusals():
            self._side.say("refused", refusal)
        segment, offset = self.journal.position
        failing = bool(self._intake.waiting) or bool(self.journal.failure)
        self._side.beacon(
            wire.Beacon(
                version=wire.PROTOCOL_VERSION,
                boot=self.boot,
                run=self.journal.run,
                head=self.journal.head,
                nodes={
                    name: wire.NodeBeacon(
                        state.incarnation,
                        state.journaled,
                        *self._intake.journaled_identity(name, state),
                        state.progress,
                    )
                    for name, state in self.ledger.nodes.items()
                },
                counters=self.counters,
                journal=wire.JournalState(
                    state="failing" if failing else "ok",
                    reason=self.journal.failure,
                    segment=segment,
                    offset=offset,
                    synced=self.journal.synced,
                ),
            )
        )
        return published

    def drain(self) -> None:
        """Order what has already arrived, up to a bound; the end of an orderly stop."""
        for _ in range(_DRAIN_BATCHES):
            if self._intake.waiting or not self._in.poll(0):
                break
            self._order()
        self._tick()

    def close(self, *, orderly: bool = True) -> None:
        """Close sockets and journal. Not orderly leaves everything as SIGKILL would."""
        try:
            if orderly:
                self.drain()
        finally:
            for socket in self._sockets:
                socket.close(linger=200 if orderly else 0)
            self._context.term()
            self._control.close()
            self.journal.close(orderly=orderly)
            if orderly:
                for address in vars(self.endpoints).values():
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(address.removeprefix("ipc://"))


def serve(settings: HubSettings, *, ready: Callable[[], None] | None = None) -> None:
    """Run a hub in this process until SIGTERM or SIGINT, then stop in order. Call it in the main thread.

    ``ready`` is called once the sockets are open. A supervisor starts the hub in a session of its own,
    so that Ctrl-C reaches the hub only through the supervisor, after the nodes.
    """
    stopping: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        stopping.append(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    hub = Hub(settings)
    try:
        if ready is not None:
            ready()
        while not stopping:
            hub.step(settings.beacon_seconds)
    except BaseException:
        hub.close(orderly=False)
        raise
    hub.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The hub as a program of its own; returns its exit code."""
    defaults = HubSettings()
    parser = argparse.ArgumentParser(prog="python -m optix_bus.bus.hub", description="Run a hub.")
    parser.add_argument("--directory", required=True, help="private directory for the sockets")
    parser.add_argument("--journal", required=True, help="directory of the journal")
    parser.add_argument("--run", default=defaults.run, help="name of the run")
    parser.add_argument("--sync-seconds", type=float, default=defaults.sync_seconds)
    parser.add_argument("--sync-each", action="append", default=[], metavar="TYPE")
    parser.add_argument("--segment-bytes", type=int, default=defaults.segment_bytes)
    given = vars(parser.parse_args(arguments))
    given["sync_each"] = tuple(given["sync_each"])
    try:
        serve(HubSettings(**given))
    except OptixError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
