"""Cuts: what every node knew at one event, on disk, so that a later process can go on from there.

RUN/cuts/000003/learner.safetensors    the state of one node
RUN/cuts/000003/cut.json               at which event, and where in the journal to look for it

A cut counts once the journal holds `CutTaken` of every node. Files are written beside and renamed, and their
checksums are in the journal, so a damaged one is recognised and an older one takes its place.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from optix_bus.bus import blob_format
from optix_bus.bus.codec import Codec
from optix_bus.bus.journal_reader import JournalCursor
from optix_bus.errors import BlobError, CheckpointError, CodecError, NodeFailure, OptixError
from optix_bus.failpoints import reached
from optix_bus.messages import CutAnnounced, CutTaken, Event
from optix_bus.runtime.disk_sync import DiskSync
from optix_bus.runtime.node import Node
from optix_bus.types import NamedArrays

#: Complete cuts that stay on disk: the newest, the one that blobs are kept for, and one behind it.
KEEP = 3
FOLDER = "cuts"
_TYPES: tuple[type[Event], ...] = (CutAnnounced, CutTaken)
_NAMES = frozenset(kind.__name__ for kind in _TYPES)


@dataclass(frozen=True)
class Taken:
    """The state of one node in its stored form, and the event that says so."""

    event: CutTaken
    pieces: list[memoryview]


@dataclass
class Cut:
    """One cut as the journal knows it; ``sequence`` is that of its announcement."""

    number: int
    sequence: int
    window: int
    taken: dict[str, CutTaken] = field(default_factory=dict)
    #: Those of its nodes that the plan of the run does not name: nodes of variants.
    nodes: tuple[str, ...] = ()


class Place(msgspec.Struct, frozen=True):
    """``cut.json``. ``near`` is an event at or before the announcement, with its segment and offset in the
    journal: who looks for the announcement begins there instead of at the beginning of a large file."""

    cut: int
    sequence: int
    window: int
    near: tuple[int, int, int] | None = None


def take(name: str, node: Node, announced: CutAnnounced) -> Taken:
    """The state of a node that has handled everything up to and including the announcement.

    Raises:
        CheckpointError: the state cannot be stored.
        NodeFailure: the node could not say it.
    """
    try:
        pieces = blob_format.parts(node.state())
    except BlobError as error:
        raise CheckpointError(f"the state of node {name!r} cannot be stored: {error}") from None
    except OptixError:
        raise
    except Exception as error:
        raise NodeFailure(f"{name!r} in state(): {type(error).__name__}: {error}") from error
    event = CutTaken(
        cut=announced.cut,
        node=name,
        file=f"{FOLDER}/{announced.cut:06d}/{name}.safetensors",
        bytes=blob_format.size(pieces),
        checksum=blob_format.checksum(pieces),
        repeats=node.repeats,
    )
    return Taken(event, pieces)


def takes_part(name: str, node: Node, announced: CutAnnounced) -> bool:
    """Whether a node is to take this cut: nodes of a variant do so while they belong to the run."""
    return not node.variant or name in announced.nodes


class CutBook:
    """Which cuts are complete, from the events of a run.

    Args:
        nodes: those that are always there; the announcement names the others.
    """

    def __init__(self, nodes: Collection[str]) -> None:
        self._nodes = frozenset(nodes)
        self._open: dict[int, Cut] = {}
        #: Complete cuts, oldest first, at most `KEEP`.
        self.complete: list[Cut] = []

    def note(self, event: Event, sequence: int) -> bool:
        """Take in an event; whether a cut has become complete by it."""
        if isinstance(event, CutAnnounced):
            self._open[event.cut] = Cut(event.cut, sequence, event.window, nodes=event.nodes)
        elif isinstance(event, CutTaken) and event.cut in self._open:
            cut = self._open[event.cut]
            cut.taken[event.node] = event
            if cut.taken.keys() >= self._nodes.union(cut.nodes):
                self._open = {number: other for number, other in self._open.items() if number > cut.number}
                self.complete = [*self.complete, cut][-KEEP:]
                return True
        return False

    def start(self, cut: Cut) -> None:
        """Begin with a cut that is known to be complete."""
        self.complete.append(cut)


class CutFolder:
    """The cuts of a run on disk.

    The states of a cut are on the disk when the next cut is taken: a power cut may take the newest one, and
    an older one takes its place.

    Args:
        root: the run directory.
        sync: without it, a power cut may cost all cuts.
        keeps: whether it also writes where a cut lies, and removes old ones. Of the processes of a run one
            does: the others would write the same again, and race for what is to go.
    """

    def __init__(self, root: Path, *, sync: bool = True, keeps: bool = True) -> None:
        self.root = root
        self._keeps = keeps
        self._work = DiskSync()
        self.disk = self._work if sync else None

    def write(
        self,
        states: Sequence[Taken],
        sequence: int,
        window: int,
        near: tuple[int, int, int] | None = None,
    ) -> None:
        """Store the states that the nodes of one process have taken for one cut, and its place where it is
        this one that keeps the cuts.

        Raises:
            CheckpointError: the disk is full or cannot be written; nothing half written is left.
        """
        doing = "one before it"
        try:
            self.settle()
            for taken in states:
                doing = f"state of node {taken.event.node!r}"
                write_whole(self.root / taken.event.file, taken.pieces, self.disk)
            if states and self._keeps:
                # Before anybody says that these states are there, so that a complete cut has its place.
                doing = "its place"
                self._write_place(Place(states[0].event.cut, sequence, window, near), self.disk)
        except OSError as error:
            raise CheckpointError(
                f"a cut cannot be written to {self.root} ({doing}): {error.strerror}"
            ) from None

    def read(self, taken: CutTaken) -> NamedArrays:
        """The state that a node stored.

        Raises:
            CheckpointError: it is missing, or not what was written.
        """
        path = self.root / taken.file
        try:
            stored = path.read_bytes()
        except OSError as error:
            raise CheckpointError(
                f"the state of node {taken.node!r} is missing: {path}: {error.strerror}"
            ) from None
        found = blob_format.checksum([memoryview(stored)])
        if found != taken.checksum:
            raise CheckpointError(f"{path} is damaged: its checksum is {found}, expected {taken.checksum}")
        return blob_format.parse(stored, taken.file)

    def damage(self, cut: Cut, nodes: Collection[str]) -> str:
        """Why a cut cannot be used for these nodes; empty where it can. One that has not taken it begins
        anew."""
        for name in cut.taken.keys() & set(nodes):
            try:
                self.read(cut.taken[name])
            except (CheckpointError, BlobError) as error:
                return str(error)
        return ""

    def places(self) -> list[Place]:
        """Of all cuts on disk, newest first; those without a readable place are left out."""
        found = []
        for folder in sorted(self._folders(), reverse=True):
            with contextlib.suppress(OSError, msgspec.DecodeError):
                found.append(msgspec.json.decode((folder / "cut.json").read_bytes(), type=Place))
        return found

    def near(self, sequence: int) -> tuple[int, tuple[int, int]] | None:
        """An event at or before this one and its place in the journal, where a cut knows one."""
        for place in self.places():
            if place.near is not None and place.near[0] <= sequence:
                return place.near[0], (place.near[1], place.near[2])
        return None

    def forget_places(self) -> None:
        """The journal was rewritten: where its events are has to be searched for again."""
        for place in self.places():
            self._write_place(msgspec.structs.replace(place, near=None))

    def prune(self, oldest: int) -> None:
        """Remove cuts before this one, where it is this one that keeps them; nobody waits for it but `settle`
        and the next cut."""
        if self._keeps:
            self._work.later(lambda: self._remove(lambda number: number < oldest))

    def settle(self) -> None:
        """Wait for the disk.

        Raises:
            OSError: it refused what was written.
        """
        self._work.settle()

    def remove_after(self, newest: int) -> None:
        """Remove cuts behind this one, which belong to a future that will not be."""
        self._remove(lambda number: number > newest)

    def _remove(self, which: Callable[[int], bool]) -> None:
        for folder in self._folders():
            if which(int(folder.name)):
                shutil.rmtree(folder, ignore_errors=True)

    def _folders(self) -> list[Path]:
        try:
            return [path for path in (self.root / FOLDER).iterdir() if path.name.isdigit()]
        except OSError:
            return []

    def _write_place(self, place: Place, disk: DiskSync | None = None) -> None:
        path = self.root / FOLDER / f"{place.cut:06d}" / "cut.json"
        write_whole(path, [memoryview(msgspec.json.encode(place))], disk)


def complete_cuts(
    folder: CutFolder, journal: Path, nodes: Collection[str], up_to: int | None = None
) -> list[Cut]:
    """Cuts on disk that are complete in the journal, newest first.

    Args:
        folder: where the states are.
        journal: the journal of the run.
        nodes: names of all nodes of the run.
        up_to: leave out what the journal only says behind this event.
    """
    places = folder.places()
    if not places:
        return []
    book = CutBook(nodes)
    on_disk = {place.cut for place in places}
    found: list[Cut] = []
    for event, sequence in _events_of_cuts(folder, journal, min(place.sequence for place in places), up_to):
        if book.note(event, sequence) and book.complete[-1].number in on_disk:
            found.append(book.complete[-1])
    return found[::-1]


def usable_cut(
    folder: CutFolder, cuts: Sequence[Cut], nodes: Collection[str]
) -> tuple[Cut | None, list[str]]:
    """The first of these cuts whose states are whole, and what was wrong with the ones before it."""
    remarks: list[str] = []
    for cut in cuts:
        damage = folder.damage(cut, nodes)
        if not damage:
            return cut, remarks
        remarks.append(f"cut {cut.number} (window {cut.window}) was skipped: {damage}")
    return None, remarks


def _events_of_cuts(
    folder: CutFolder, journal: Path, first: int, up_to: int | None
) -> Iterator[tuple[Event, int]]:
    near = folder.near(first)
    codec = Codec(_TYPES)
    cursor = JournalCursor(journal, first, near[1] if near is not None else None)
    try:
        while up_to is None or cursor.seq <= up_to:
            before = cursor.seq
            for record in cursor.read(up_to=up_to, types=_NAMES):
                # Who publishes what only looks like one of ours must not keep a run from going on.
                with contextlib.suppress(CodecError):
                    yield codec.decode(record.type, record.body), record.seq
            if cursor.seq == before:
                return
    finally:
        cursor.close()


def write_whole(path: Path, pieces: Sequence[memoryview], disk: DiskSync | None = None) -> None:
    """Write a file beside and rename it; after an `OSError` nothing of it is there.

    ``disk`` brings it to the disk while the caller goes on.
    """
    folder, name = os.path.split(path)
    beside = os.path.join(folder, f".writing-{os.getpid()}-{name}")
    try:
        os.makedirs(folder, exist_ok=True)
        with open(beside, "wb") as file:
            file.writelines(pieces)
            file.flush()
            if disk is not None:
                disk.begin(file.fileno())
        reached("cut.rename.before")
        os.replace(beside, path)
        reached("cut.rename.after")
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
