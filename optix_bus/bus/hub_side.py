"""The hub's end of the side channel: lossy, counted, never waited for."""

from __future__ import annotations

import msgspec
import zmq

from optix_bus.bus import wire
from optix_bus.bus.ledger import Ledger

_AT_ONCE = 256


class SideDesk:
    """Forwards reports of nodes as they are, and adds the hub's own: the beacon and its words."""

    def __init__(
        self,
        incoming: zmq.Socket[bytes],
        outgoing: zmq.Socket[bytes],
        ledger: Ledger,
        counters: dict[str, int],
    ) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._ledger = ledger
        self._counters = counters

    def forward(self) -> None:
        """Pass on what has arrived, a bounded number at once."""
        for _ in range(_AT_ONCE):
            try:
                frames = self._incoming.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if not self._is_report(frames):
                self._counters["hostile_report"] = self._counters.get("hostile_report", 0) + 1
                continue
            self._outgoing.send_multipart(frames, zmq.NOBLOCK)

    def _is_report(self, frames: list[bytes]) -> bool:
        """Whether this is [kind, [version, node, incarnation], map]; notes how far a node has come."""
        if len(frames) != 3 or len(frames[2]) > wire.MAX_SIDE_BYTES or not wire.is_one_map(frames[2]):
            return False
        kind, header, body = frames
        if kind in (b"beacon", b"hub") or not wire.NAME.fullmatch(kind[:65].decode("ascii", "replace")):
            return False
        try:
            sender = wire.decode_side_header(header)
            if kind == b"heartbeat":
                state = self._ledger.nodes.get(sender.node)
                if state is not None and state.incarnation == sender.incarnation:
                    state.progress = wire.decode_progress(body).seq
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return False
        return True

    def beacon(self, beacon: wire.Beacon) -> None:
        """Say what the hub has."""
        self._outgoing.send_multipart([b"beacon", wire.encode(beacon)], zmq.NOBLOCK)

    def say(self, about: str, words: str) -> None:
        """The hub's own log line, as kind ``hub``."""
        header = wire.encode((wire.PROTOCOL_VERSION, "", 0))
        body = wire.encode({"about": about, "message": words})
        self._outgoing.send_multipart([b"hub", header, body], zmq.NOBLOCK)
