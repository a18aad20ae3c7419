"""What reading a whole journal has found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from optix_bus.bus.journal_files import segment_path

#: A damaged disk can make millions; nobody reads more, and memory stays bounded.
MAX_DAMAGES = 1000


@dataclass(slots=True)
class Damage:
    """One place where a journal is not as a hub wrote it.

    Attributes:
        segment: the first event of the segment, which names its file.
        offset: byte in that file.
        end: first byte behind it.
        event: the sequence number that was due there.
        kind: bytes (that may have held events), record (that held none), hole, order, rule, body, state,
            ending or mark.
        text: what is wrong.
        before: the last event in front of it that can be read; 0 for none.
        lost: (first, last) event that cannot be read because of it; ``last`` is 0 where nobody knows it.
        after: the first event behind it that can be read; 0 for none.
    """

    segment: int
    offset: int
    end: int
    event: int
    kind: str
    text: str
    before: int = 0
    lost: tuple[int, int] | None = None
    after: int = 0

    def __str__(self) -> str:
        place = f"{segment_path(Path(), self.segment)}, byte {self.offset}, event {self.event}"
        if self.lost is None:
            return f"{place}: {self.text}"
        first, last = self.lost
        which = f"event {first} is" if first == last else f"events {first} to {last or '?'} are"
        before = f"readable up to {self.before}" if self.before else "nothing in front of it can be read"
        behind = f"again from {self.after}" if self.after else "nothing behind it"
        return f"{place}: {self.text}; {which} lost, {before}, {behind}"


@dataclass(slots=True)
class SegmentReport:
    """One segment. ``head`` is its last event, or the one before it; ``ending`` is whole, none or damaged."""

    first_seq: int
    size: int = 0
    events: int = 0
    head: int = 0
    ending: str = "none"
    torn_bytes: int = 0
    damages: int = 0


@dataclass(slots=True)
class JournalReport:
    """A whole journal.

    Attributes:
        directory: where it lies.
        run: the run that it belongs to.
        segments: oldest first.
        events: how many can be read.
        counts: how many of them by (node, type).
        unknown: how many of a type that the vocabulary does not have.
        incarnations: those that said HELLO, by node.
        pieces: (first, last) of each row of events without a gap, in the order of the files.
        first_ns: stamp of the first event.
        last_ns: stamp of the last.
        closed: whether its last segment got its ending.
        damages: the first thousand; ``further`` more were found.
        notes: what is worth knowing and no damage.
    """

    directory: Path
    run: str = ""
    segments: list[SegmentReport] = field(default_factory=list)
    events: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    incarnations: dict[str, list[int]] = field(default_factory=dict)
    pieces: list[tuple[int, int]] = field(default_factory=list)
    first_ns: int = 0
    last_ns: int = 0
    closed: bool = False
    damages: list[Damage] = field(default_factory=list)
    further: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self.segments)

    @property
    def torn_bytes(self) -> int:
        """What the last hub left half written."""
        return self.segments[-1].torn_bytes if self.segments else 0

    @property
    def is_clean(self) -> bool:
        """Whether everything is as a hub wrote it; a torn tail is."""
        return not self.damages

    @property
    def usable(self) -> tuple[int, int]:
        """(first, last) event that a reader from the start gets; (0, 0) where there is none."""
        return self.pieces[0] if self.pieces else (0, 0)

    def by_type(self) -> dict[str, int]:
        """Events of each type, most first."""
        return self._by(1)

    def by_node(self) -> dict[str, int]:
        """Events of each node, most first."""
        return self._by(0)

    def _by(self, place: int) -> dict[str, int]:
        total: Counter[str] = Counter()
        for key, count in self.counts.items():
            total[key[place]] += count
        return dict(total.most_common())
