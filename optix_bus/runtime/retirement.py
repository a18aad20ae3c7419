"""When the blobs of a process may go, and which of them stay beside the journal."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from optix_bus.bus.blobs import FileBlobStore
from optix_bus.errors import BlobMissing
from optix_bus.messages import VOCABULARY, Event
from optix_bus.runtime.cuts import CutBook
from optix_bus.runtime.node import Log
from optix_bus.types import BlobRef


def _may_hold_blobs(kind: type[Event]) -> bool:
    return any("BlobRef" in str(hint) for hint in kind.__annotations__.values())


#: Event types that announce blobs.
ANNOUNCING = frozenset(kind.__name__ for kind in VOCABULARY if _may_hold_blobs(kind))


def references(event: Event) -> list[BlobRef]:
    """The blobs that an event announces."""
    values = (getattr(event, name) for name in event.__struct_fields__)
    return [value for value in values if isinstance(value, BlobRef)]


def recorded_bytes(record: str, record_bytes: int) -> int:
    """How many bytes of each owner's blobs are recorded: what a topology says about it as one number."""
    return {"blobs": 1 << 62, "auto": record_bytes, "events": 0}[record]


class Retirement:
    """Retires the blobs that were announced before the newest cut but one.

    A process that comes back starts from the newest complete cut and reads every blob behind it again. It may
    have decided which cut that is just before a newer one became complete, hence "but one". In a run without
    cuts nobody comes back, and a blob goes when all nodes have handled its announcement.

    Args:
        stores: by owner, those of this process.
        cuts: kept up to date by the host; None in a run without cuts.
        record: ``blobs`` keeps every retired blob in the run's archive, ``auto`` as many bytes as
            ``record_bytes`` for each owner, ``events`` none.
    """

    def __init__(
        self,
        stores: Mapping[str, FileBlobStore],
        cuts: CutBook | None,
        *,
        record: str,
        record_bytes: int,
        log: Log,
    ) -> None:
        self._stores = stores
        self._cuts = cuts
        self._log = log
        self._announced: deque[tuple[int, BlobRef]] = deque()
        #: The event in hand.
        self.in_hand = 0
        #: The last event that the states knew with which this life began.
        self.begun = 0
        #: Where the journal ended at that moment; behind it nothing is done for the second time.
        self.recovered = 0
        limit = recorded_bytes(record, record_bytes)
        self._room = {owner: limit - store.archived_bytes for owner, store in stores.items()}

    def announced(self, sequence: int, refs: Iterable[BlobRef]) -> None:
        """These blobs of ours are in the journal now."""
        self._announced.extend((sequence, ref) for ref in refs)

    def turn(self, progress: int, at_most: int | None = None) -> None:
        """Retire what may go; ``progress`` is the last event that all nodes have handled. The rest of what
        is more than ``at_most`` goes with the next turns."""
        if self._cuts is None:
            self._retire(progress, at_most)
        elif len(self._cuts.complete) > 1:
            self._retire(self._cuts.complete[-2].sequence, at_most)

    def press(self, progress: int) -> None:
        """Somebody waits for room: one cut must be enough."""
        if self._cuts is None:
            self._retire(progress)
        elif self._cuts.complete:
            self._retire(self._cuts.complete[-1].sequence)

    def finish(self, in_flight: Iterable[BlobRef]) -> None:
        """The process ends in order: what is to be recorded goes into the archive, also what is announced by
        events that have not come back yet."""
        for ref in (*(ref for _, ref in self._announced), *in_flight):
            self._record(ref.owner, ref.name, ref.bytes)

    def _retire(self, boundary: int, at_most: int | None = None) -> None:
        retired = 0
        while self._announced and self._announced[0][0] <= boundary and retired != at_most:
            retired += 1
            _, ref = self._announced.popleft()
            self._record(ref.owner, ref.name, ref.bytes)
            self._stores[ref.owner].retire(ref.name)
        if boundary >= self.begun and self.in_hand >= self.recovered:
            self._retire_left()

    def _retire_left(self) -> None:
        """What an earlier life left and this one has neither written nor seen announced was announced before
        this life began."""
        for owner, store in self._stores.items():
            if store.left:
                alive = {ref.name for _, ref in self._announced}
                for name, size in list(store.left.items()):
                    if name not in alive:
                        self._record(owner, name, size)
                        store.retire(name)

    def _record(self, owner: str, name: str, size: int) -> None:
        if self._room[owner] < size:
            return
        try:
            self._room[owner] -= self._stores[owner].archive(name)
        except BlobMissing:
            return  # written in an earlier life, and archived or given up there
        except OSError as error:
            self._room[owner] = -1
            self._log.warning(
                "blobs are not recorded any longer", owner=owner, why=error.strerror or str(error)
            )
