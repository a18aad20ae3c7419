"""The arrays of a run in one process: in memory for the nodes, in files for whoever comes later."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from typing import Any

from optix_bus.bus import blob_files
from optix_bus.bus.blobs import MemoryBlobStore
from optix_bus.errors import BlobError
from optix_bus.runtime.log import NodeLog
from optix_bus.runtime.plan import RunPlan
from optix_bus.runtime.retirement import recorded_bytes
from optix_bus.runtime.run_directory import RunDirectory
from optix_bus.types import BlobRef, NamedArrays


class InlineBlobs:
    """Serves all nodes of a run from memory, and records what the topology says (``run.record``).

    On Windows nothing is recorded: it has not the file calls, and inline runs leave no journal there either.
    """

    keeps_objects = False

    def __init__(self, run: RunDirectory, plan: RunPlan) -> None:
        self._folder = os.fspath(run.blobs)
        self._memory = MemoryBlobStore()
        self._recorded: set[str] = set()
        limit = recorded_bytes(str(plan.run["record"]), int(plan.run["record_bytes"]))
        # By owner; some come later.
        self._room: defaultdict[str, int] = defaultdict(lambda: limit)
        self._can_record = sys.platform != "win32"
        self._log = NodeLog("inline", plain=True)

    def write(self, name: str, content: Any) -> BlobRef:
        """Keep arrays in memory; record them where there is room."""
        ref = self._memory.write(name, content)
        if self._room[ref.owner] >= ref.bytes and self._can_record:
            self._room[ref.owner] -= ref.bytes
            try:
                self._record(ref)
            except OSError as error:
                # A full disk costs a later replay its arrays, and not the run.
                self._room[ref.owner] = -1
                self._log.warning("blobs are not recorded any longer", owner=ref.owner, why=error.strerror)
        return ref

    def read(self, ref: BlobRef) -> NamedArrays:
        """The arrays behind a reference."""
        return self._memory.read(ref)

    def retire(self, name: str) -> None:
        """Nobody in this process will ask for it again."""
        self._memory.retire(name)
        self._recorded.discard(name)

    def persist(self, ref: BlobRef) -> None:
        """What was under way at a cut is read again by whoever goes on from there: it has to be in a file.

        Raises:
            BlobError: the disk is full.
        """
        if self._can_record and ref.name not in self._recorded:
            try:
                self._record(ref)
            except OSError as error:
                raise BlobError(f"blob {ref.name} cannot be kept for a cut: {error.strerror}") from None

    def _record(self, ref: BlobRef) -> None:
        stored = memoryview(self._memory.stored(ref.name))
        blob_files.write(self._folder, ref.name, [stored], ref.bytes)
        self._recorded.add(ref.name)
