"""A hub in a thread that can be killed, and a client that knows only frames."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import msgpack
import zmq

from optix_bus.bus.clock import Clock
from optix_bus.bus.endpoints import HubEndpoints
from optix_bus.bus.hub import Hub, HubSettings
from optix_bus.bus.journal_reader import read_journal
from optix_bus.bus.link import Link
from optix_bus.bus.record import Record

EMPTY = b"\x80"


def body(**fields: Any) -> bytes:
    """A body, by the plain msgpack package."""
    packed = msgpack.packb(fields)
    assert isinstance(packed, bytes)
    return packed


class HubThread:
    """A hub that turns in a thread; `kill` leaves everything as SIGKILL would."""

    def __init__(self, base: Path, clock: Clock | None = None, **settings: Any) -> None:
        self.settings = HubSettings(directory=str(base / "s"), journal=str(base / "j"), **settings)
        self.journal = base / "j"
        self.endpoints = HubEndpoints.in_directory(base / "s")
        self._clock = clock
        self.start()

    def start(self) -> None:
        self.hub = Hub(self.settings, self._clock)
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop:
            self.hub.step(0.02)

    def _halt(self) -> None:
        self._stop = True
        self._thread.join()

    def kill(self) -> None:
        self._halt()
        self.hub.close(orderly=False)

    def stop(self) -> None:
        if not self._stop:
            self._halt()
            self.hub.close()

    def records(self) -> list[Record]:
        return list(read_journal(self.journal))


def collect(link: Link, count: int, timeout: float = 20.0) -> list[Record]:
    """Poll until so many events have come."""
    found: list[Record] = []
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found += link.poll(0.1)
        if len(found) >= count:
            return found
    raise AssertionError(f"only {len(found)} of {count} events came within {timeout} s: {link.counters}")


class RawClient:
    """Frames and msgpack, nothing of ours: what a hostile or foreign peer can do."""

    def __init__(self, endpoints: HubEndpoints) -> None:
        self._context = zmq.Context()
        self.push = self._socket(zmq.PUSH, endpoints.events_in)
        self.control = self._socket(zmq.DEALER, endpoints.control)
        self.side = self._socket(zmq.SUB, endpoints.side_out)
        self.side.setsockopt(zmq.SUBSCRIBE, b"")

    def _socket(self, kind: int, address: str) -> Any:
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.rcvtimeo = 10_000
        socket.connect(address)
        return socket

    def ask(self, request: Any) -> Any:
        self.control.send(request if isinstance(request, bytes) else msgpack.packb(request))
        return msgpack.unpackb(self.control.recv_multipart()[0])

    def hello(self, node: str, incarnation: int = 1, session: str = "raw", number: int = 0) -> Any:
        return self.ask(
            {"op": "hello", "node": node, "incarnation": incarnation, "session": session, "number": number}
        )

    def send(
        self,
        node: str,
        number: int,
        index: int,
        *,
        cause: int = 0,
        incarnation: int = 1,
        event_type: str = "Tick",
        packed: bytes = EMPTY,
    ) -> None:
        header = msgpack.packb([1, node, incarnation, number, cause, index])
        self.push.send_multipart([header, event_type.encode(), packed])

    def beacon(self) -> Any:
        """The next beacon."""
        while True:
            frames = self.side.recv_multipart()
            if frames[0] == b"beacon":
                return msgpack.unpackb(frames[1])

    def beacon_when(self, condition: Any, tries: int = 100) -> Any:
        """The first beacon for which something holds; of a node that it does not name yet, nothing does."""
        last = None
        for _ in range(tries):
            last = self.beacon()
            with contextlib.suppress(KeyError):
                if condition(last):
                    return last
        raise AssertionError(f"no such beacon; the last one was {last}")

    def close(self) -> None:
        self._context.destroy(linger=0)
