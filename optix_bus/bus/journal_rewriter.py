"""Writes the records of one journal into another, as far as they may follow each other."""

from __future__ import annotations

from pathlib import Path

from optix_bus.bus.journal_files import HELLO
from optix_bus.bus.journal_rules import JournalRules
from optix_bus.bus.journal_whole import Metadata
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.record import Stored
from optix_bus.errors import JournalError

#: The session of a HELLO that was lost; its incarnation is in the events.
LOST_SESSION = "lost"
_BATCH = 512


class JournalRewriter:
    """A journal that is made of records of another; a context manager that closes it.

    Args:
        folder: where it goes; not there yet, or empty.
        run: name of the run.
        rules: what is known where it begins.
        first: its first event.
        remarks: gets a sentence for everything that is not as it was.
        lenient: the first event is taken whatever it is.

    Attributes:
        next: the event that it needs next.
        moved: an event stands at another place than before.
    """

    def __init__(
        self,
        folder: Path,
        run: str,
        rules: JournalRules,
        first: int,
        remarks: list[str],
        *,
        lenient: bool = False,
    ) -> None:
        self._rules = rules
        self._lenient_for = first if lenient else 0
        self._remarks = remarks
        self._writer = JournalWriter(folder, rules.ledger, run=run, first_seq=first)
        self._entries: list[bytes] = []
        self._topics: list[str] = []
        self._stamps: list[int] = []
        self._end = self._writer.position[1]
        self.next = first
        self.moved = False

    def __enter__(self) -> JournalRewriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            self._writer.close(orderly=kind is None)

    def enter(self, segment: int) -> None:
        """What comes next stood in this segment: begin one too, where it has the same first event."""
        self._flush()
        begun = self._writer.position[0]
        if segment == self.next and begun < segment and not self._writer.rotate():
            raise JournalError(f"{self._writer.directory} cannot be written: {self._writer.failure}")
        self._end = self._writer.position[1]

    def metadata(self, content: Metadata) -> None:
        """A HELLO; everything else is said by the writer itself."""
        if content.name != HELLO:
            return
        pairs = content.pairs
        try:
            node, incarnation, session = pairs["node"], int(pairs["incarnation"]), pairs["session"]
        except (KeyError, ValueError):
            wrong = "it cannot be understood"
        else:
            wrong = self._rules.hello(node, incarnation, session)
            if not wrong:
                self._hello(node, incarnation, session)
        if wrong:
            self._remarks.append(f"a HELLO before event {self.next} was left out: {wrong}")

    def event(self, content: Stored, data: bytes, place: tuple[int, int]) -> bool:
        """An event; False, and nothing is written, where it breaks a rule."""
        node, incarnation = content.node, content.incarnation
        state = self._rules.ledger.nodes.get(node)
        if self._rules.has_hub and (state is None or state.incarnation < incarnation):
            self._rules.hello(node, incarnation, LOST_SESSION)
            self._hello(node, incarnation, LOST_SESSION)
            self._remarks.append(
                f"no HELLO of incarnation {incarnation} of {node} is before event {content.seq}: one is "
                "written there"
            )
        wrong = self._rules.event(content)
        if wrong and content.seq != self._lenient_for:
            self._remarks.append(f"event {content.seq} cannot follow the one before it: {wrong}")
            return False
        entry = self._writer.encode(content.type, content.seq, content.stamp_ns, data)
        self._end += len(entry)
        self.moved = self.moved or (self._writer.position[0], self._end) != place
        self._entries.append(entry)
        self._topics.append(content.type)
        self._stamps.append(content.stamp_ns)
        self.next = content.seq + 1
        if len(self._entries) == _BATCH:
            self._flush()
        return True

    def _hello(self, node: str, incarnation: int, session: str) -> None:
        self._flush()
        if not self._writer.append_hello(node, incarnation, session):
            raise JournalError(f"{self._writer.directory} cannot be written: {self._writer.failure}")
        self._end = self._writer.position[1]

    def _flush(self) -> None:
        if self._entries:
            count = self._writer.append(self._entries, self._topics, self._stamps)
            if count != len(self._entries):
                raise JournalError(f"{self._writer.directory} cannot be written: {self._writer.failure}")
            self._entries, self._topics, self._stamps = [], [], []
