"""A sender of heartbeats and log lines, for one thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import zmq

from optix_bus.bus import wire
from optix_bus.bus.endpoints import HubEndpoints

_QUEUE = 1000


class Reporter:
    """Sends on the lossy side channel and never waits. ZeroMQ sockets belong to one thread: a thread that
    reports beside a link has a reporter of its own.

    Attributes:
        dropped: reports that found no room.
    """

    def __init__(self, endpoints: HubEndpoints, context: zmq.Context[Any] | None = None) -> None:
        self._own = zmq.Context() if context is None else None
        self._socket: zmq.Socket[bytes] = (context or self._own or zmq.Context()).socket(zmq.PUSH)
        self._socket.linger = 0
        self._socket.set_hwm(_QUEUE)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self._socket.connect(endpoints.side_in)
        self.dropped = 0

    def report(self, kind: str, node: str, incarnation: int, body: Mapping[str, Any]) -> bool:
        """Send a report of this kind (``heartbeat``, ``log``, ...); False where it was dropped.

        A heartbeat's body may hold ``seq``, the last event that the node has handled.
        """
        try:
            self._socket.send_multipart(
                [
                    kind.encode(),
                    wire.encode((wire.PROTOCOL_VERSION, node, incarnation)),
                    wire.encode(dict(body)),
                ],
                zmq.NOBLOCK,
            )
        except zmq.Again:
            self.dropped += 1
            return False
        return True

    def close(self) -> None:
        """Close the socket; what was not sent is lost."""
        self._socket.close(linger=0)
        if self._own is not None:
            self._own.term()
