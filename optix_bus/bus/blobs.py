"""Where blobs live: in files that readers map, or in the memory of one process."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from optix_bus.bus import blob_files, blob_format
from optix_bus.bus.blob_budget import BlobBudget
from optix_bus.bus.blob_names import check_reference, owner_of
from optix_bus.bus.clock import Clock, SystemClock
from optix_bus.errors import BlobError, BlobMissing
from optix_bus.types import BlobRef, NamedArrays

_PAUSE_SECONDS = 0.002


class FileBlobStore:
    """The blobs of one owner, in shared memory while there is room, else in the run directory.

    Reading works for blobs of every owner that uses the same directories. A blob is written beside and
    renamed, so that nobody sees a part of one; a reader that has it mapped keeps it when it is retired.

    Args:
        directory: preferably shared memory (``/dev/shm/...``); created with mode 0700.
        fallback_directory: used where ``directory`` cannot be made or is full.
        budget_bytes: what this owner's living blobs may take together.
        owner: the node; every name it writes begins with ``owner/``.
        wait: called again and again while the budget is spent; it should serve the owner's link, so that
            news of retired blobs come in. Without it, a spent budget is an error at once.
        timeout_seconds: how long to wait for space.
        archive_directory: where `persist` and `archive` put what must outlive the run's memory; looked at
            last when reading. By default the fallback directory.
        always_admitted: blobs of each kind that the budget always has room for.
    """

    keeps_objects = False

    def __init__(
        self,
        directory: str | os.PathLike[str],
        fallback_directory: str | os.PathLike[str],
        budget_bytes: int,
        owner: str,
        *,
        wait: Callable[[], object] | None = None,
        timeout_seconds: float = 600.0,
        archive_directory: str | os.PathLike[str] | None = None,
        always_admitted: int = 1,
        clock: Clock | None = None,
    ) -> None:
        owner_of(f"{owner}/x")
        self._directories = (os.fspath(directory), os.fspath(fallback_directory))
        self._archive = self._directories[1] if archive_directory is None else os.fspath(archive_directory)
        #: Blobs of this owner that lie, or may lie, in the fallback directory.
        self._spilt: set[str] = set()
        #: In the archive only as long as a cut may need them.
        self._persisted: set[str] = set()
        self._owner = owner
        self._wait = wait
        self._timeout = timeout_seconds
        self._clock = clock if clock is not None else SystemClock()
        self._budget = BlobBudget(budget_bytes, always_admitted)
        #: What an earlier life of this owner left and this one has not written again, and its bytes.
        self.left: dict[str, int] = {}
        self._adopt()

    def _adopt(self) -> None:
        """Count what an earlier life of this owner left, and remove what it left half written."""
        for directory in self._directories:
            with contextlib.suppress(OSError):
                for path in sorted(Path(directory, self._owner).rglob("*")):
                    if path.name.startswith(blob_files.WRITING):
                        path.unlink(missing_ok=True)
                    elif path.suffix == blob_files.SUFFIX:
                        name = path.relative_to(directory).as_posix().removesuffix(blob_files.SUFFIX)
                        if directory == self._directories[1]:
                            self._spilt.add(name)
                        self.left[name] = path.stat().st_size
                        self._budget.add(name, self.left[name])

    @property
    def used_bytes(self) -> int:
        """Bytes of this owner's living blobs."""
        return self._budget.used_bytes

    @property
    def archived_bytes(self) -> int:
        """Bytes of this owner's blobs in the archive, of all its lives."""
        with contextlib.suppress(OSError):
            found = Path(self._archive, self._owner).rglob(f"*{blob_files.SUFFIX}")
            return sum(path.stat().st_size for path in found)
        return 0

    def admits(self, name: str, size: int) -> bool:
        """Whether a blob of this size could be written now without waiting."""
        return self._budget.admits(name, size)

    def write(self, name: str, content: NamedArrays) -> BlobRef:
        """Store arrays; waits while the budget is spent.

        Raises:
            BlobError: the name is not this owner's, the content cannot be stored, the budget stayed spent, or
                neither directory has room.
        """
        if owner_of(name) != self._owner:
            raise BlobError(f"{name!r} is not a name of {self._owner!r}: it must begin with {self._owner}/")
        pieces = blob_format.parts(content)
        size = blob_format.size(pieces)
        self._make_room(name, size)
        problems = []
        for directory in self._directories:
            try:
                digest = blob_files.write(directory, name, pieces, size)
            except OSError as error:
                problems.append(f"{directory}: {os.strerror(error.errno or 0)}")
                continue
            self._keep_one(directory, name)
            self._budget.add(name, size)
            self.left.pop(name, None)
            return BlobRef(name=name, bytes=size, checksum=digest, owner=self._owner)
        raise BlobError(f"blob {name} of {size} bytes found no room ({'; '.join(problems)}): free some space")

    def _keep_one(self, directory: str, name: str) -> None:
        """A blob was written to one directory: an older one of this name may lie in the other."""
        first, second = self._directories
        if first == second:
            return
        if directory == second:
            self._spilt.add(name)
            blob_files.remove(first, name)
        elif name in self._spilt:
            self._spilt.remove(name)
            blob_files.remove(second, name)

    def _make_room(self, name: str, size: int) -> None:
        deadline = self._clock.monotonic() + self._timeout
        while not self._budget.admits(name, size):
            if self._wait is None or self._clock.monotonic() > deadline:
                raise BlobError(
                    f"blob {name} of {size} bytes does not fit the budget of {self._owner!r}: "
                    f"{self._budget.used_bytes} of {self._budget.limit_bytes} bytes are alive "
                    f"({', '.join(self._budget.names[:5])}, ...), and nobody retired any"
                    f"{'' if self._wait is None else f' for {self._timeout:g} s'}: a consumer is stuck, or "
                    "the budget is too small"
                )
            self._wait()
            if not self._budget.admits(name, size):
                self._clock.sleep(_PAUSE_SECONDS)

    def read(self, ref: BlobRef, verify: bool = True) -> NamedArrays:
        """The arrays behind a reference, mapped, read-only. They stay valid after the blob is retired.

        Raises:
            BlobMissing: it is not there.
            BlobError: damaged, or not what the reference says.
        """
        check_reference(ref)
        for directory in (*self._directories, self._archive):
            content = blob_files.read(directory, ref)
            if content is not None:
                return _verified(content, ref, verify)
        raise BlobMissing(
            f"blob {ref.name} is in none of {', '.join(self._directories)}: "
            "it was retired, or belongs to another run"
        )

    def retire(self, name: str) -> None:
        """Remove a blob of this owner and what `persist` made of it; one that is gone already is no error."""
        if owner_of(name) != self._owner:
            raise BlobError(f"{name!r} is not for {self._owner!r} to retire")
        if not blob_files.remove(self._directories[0], name) or name in self._spilt:
            blob_files.remove(self._directories[1], name)
        self._spilt.discard(name)
        if name in self._persisted:
            self._persisted.discard(name)
            blob_files.remove(self._archive, name)
        self._budget.remove(name)
        self.left.pop(name, None)

    def persist(self, ref: BlobRef) -> None:
        """Copy a blob into the archive, synced: what a cut needs to outlive the machine.

        It goes when the blob is retired, unless `archive` keeps it.
        """
        check_reference(ref)
        if not os.path.exists(blob_files.path_of(self._archive, ref.name)):
            pieces = blob_format.parts(self.read(ref))
            blob_files.write(self._archive, ref.name, pieces, ref.bytes, sync=True)
            self._persisted.add(ref.name)

    def archive(self, name: str) -> int:
        """Copy a blob of this owner into the archive, not synced; bytes that were copied.

        Raises:
            BlobMissing: it is not there.
            OSError: the archive cannot be written.
        """
        target = blob_files.path_of(self._archive, name)
        if os.path.exists(target):
            if name not in self._persisted:
                return 0
            self._persisted.discard(name)
            return os.path.getsize(target)
        for directory in self._directories:
            copied = blob_files.copy(directory, self._archive, name)
            if copied:
                return copied
        raise BlobMissing(f"blob {name} cannot be archived: it is gone")

    def sweep(self, keep: Collection[str] = ()) -> list[str]:
        """Remove all blobs of this owner but these; returns what was removed."""
        gone = [name for name in self._budget.names if name not in keep]
        for name in gone:
            self.retire(name)
        return gone


class MemoryBlobStore:
    """The same store within one process: same bytes, same checksums, nothing to sweep. Serves all owners."""

    keeps_objects = False

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    @property
    def used_bytes(self) -> int:
        """Bytes of all living blobs."""
        return sum(map(len, self._blobs.values()))

    def admits(self, name: str, size: int) -> bool:
        """There is no budget inside a process: producer and consumer take turns."""
        return True

    def write(self, name: str, content: NamedArrays) -> BlobRef:
        """Store arrays; as `FileBlobStore.write`."""
        owner = owner_of(name)
        pieces = blob_format.parts(content)
        stored = b"".join(pieces)
        self._blobs[name] = stored
        digest = blob_format.checksum([memoryview(stored)])
        return BlobRef(name=name, bytes=len(stored), checksum=digest, owner=owner)

    def read(self, ref: BlobRef, verify: bool = True) -> NamedArrays:
        """The arrays behind a reference, read-only; as `FileBlobStore.read`."""
        check_reference(ref)
        stored = self._blobs.get(ref.name)
        if stored is None:
            raise BlobMissing(f"blob {ref.name} is not in memory: it was retired, or never written")
        if len(stored) != ref.bytes:
            raise BlobError(f"blob {ref.name} has {len(stored)} bytes, its reference says {ref.bytes}")
        return _verified(stored, ref, verify)

    def stored(self, name: str) -> bytes:
        """The stored form of a living blob.

        Raises:
            KeyError: it was retired, or never written.
        """
        return self._blobs[name]

    def retire(self, name: str) -> None:
        """Forget a blob; one that is gone already is no error."""
        self._blobs.pop(name, None)

    def sweep(self, keep: Collection[str] = ()) -> list[str]:
        """Forget all blobs but these; returns what was forgotten."""
        gone = [name for name in self._blobs if name not in keep]
        for name in gone:
            self.retire(name)
        return gone


def sweep_directory(directory: str | os.PathLike[str]) -> int:
    """Remove the whole blob directory of a run that is dead; returns the bytes that it held."""
    held = sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file())
    shutil.rmtree(directory, ignore_errors=True)
    return held


def _verified(buffer: mmap.mmap | bytes, ref: BlobRef, verify: bool) -> NamedArrays:
    if verify:
        found = blob_format.checksum([memoryview(buffer)])
        if found != ref.checksum:
            raise BlobError(f"blob {ref.name} is damaged: its checksum is {found}, expected {ref.checksum}")
    return blob_format.parse(buffer, ref.name)
