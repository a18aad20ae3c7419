"""Two runs side by side: where the same nodes said something else, and what came of it.

Nodes reach the hub in any order, so streams are compared node by node. Stamps, sequence numbers, causes and
incarnations belong to the journal and not to what a node said; facts of processes belong to the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from optix_bus.bus.codec import Codec
from optix_bus.bus.journal_reader import read_journal
from optix_bus.bus.record import Record
from optix_bus.errors import CodecError, ConfigurationError, JournalError
from optix_bus.messages import PROCESS_FACTS, Event, RunFinished, SnapshotSaved, WindowJudged
from optix_bus.runtime.replay_compare import exact

_LEFT_OUT = frozenset(kind.__name__ for kind in PROCESS_FACTS)
_TYPES: tuple[type[Event], ...] = (WindowJudged, SnapshotSaved, RunFinished)
_NAMES = frozenset(kind.__name__ for kind in _TYPES)
#: xxh3-128 of type and body.
_DIGEST = 16


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first event that is not the same.

    Attributes:
        node: whose.
        number: its place in the stream of the node, from 1.
        sequences: sequence number in A and in B; 0 where that run has no such event.
        types: its type in A and in B; empty where there is none.
        field: path of the first field that differs; ``type`` where types do; empty where one has no event.
        values: of that field, in A and in B.
    """

    node: str
    number: int
    sequences: tuple[int, int]
    types: tuple[str, str]
    field: str
    values: tuple[Any, Any]


@dataclass(slots=True)
class NodeStreams:
    """How much each run has of one node, and how many of the first are the same."""

    node: str
    a: int = 0
    b: int = 0
    equal: int = 0

    @property
    def same(self) -> bool:
        """Whether the node said the same in both runs."""
        return self.a == self.b == self.equal


@dataclass(slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        windows: that were judged.
        reason: why it finished; empty where it has not.
        best_score: of the policy that it left, or None.
        snapshots: SHA-256 of every snapshot, oldest first.
    """

    windows: int = 0
    reason: str = ""
    best_score: float | None = None
    snapshots: list[str] = field(default_factory=list)


@dataclass(slots=True)
class RunDiff:
    """Two runs side by side; ``first`` is the difference that comes first in A."""

    nodes: list[NodeStreams]
    first: Divergence | None
    a: Outcome
    b: Outcome

    @property
    def equal(self) -> bool:
        """Whether all nodes said the same."""
        return self.first is None


def diff_runs(a: Path, b: Path) -> RunDiff:
    """Compare two journals. Of A 16 bytes an event are held, of B nothing.

    Raises:
        ConfigurationError: one of them is damaged, so that there is nothing to compare.
    """
    digests: dict[str, bytearray] = {}
    outcomes = Outcome(), Outcome()
    for record in _spoken(a, outcomes[0]):
        digests.setdefault(record.node, bytearray()).extend(_digest(record))
    streams = {node: NodeStreams(node, len(found) // _DIGEST) for node, found in digests.items()}
    for record in _spoken(b, outcomes[1]):
        stream = streams.get(record.node)
        if stream is None:
            stream = streams[record.node] = NodeStreams(record.node)
        if stream.equal == stream.b < stream.a:
            start = stream.b * _DIGEST
            stream.equal += digests[record.node][start : start + _DIGEST] == _digest(record)
        stream.b += 1
    return RunDiff(sorted(streams.values(), key=lambda s: s.node), _first(a, b, streams), *outcomes)


def _first(a: Path, b: Path, streams: dict[str, NodeStreams]) -> Divergence | None:
    apart = {node: stream.equal for node, stream in streams.items() if not stream.same}
    if not apart:
        return None
    # A node that only B has more of differs behind everything that A has.
    in_a = _event_at(a, apart)
    leader = in_a or _event_at(b, apart)
    assert leader is not None
    node = leader.node
    in_b = _event_at(b, {node: apart[node]})
    found = ""
    values: tuple[Any, Any] = (None, None)
    if in_a is not None and in_b is not None:
        found, values = "type", (in_a.type, in_b.type)
        if in_a.type == in_b.type:
            difference = exact(in_a.type, in_a.body, in_b.body)
            assert difference is not None
            found, values = difference.field, (difference.expected, difference.found)
    return Divergence(
        node,
        apart[node] + 1,
        (in_a.seq if in_a else 0, in_b.seq if in_b else 0),
        (in_a.type if in_a else "", in_b.type if in_b else ""),
        found,
        values,
    )


def _event_at(journal: Path, places: dict[str, int]) -> Record | None:
    """The first event in the journal that is at one of these places (from 0) in its node's stream."""
    left = dict(places)
    for record in _spoken(journal, Outcome()):
        place = left.get(record.node)
        if place == 0:
            return record
        if place is not None:
            left[record.node] = place - 1
    return None


def _spoken(journal: Path, outcome: Outcome) -> Iterator[Record]:
    """What nodes said, without facts of processes; notes what came of the run."""
    codec = Codec(_TYPES)
    try:
        for record in read_journal(journal):
            if record.type in _NAMES:
                _note(codec, record, outcome)
            if record.type not in _LEFT_OUT:
                yield record
    except JournalError as error:
        raise ConfigurationError(f"there is nothing to compare: {error}") from None


def _note(codec: Codec, record: Record, outcome: Outcome) -> None:
    try:
        event: Any = codec.decode(record.type, record.body)
    except CodecError:
        return
    if isinstance(event, WindowJudged):
        outcome.windows += 1
    elif isinstance(event, SnapshotSaved):
        outcome.snapshots.append(event.sha256)
    elif isinstance(event, RunFinished):
        outcome.reason, outcome.best_score = event.reason, event.best_score


def _digest(record: Record) -> bytes:
    return xxhash.xxh3_128_digest(record.type.encode() + b"\0" + record.body)
