"""What one node has emitted and not yet seen in the order. The sending half of go-back-N."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from optix_bus.bus import wire

Frames = tuple[bytes, bytes, bytes]


class Entry(msgspec.Struct, gc=False):
    """One event waiting for its acknowledgement; ``frames`` is None until it was sent for the first time."""

    cause: int
    index: int
    type: bytes
    body: bytes
    frames: Frames | None = None


@dataclass
class Outbox:
    """The outbox of one node.

    Numbers are given when an event is first sent, not when it is emitted: an event that turns out to be known
    already is then dropped without leaving a hole in the numbers.

    Attributes:
        acknowledged: number of the first sent event that is not acknowledged; what HELLO announces.
        greeted: whether the present hub process has answered HELLO; nothing is sent before.
        last: (cause, index) and root index of the last identities that the journal is known to have.
    """

    node: str
    incarnation: int
    acknowledged: int = 0
    greeted: bool = False
    last: tuple[int, int] = (0, -1)
    last_root: int = -1
    already_known: int = 0
    _entries: deque[Entry] = field(default_factory=deque)
    _sent: int = 0
    _numbered: int = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def unsent(self) -> int:
        """Events that are to be sent."""
        return len(self._entries) - self._sent

    @property
    def next_number(self) -> int:
        """The number that the next new event will get."""
        return self.acknowledged + self._numbered

    def add(self, cause: int, index: int, event_type: bytes, body: bytes) -> bool:
        """Take an event; False where the journal has its identity already."""
        if self._is_known(cause, index):
            self.already_known += 1
            return False
        self._entries.append(Entry(cause, index, event_type, body))
        return True

    def _is_known(self, cause: int, index: int) -> bool:
        return index <= self.last_root if cause == 0 else (cause, index) <= self.last

    def peek(self) -> Frames:
        """Frames of the next event to send."""
        entry = self._entries[self._sent]
        if entry.frames is None:
            header = wire.encode(
                (
                    wire.PROTOCOL_VERSION,
                    self.node,
                    self.incarnation,
                    self.acknowledged + self._sent,
                    entry.cause,
                    entry.index,
                )
            )
            entry.frames = (header, entry.type, entry.body)
        return entry.frames

    def sent(self) -> None:
        """What `peek` gave was sent."""
        self._sent += 1
        self._numbered = max(self._numbered, self._sent)

    def rewind(self) -> None:
        """Send everything again that is not acknowledged."""
        self._sent = 0

    def echo(self, cause: int, index: int) -> None:
        """An event of this node was seen in the order."""
        if cause == 0:
            self.last_root = max(self.last_root, index)
        else:
            self.last = max(self.last, (cause, index))
        entries = self._entries
        if entries and entries[0].index == index and entries[0].cause == cause:
            self._drop_first()

    def acknowledge(self, number: int) -> bool:
        """The hub has journaled everything below ``number``; whether that was news."""
        news = False
        while self._numbered and self.acknowledged < number:
            self._drop_first()
            news = True
        return news

    def known(self, cause: int, index: int, root: int) -> None:
        """The journal has identities up to these; what waits and is among them needs no sending."""
        self.last = max(self.last, (cause, index))
        self.last_root = max(self.last_root, root)
        while self._entries and self._is_known(self._entries[0].cause, self._entries[0].index):
            self._drop_first()

    def _drop_first(self) -> None:
        entry = self._entries.popleft()
        if self._sent:
            self._sent -= 1
        if self._numbered:
            self._numbered -= 1
            self.acknowledged += 1
        elif entry.frames is not None:
            entry.frames = None

    def oldest(self, count: int) -> list[tuple[int, int]]:
        """Identities of the first that wait, for error messages."""
        return [(entry.cause, entry.index) for entry in islice(self._entries, count)]
