"""A link's ear on the side channel: the last beacon, and the reports it asked for."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
import zmq

from optix_bus.bus import wire

#: (kind, node, incarnation, body)
Report = tuple[str, str, int, dict[str, Any]]

_AT_ONCE = 512
_KEPT = 10_000


class SideListener:
    """Reads what has arrived without waiting. The channel is lossy, so the oldest reports may go.

    Attributes:
        hostile: messages that were none.
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._reports: deque[Report] = deque(maxlen=_KEPT)
        self.hostile = 0

    def listen(self) -> wire.Beacon | None:
        """Read what is there; returns the newest beacon among it, if there was one."""
        latest = None
        for _ in range(_AT_ONCE):
            frames = self._next()
            if frames is None:
                break
            if frames[0] == b"beacon":
                latest = frames[-1]
            else:
                self._report(frames)
        if latest is None:
            return None
        try:
            return wire.decode_beacon(latest)
        except msgspec.DecodeError:
            self.hostile += 1
            return None

    def _next(self) -> list[bytes] | None:
        try:
            return self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def _report(self, frames: list[bytes]) -> None:
        try:
            sender = wire.decode_side_header(frames[1])
            body = wire.decode_map(frames[2])
            self._reports.append((frames[0].decode(), sender.node, sender.incarnation, body))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, IndexError):
            self.hostile += 1

    def take(self) -> list[Report]:
        """Reports since the last call."""
        found = list(self._reports)
        self._reports.clear()
        return found
