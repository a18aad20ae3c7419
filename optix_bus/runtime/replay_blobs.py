"""The arrays of a replay: re-created by the nodes that are played, else as the run has recorded them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from optix_bus.bus.blobs import FileBlobStore, MemoryBlobStore
from optix_bus.errors import BlobMissing
from optix_bus.runtime.run_directory import RunDirectory
from optix_bus.types import BlobRef, NamedArrays

#: Not the name of any node: a reader owns nothing in the run that it reads.
_READER = "replay:reader"

Reader = Callable[[BlobRef], NamedArrays]


def recorded_in(run: RunDirectory, shared_memory: str) -> Reader:
    """Reads what a run has recorded, and what it still keeps in shared memory; writes nothing there."""
    living = Path(shared_memory) if shared_memory else run.overflow
    store = FileBlobStore(living, run.overflow, budget_bytes=0, owner=_READER, archive_directory=run.blobs)
    return store.read


class ReplayBlobs:
    """One store for all nodes of a replay.

    What a played node writes stays in memory until it is retired: every node reads an array while its
    announcement is in hand, and all that are played handle it in one turn (see `Lives` for the exception).

    A played node's own array is given out whatever the recorded reference says of it: where they differ, that
    was seen when the announcements were compared.

    Args:
        otherwise: reads what no played node has written. It may raise `BlobMissing`.
    """

    keeps_objects = False

    def __init__(self, otherwise: Reader) -> None:
        self._memory = MemoryBlobStore()
        self._written: dict[str, BlobRef] = {}
        self._otherwise = otherwise

    @property
    def used_bytes(self) -> int:
        """Bytes of the arrays that are kept in memory."""
        return self._memory.used_bytes

    def write(self, name: str, content: Any) -> BlobRef:
        """Keep what a played node writes."""
        ref = self._written[name] = self._memory.write(name, content)
        return ref

    def read(self, ref: BlobRef) -> NamedArrays:
        """The arrays behind a reference.

        Raises:
            BlobMissing: nobody re-created them, and they were not recorded.
            BlobError: what was recorded is damaged.
        """
        own = self._written.get(ref.name)
        return self._otherwise(ref) if own is None else self._memory.read(own, verify=False)

    def has(self, ref: BlobRef) -> bool:
        """Whether `read` would find something."""
        try:
            self.read(ref)
        except BlobMissing:
            return False
        return True

    def retire(self, name: str) -> None:
        """Nobody will ask for it again."""
        self._memory.retire(name)
        self._written.pop(name, None)
