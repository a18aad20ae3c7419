"""A process begins where its nodes' last cut was taken, and repeats what the journal has from there on."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from optix_bus.bus.blobs import FileBlobStore
from optix_bus.bus.codec import Codec
from optix_bus.bus.journal_reader import JournalCursor
from optix_bus.bus.record import Record
from optix_bus.errors import BlobMissing, NodeFailure
from optix_bus.messages import Event
from optix_bus.runtime.cuts import Cut, CutFolder, complete_cuts, usable_cut
from optix_bus.runtime.fold import Fold
from optix_bus.runtime.retirement import ANNOUNCING, references
from optix_bus.types import BlobRef

_PAUSE_SECONDS = 0.005


class Beginning:
    """Where a process begins: a cut of the run, or its first event.

    Args:
        root: the run directory.
        nodes: names of all nodes of the run.
        own: names of the nodes of this process.
    """

    def __init__(self, root: Path, journal: Path, nodes: Collection[str], own: Collection[str]) -> None:
        self._folder = CutFolder(root)
        self._journal = journal
        self.cuts = complete_cuts(self._folder, journal, nodes)
        self.cut, self.remarks = usable_cut(self._folder, self.cuts, own)

    @property
    def sequence(self) -> int:
        """The last event that the states know; 0 without a cut."""
        return self.cut.sequence if self.cut is not None else 0

    @property
    def near(self) -> tuple[int, tuple[int, int]] | None:
        """A place in the journal at or before the first event to handle."""
        return self._folder.near(self.sequence) if self.cut is not None else None

    def restore(self, folds: list[Fold]) -> None:
        """Give the nodes, which are set up, their states."""
        if self.cut is None:
            return
        for fold in folds:
            if fold.node.variant and fold.name not in self.cut.nodes:
                continue  # it was not yet there, or had left
            if fold.name not in self.cut.taken:  # only a temporary node can miss it
                self.remarks.append(f"{fold.name}: it begins anew, it was gone when the cut was taken")
                continue
            said = fold.node.load_state(self._folder.read(self.cut.taken[fold.name]))
            self.remarks += [f"{fold.name}: {remark}" for remark in said]

    def known(self) -> list[Cut]:
        """Complete cuts up to where the process begins, oldest first."""
        return [cut for cut in reversed(self.cuts) if cut.sequence <= self.sequence]

    def answers(self, codec: Codec, nodes: Collection[str], up_to: int) -> dict[tuple[str, int], list[Event]]:
        """What these nodes have said since the cut, by node and cause."""
        found: dict[tuple[str, int], list[Event]] = {}
        near = self.near
        cursor = JournalCursor(self._journal, self.sequence + 1, near[1] if near is not None else None)
        try:
            while batch := cursor.read(up_to=up_to):
                for record in batch:
                    if record.node in nodes and record.cause:
                        event = codec.decode(record.type, record.body)
                        found.setdefault((record.node, record.cause), []).append(event)
        finally:
            cursor.close()
        return found


class PatientStore:
    """A blob store that waits for blobs which others are making again.

    After a resume shared memory is empty. What the journal announces is made anew by whoever made it first,
    and a reader that is faster than its writer has to wait.

    Args:
        store: the store itself.
        waiting: whether the event in hand was in the journal before this process began.
        serve: called while it waits.
        seconds: how long to wait.
    """

    keeps_objects = False

    def __init__(
        self,
        store: FileBlobStore,
        waiting: Callable[[], bool],
        serve: Callable[[], object],
        seconds: float,
    ) -> None:
        self._store = store
        self._waiting = waiting
        self._serve = serve
        self._seconds = seconds
        self.write = store.write
        self.retire = store.retire

    def read(self, ref: BlobRef) -> Any:
        """As `FileBlobStore.read`."""
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                return self._store.read(ref)
            except BlobMissing:
                if not self._waiting() or time.monotonic() > deadline:
                    raise
            self._serve()
            time.sleep(_PAUSE_SECONDS)


class Repetition:
    """Compares what a process says again with what the journal has of it."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._said: dict[tuple[str, int, int], tuple[str, bytes]] = {}
        self._nodes: frozenset[str] = frozenset()
        self._since = self._until = 0

    def expect(self, nodes: Collection[str], since: int, until: int) -> None:
        """These nodes will say again what they answered to events behind ``since``, up to event ``until``."""
        self._nodes, self._since, self._until = frozenset(nodes), since, until

    def said(self, node: str, cause: int, index: int, kind: str, body: bytes) -> None:
        """The journal is known to have this; it will come by."""
        self._said[(node, cause, index)] = (kind, body)

    def compare(self, record: Record) -> str:
        """A sentence for people where the record differs from what was said again; else empty.

        Raises:
            NodeFailure: other arrays came out, or none. Nodes that read them would go on from what the
                journal does not know.
        """
        said = self._said.pop(record.identity, None) if self._said else None
        if said == (record.type, record.body):
            return ""
        if said is None:
            if record.node not in self._nodes or record.cause <= self._since or record.seq > self._until:
                return ""
            what, refs = "it said nothing", []
        else:
            what, refs = _difference(record, *said), self._references(*said)
        sentence = f"{record.node} did not repeat event {record.seq} ({record.type}): {what}"
        if self._references(record.type, record.body) != refs:
            raise NodeFailure(
                f"{sentence}. Something outside its events has influenced it; `optix-bus replay` finds where"
            )
        return sentence

    def _references(self, kind: str, body: bytes) -> list[BlobRef]:
        return references(self._codec.decode(kind, body)) if kind in ANNOUNCING else []


def _difference(record: Record, kind: str, body: bytes) -> str:
    if kind != record.type:
        return f"it said {kind}"
    before: Mapping[str, Any] = msgspec.msgpack.decode(record.body)
    now: Mapping[str, Any] = msgspec.msgpack.decode(body)
    return "; ".join(
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in {**before, **now}
        # As bytes, in which a NaN equals itself.
        if msgspec.msgpack.encode(before.get(name)) != msgspec.msgpack.encode(now.get(name))
    )


def is_answered(sequence: int, last: int, recorded: Sequence[Event]) -> bool:
    """Whether a node that cannot repeat itself has answered an event in an earlier life.

    Its death may have swallowed the last of its answers. Arrays come last; without them the handler is simple
    enough to be repeated.

    Args:
        sequence: of the event.
        last: the newest event that the journal has an answer to.
        recorded: the answers to this event that the journal has.
    """
    if sequence == last:
        return any(type(event).__name__ in ANNOUNCING for event in recorded)
    return sequence < last
