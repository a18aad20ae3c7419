"""Feeding recorded events to nodes again, and comparing what they emit with what they emitted then.

    playback = Playback(folds)
    for record in read_journal(run.journal):
        played = playback.feed(record)
        if played.divergences: ...

The recorded events stay the truth: a node gets what the journal holds, never what another played node has
just emitted. What it emits waits in a queue until the journal says the same, event by event: who (node), when
(cause and index), what (type and body, byte for byte). Where a cut was announced, the state of every played
node is compared in the same way, by its checksum in `CutTaken`.

Who goes on where a journal ends takes `Playback.pending`: emitted, and not recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from optix_bus.bus.codec import Codec
from optix_bus.bus.record import Record
from optix_bus.errors import CodecError, NodeFailure, OptixError
from optix_bus.messages import VOCABULARY, CutAnnounced, CutTaken, Event
from optix_bus.runtime.cuts import Taken, take, takes_part
from optix_bus.runtime.fold import Fold
from optix_bus.runtime.recovery import is_answered
from optix_bus.runtime.replay_compare import Compare, exact

Kind = Literal["differs", "missing", "extra"]


@dataclass(frozen=True, slots=True)
class Emission:
    """What a node emitted: its identity (node, cause, index), its encoded form, and the event itself."""

    node: str
    cause: int
    index: int
    type: str
    body: bytes
    event: Event


@dataclass(frozen=True, slots=True)
class Divergence:
    """One thing that a node does otherwise than recorded.

    Attributes:
        sequence: the recorded event with which the comparison failed.
        node: who emitted it.
        kind: ``differs``; ``missing``, where the node emits nothing although the journal holds an event;
            ``extra``, where it emits what the journal does not hold.
        type: of the recorded event, or of the extra one.
        cause: the event in whose handler the difference was made.
        field: path of the first field that differs, as ``score`` or ``data.checksum``; for an event that is
            missing or extra, or of another type, ``type``.
        expected: what is recorded, None for nothing.
        found: what the node emitted now, None for nothing; for ``missing`` also what it raised.
    """

    sequence: int
    node: str
    kind: Kind
    type: str
    cause: int
    field: str
    expected: Any
    found: Any
    #: What the node emitted now, for ``differs`` and ``extra``.
    emission: Emission | None = None

    def __str__(self) -> str:
        """One line for people."""
        where = f"event {self.sequence}"
        if self.kind == "missing":
            now = "emits nothing for it" if self.found is None else f"raises {self.found}"
            return (
                f"{where}: the journal holds {self.type} of {self.node!r}, answering event {self.cause}; "
                f"now the node {now}"
            )
        if self.kind == "extra":
            return (
                f"{where}: {self.node!r} now emits {self.type}, answering event {self.cause}; the journal "
                "does not hold it"
            )
        return (
            f"{where}: {self.type} of {self.node!r}, answering event {self.cause}: {self.field} was "
            f"{shortened(self.expected)}, now {shortened(self.found)}"
        )


@dataclass(frozen=True, slots=True)
class Played:
    """What one recorded event led to. ``event`` is None where it is not of the vocabulary."""

    record: Record
    event: Event | None
    emitted: Sequence[Emission] = ()
    divergences: Sequence[Divergence] = ()


class HandlerFailure(NodeFailure):
    """A node raised while it was played; ``__cause__`` is what it raised."""

    def __init__(self, node: str, record: Record, error: Exception) -> None:
        super().__init__(f"{node!r} in {record.type} (event {record.seq}): {type(error).__name__}: {error}")
        self.node = node
        self.sequence = record.seq


class Playback:
    """Feeds recorded events to folds whose nodes are set up, and have loaded their states if there are any.

    Args:
        folds: the nodes to be played, in the order in which they act on one event.
        since: the event up to which the nodes' states know everything already; 0 for none. What the journal
            holds behind it but was emitted before it is input only.
        compare: finds the first difference of two bodies that are not the same; exact unless told otherwise.
        go_on: whether the nodes get an event that itself differs from what a played node emitted. Without it
            `feed` ends with the comparison, because what follows a difference says nothing new.
        on_cut: called with the state of each node at each cut, and the number of the announcement.

    Attributes:
        compare: as given; may be exchanged on the way.
        compared: outputs that were compared, cuts among them.
        cuts: states that were compared.
    """

    def __init__(
        self,
        folds: Sequence[Fold],
        *,
        since: int = 0,
        compare: Compare = exact,
        go_on: bool = False,
        on_cut: Callable[[Taken, int], None] | None = None,
    ) -> None:
        self._folds = tuple(folds)
        self._since = since
        self.compare = compare
        self._go_on = go_on
        self._on_cut = on_cut
        self._codec = Codec(VOCABULARY)
        self._queues: dict[str, deque[tuple[int, Emission]]] = {fold.name: deque() for fold in self._folds}
        self._serial = 0
        self.compared = 0
        self.cuts = 0

    @property
    def pending(self) -> list[Emission]:
        """What was emitted and is not (yet) recorded, in the order in which it was emitted."""
        waiting = [entry for queue in self._queues.values() for entry in queue]
        return [emission for _, emission in sorted(waiting, key=lambda entry: entry[0])]

    def feed(self, record: Record) -> Played:
        """Compare one recorded event with what its node emitted, then let every fold handle it.

        Raises:
            HandlerFailure: a node raised. It has emitted nothing for this event; what others emitted for it
                is pending.
        """
        divergences: list[Divergence] = []
        if record.cause > self._since and record.node in self._queues:
            divergences = self._check(record)
        try:
            event: Event = self._codec.decode(record.type, record.body)
        except CodecError:
            # Somebody else published what only looks like one of ours: no node gets to see it.
            return Played(record, None, (), divergences)
        if divergences and not self._go_on:
            return Played(record, event, (), divergences)
        emitted: list[Emission] = []
        for fold in self._folds:
            if type(event) in fold.accepts:
                for index, item in enumerate(self._apply(fold, event, record)):
                    emitted.append(self._queue(fold.name, record.seq, index, item))
        if isinstance(event, CutAnnounced):
            taking = [fold for fold in self._folds if takes_part(fold.name, fold.node, event)]
            emitted += [self._take(fold, event, record) for fold in taking]
        return Played(record, event, emitted, divergences)

    def again(
        self, record: Record, answered: Mapping[str, int], answers: Mapping[tuple[str, int], list[Event]]
    ) -> None:
        """Let nodes that were built anew handle an event that was fed before, as a process that comes back.

        Args:
            record: the event; what its own node emitted is not compared again.
            answered: the nodes, each with the last event that the journal has answers of it to. What they
                emit for younger ones is pending (see `forget`), for these it is dropped.
            answers: the recorded ones by node and cause, for nodes that cannot repeat themselves.
        """
        try:
            event: Event = self._codec.decode(record.type, record.body)
        except CodecError:
            return
        for fold in self._folds:
            if fold.name not in answered or type(event) not in fold.accepts:
                continue
            recorded = answers.get((fold.name, record.seq), [])
            if not fold.node.repeats and is_answered(record.seq, answered[fold.name], recorded):
                fold.repeat(event, record.seq, record.stamp_ns, recorded)
                continue
            for index, item in enumerate(self._apply(fold, event, record)):
                swallowed = record.seq == answered[fold.name] and index >= len(recorded) > 0
                if record.seq > answered[fold.name] or swallowed:
                    self._queue(fold.name, record.seq, index, item)
        if isinstance(event, CutAnnounced):
            for fold in self._folds:
                own = takes_part(fold.name, fold.node, event)
                if own and record.seq > answered.get(fold.name, record.seq):
                    self._take(fold, event, record)

    def forget(self, names: Collection[str]) -> None:
        """Drop what waits of nodes that are built anew."""
        for name in names:
            self._queues[name].clear()

    def _apply(self, fold: Fold, event: Event, record: Record) -> list[Event]:
        try:
            return fold.apply(event, record.seq, record.stamp_ns)
        except Exception as error:
            raise HandlerFailure(fold.name, record, error) from error

    def _take(self, fold: Fold, announced: CutAnnounced, record: Record) -> Emission:
        try:
            taken = take(fold.name, fold.node, announced)
        except OptixError as error:
            raise HandlerFailure(fold.name, record, error) from error
        if self._on_cut is not None:
            self._on_cut(taken, record.seq)
        return self._queue(fold.name, record.seq, 0, taken.event)

    def _queue(self, node: str, cause: int, index: int, event: Event) -> Emission:
        emission = Emission(node, cause, index, *self._codec.encode(event), event)
        self._queues[node].append((self._serial, emission))
        self._serial += 1
        return emission

    def _check(self, record: Record) -> list[Divergence]:
        """The identities of one node only grow, so the oldest emission is the one to compare with."""
        queue = self._queues[record.node]
        recorded = (record.cause, record.index)
        found = []
        while queue and (queue[0][1].cause, queue[0][1].index) < recorded:
            extra = queue.popleft()[1]
            found.append(
                Divergence(
                    record.seq, extra.node, "extra", extra.type, extra.cause, "type", None, extra.type, extra
                )
            )
        if not queue or (queue[0][1].cause, queue[0][1].index) > recorded:
            found.append(
                Divergence(
                    record.seq, record.node, "missing", record.type, record.cause, "type", record.type, None
                )
            )
            return found
        emission = queue.popleft()[1]
        self.compared += 1
        self.cuts += record.type == CutTaken.__name__
        if emission.type != record.type:
            field, expected, now = "type", record.type, emission.type
        elif emission.body == record.body:
            return found
        else:
            difference = self.compare(record.type, record.body, emission.body)
            if difference is None:
                return found
            field, expected, now = difference.field, difference.expected, difference.found
        found.append(
            Divergence(
                record.seq, record.node, "differs", record.type, record.cause, field, expected, now, emission
            )
        )
        return found


def shortened(value: Any, length: int = 120) -> str:
    """A value as people read it, cut where it is long."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"
