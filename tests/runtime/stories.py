"""Runs told event by event: a journal and cuts on disk, without any process having run."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from optix_bus.bus import blob_format
from optix_bus.bus.codec import Codec
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import Ledger
from optix_bus.bus.record import Record, encode_record
from optix_bus.messages import VOCABULARY, CutAnnounced, CutTaken, Event, PolicyUpdated
from optix_bus.runtime.cuts import FOLDER, Cut, CutFolder, Taken
from optix_bus.types import BlobRef, NamedArrays

NODES = ("a", "b", "scheduler")


def knows(value: float) -> NamedArrays:
    """A state that can be told from another."""
    return NamedArrays({"knows": np.array([value])}, {"of": "a node"})


def blob_ref(number: int, owner: str = "a", size: int = 100) -> BlobRef:
    """A reference to arrays that need not exist."""
    return BlobRef(name=f"{owner}/policy-{number:06d}", bytes=size, checksum="0" * 32, owner=owner)


def policy(number: int, ref: BlobRef | None = None, **diagnostics: float) -> PolicyUpdated:
    """An event that announces a blob."""
    return PolicyUpdated(
        version=number,
        window=number,
        hyperparams_version=0,
        origin="learned",
        policy=ref if ref is not None else blob_ref(number),
        diagnostics=diagnostics,
    )


class Story:
    """A run of nodes a, b and scheduler in a folder of its own; a context manager that closes the journal.

    ``segment_events`` begins a new file of the journal after so many events.
    """

    def __init__(self, root: Path, *, nodes: Collection[str] = NODES, segment_events: int = 0) -> None:
        self.root = root
        self.nodes = nodes
        self.journal = root / "journal"
        self.folder = CutFolder(root)
        self.cuts = 0
        self._segment_events = segment_events
        self._codec = Codec(VOCABULARY)
        self._ledger = Ledger()
        self._writer = JournalWriter(self.journal, self._ledger, run="story")
        self._indices: dict[tuple[str, int], int] = {}

    def __enter__(self) -> Story:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    @property
    def head(self) -> int:
        """The last event."""
        return self._writer.head

    @property
    def near(self) -> tuple[int, int, int]:
        """What a host would note now: the next event and where it will be."""
        return (self.head + 1, *self._writer.position)

    def say(self, node: str, event: Event, cause: int = 0) -> int:
        """Append an event; returns its number."""
        return self.say_bytes(node, *self._codec.encode(event), cause=cause)

    def say_bytes(self, node: str, kind: str, body: bytes, cause: int = 0) -> int:
        """As `say`, but any bytes."""
        index = self._indices.get((node, cause), -1) + 1
        self._indices[(node, cause)] = index
        seq = self.head + 1
        record = Record(seq, 1000 * seq, node, 1, cause, index, kind, body)
        self._ledger.note_record(record)
        entry = self._writer.encode(kind, seq, record.stamp_ns, encode_record(record))
        assert self._writer.append([entry], [kind], [record.stamp_ns]) == 1
        if self._segment_events and seq % self._segment_events == 0:
            assert self._writer.rotate()
        return seq

    def pass_time(self, events: int) -> None:
        """Events that have nothing to do with cuts."""
        for _ in range(events):
            self.say("b", policy(self.head, blob_ref(self.head, "b")))

    def announce(self, window: int = 0) -> Cut:
        """The scheduler announces the next cut."""
        self.cuts += 1
        sequence = self.say("scheduler", CutAnnounced(cut=self.cuts, window=window))
        return Cut(self.cuts, sequence, window)

    def take(
        self,
        cut: Cut,
        node: str,
        near: tuple[int, int, int] | None = None,
        *,
        repeats: bool = True,
    ) -> CutTaken:
        """A node writes its state; what it knows is the number of the cut. It has not said so yet."""
        pieces = blob_format.parts(knows(cut.number))
        event = CutTaken(
            cut=cut.number,
            node=node,
            file=f"{FOLDER}/{cut.number:06d}/{node}.safetensors",
            bytes=blob_format.size(pieces),
            checksum=blob_format.checksum(pieces),
            repeats=repeats,
        )
        self.folder.write([Taken(event, pieces)], cut.sequence, cut.window, near)
        return event

    def cut(self, *, without: Collection[str] = (), with_near: bool = False) -> Cut:
        """A whole cut; ``without`` these nodes, which die before they can say so."""
        near = self.near if with_near else None
        cut = self.announce(window=10 * (self.cuts + 1))
        for node in self.nodes:
            taken = self.take(cut, node, near)
            if node not in without:
                self.say(node, taken, cut.sequence)
        return cut

    def spoil(self, cut: Cut, node: str) -> Path:
        """Flip a bit in a state on disk."""
        path = self.root / FOLDER / f"{cut.number:06d}" / f"{node}.safetensors"
        stored = bytearray(path.read_bytes())
        stored[-1] ^= 1
        path.write_bytes(bytes(stored))
        return path
