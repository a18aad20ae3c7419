"""A node that counts: a closed fold over the journal, in a process that can be killed at any time.

`python -m tests.processes.counting_node SOCKETS NAME INCARNATION TOKENS HOPS`. Node k handles the counts that
node k-1 emitted and answers each with the next count, together with how many it has handled and a digest of
all of them: a lost, repeated or reordered event would change everything behind it.
"""

from __future__ import annotations

import sys
import zlib

import msgpack

from optix_bus.bus.endpoints import HubEndpoints
from optix_bus.bus.link import Link
from optix_bus.bus.record import Record

NODES = ("n0", "n1", "n2", "n3")
TYPE = "Counted"


class CountingFold:
    """The node's mind; the test runs the same over the finished journal."""

    def __init__(self, name: str, tokens: int, hops: int) -> None:
        self.name = name
        self._place = NODES.index(name)
        self._tokens = tokens
        self._hops = hops
        self._handled = 0
        self._digest = 0

    def roots(self) -> list[tuple[int, int, bytes]]:
        """(cause, index, body) of what is emitted at the start."""
        if self._place:
            return []
        return [(0, token, msgpack.packb({"token": token, "hop": 1})) for token in range(self._tokens)]

    def handle(self, record: Record) -> list[tuple[int, int, bytes]]:
        """(cause, index, body) of what this event makes the node emit."""
        event = msgpack.unpackb(record.body)
        if event["hop"] % len(NODES) != self._place or event["hop"] >= self._hops:
            return []
        self._handled += 1
        self._digest = zlib.crc32(record.body, self._digest)
        answer = {
            "token": event["token"],
            "hop": event["hop"] + 1,
            "handled": self._handled,
            "digest": self._digest,
        }
        return [(record.seq, 0, msgpack.packb(answer))]


def main() -> None:
    sockets, name, incarnation, tokens, hops = sys.argv[1:]
    fold = CountingFold(name, int(tokens), int(hops))
    link = Link(HubEndpoints.in_directory(sockets), [name], int(incarnation))
    link.connect(60.0)
    for cause, index, body in fold.roots():
        link.emit(name, cause, index, TYPE, body)
    while True:
        for record in link.poll(1.0):
            for cause, index, body in fold.handle(record):
                link.emit(name, cause, index, TYPE, body, timeout=60.0)


if __name__ == "__main__":
    main()
