"""Where blobs live: in files that readers map, or in the memory of one process."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import xxhash

from optix_bus.bus import blob_format
from optix_bus.bus.blob_budget import BlobBudget
from optix_bus.bus.blob_names import check_reference, owner_of
from optix_bus.bus.clock import Clock, SystemClock
from optix_bus.errors import BlobError, BlobMissing
from optix_bus.failpoints import reached
from optix_bus.types import BlobRef, NamedArrays

_SUFFIX = ".safetensors"
_PAUSE_SECONDS = 0.002
#: Hashed and written in pieces that fit the cache, so that the second pass does not go to memory.
_PIECE_BYTES = 512 * 1024


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
        self._directories = (Path(directory), Path(fallback_directory))
        self._archive = self._directories[1] if archive_directory is None else Path(archive_directory)
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
                for path in sorted((directory / self._owner).rglob("*")):
                    if path.name.startswith(".writing-"):
                        path.unlink(missing_ok=True)
                    elif path.suffix == _SUFFIX:
                        name = path.relative_to(directory).as_posix().removesuffix(_SUFFIX)
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
            return sum(path.stat().st_size for path in (self._archive / self._owner).rglob(f"*{_SUFFIX}"))
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
                digest = _write(directory, name, pieces)
            except OSError as error:
                problems.append(f"{directory}: {os.strerror(error.errno or 0)}")
                continue
            for other in self._directories:
                if other != directory:
                    _remove(other, name)
            self._budget.add(name, size)
            self.left.pop(name, None)
            return BlobRef(name=name, bytes=size, checksum=digest, owner=self._owner)
        raise BlobError(f"blob {name} of {size} bytes found no room ({'; '.join(problems)}): free some space")

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
            try:
                descriptor = os.open(_path(directory, ref.name), os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                found = os.fstat(descriptor).st_size
                if found != ref.bytes or not found:
                    raise BlobError(f"blob {ref.name} has {found} bytes, its reference says {ref.bytes}")
                mapped = _map(descriptor, found)
            finally:
                os.close(descriptor)
            return _verified(mapped, ref, verify)
        raise BlobMissing(
            f"blob {ref.name} is in none of {', '.join(map(str, self._directories))}: "
            "it was retired, or belongs to another run"
        )

    def retire(self, name: str) -> None:
        """Remove a blob of this owner; one that is gone already is no error."""
        if owner_of(name) != self._owner:
            raise BlobError(f"{name!r} is not for {self._owner!r} to retire")
        for directory in self._directories:
            _remove(directory, name)
        self._budget.remove(name)
        self.left.pop(name, None)

    def persist(self, ref: BlobRef) -> None:
        """Copy a blob into the archive, synced: what a cut needs to outlive the machine."""
        check_reference(ref)
        if not _path(self._archive, ref.name).exists():
            _write(self._archive, ref.name, blob_format.parts(self.read(ref)), sync=True)

    def archive(self, name: str) -> int:
        """Copy a blob of this owner into the archive, not synced; bytes that were copied.

        Raises:
            BlobMissing: it is not there.
            OSError: the archive cannot be written.
        """
        target = _path(self._archive, name)
        if target.exists():
            return 0
        for directory in self._directories:
            source = _path(directory, name)
            if source.exists():
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                beside = target.with_name(f".writing-{target.name}")
                try:
                    shutil.copyfile(source, beside)
                    beside.rename(target)
                except OSError:
                    beside.unlink(missing_ok=True)
                    raise
                return target.stat().st_size
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


def _path(directory: Path, name: str) -> Path:
    return directory / f"{name}{_SUFFIX}"


def _map(descriptor: int, size: int) -> mmap.mmap:
    at_once = getattr(mmap, "MAP_POPULATE", None)
    if at_once is None:
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    # Asking for all pages at once saves a fault for each.
    return mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | at_once, prot=mmap.PROT_READ)


def _remove(directory: Path, name: str) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        _path(directory, name).unlink()


def _write(directory: Path, name: str, pieces: list[memoryview], *, sync: bool = False) -> str:
    """Write beside, then rename; returns the checksum of what was written."""
    path = _path(directory, name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".writing-{path.name}")
    digest = xxhash.xxh3_128()
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            for piece in pieces:
                for start in range(0, piece.nbytes, _PIECE_BYTES):
                    waiting = piece[start : start + _PIECE_BYTES]
                    digest.update(waiting)
                    while waiting.nbytes:
                        waiting = waiting[os.write(descriptor, waiting) :]
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        reached("blob.rename.before")
        os.rename(beside, path)
        reached("blob.rename.after")
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    return digest.hexdigest()
