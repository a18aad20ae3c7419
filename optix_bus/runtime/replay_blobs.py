"""The arrays of a replay: re-created by the nodes that are played, else as the run has recorded them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optix_bus.bus.blobs import FileBlobStore, MemoryBlobStore
from optix_bus.errors import BlobMissing
from optix_bus.types import BlobRef, NamedArrays

#: Not the name of any node: a reader owns nothing in the run that it reads.
_READER = "replay:reader"


class ReplayBlobs:
    """One store for all nodes of a replay.

    What a played node writes stays in memory until the event that announces it has been handled: every node
    reads an array while its announcement is in hand, and all that are played handle it in one turn. So the
    memory of a replay is bounded by what is announced and not yet recorded, with or without cuts.

    A played node's own array is given out whatever the recorded reference says of it: where they differ, that
    was seen when the announcements were compared.

    Args:
        archive: where the run keeps recorded arrays.
        living: where they are while the run is alive; may be gone.
        overflow: where they are when shared memory was full; may be missing.
    """

    keeps_objects = False

    def __init__(self, archive: Path, living: Path | None, overflow: Path) -> None:
        self._memory = MemoryBlobStore()
        self._written: dict[str, BlobRef] = {}
        self._recorded = FileBlobStore(
            living if living is not None else overflow,
            overflow,
            budget_bytes=0,
            owner=_READER,
            archive_directory=archive,
        )

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
        return self._recorded.read(ref) if own is None else self._memory.read(own, verify=False)

    def has(self, ref: BlobRef) -> bool:
        """Whether `read` would find something."""
        try:
            return ref.name in self._written or bool(self._recorded.read(ref, verify=False))
        except BlobMissing:
            return False

    def retire(self, name: str) -> None:
        """Everybody has read it."""
        self._memory.retire(name)
        self._written.pop(name, None)
