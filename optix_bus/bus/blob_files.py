"""Blobs as files: written beside and renamed, read by copying where that is cheaper than mapping.

Paths are texts and calls are those of the system: this is done for every window and every policy.
"""

from __future__ import annotations

import contextlib
import mmap
import os

import xxhash

from optix_bus.errors import BlobError
from optix_bus.failpoints import reached
from optix_bus.types import BlobRef

SUFFIX = ".safetensors"
WRITING = ".writing-"
#: Hashed and written in pieces that fit the cache, so that the second pass does not go to memory.
_PIECE_BYTES = 512 * 1024
#: Copying this much is cheaper than mapping its pages, and unmapping them later.
_COPIED_BYTES = 256 * 1024


def path_of(directory: str, name: str) -> str:
    """Where the blob of this name lies in a directory."""
    return f"{directory}/{name}{SUFFIX}"


def write(directory: str, name: str, pieces: list[memoryview], size: int, *, sync: bool = False) -> str:
    """Write beside, then rename; returns the checksum (xxh3-128, hexadecimal) of what was written.

    Raises:
        OSError: nothing is left of the attempt.
    """
    path = path_of(directory, name)
    beside = _beside(path)
    digest = xxhash.xxh3_128()
    descriptor = _create(beside, 0o600)
    try:
        try:
            written = 0
            if size <= _PIECE_BYTES:
                for piece in pieces:
                    digest.update(piece)
                written = os.writev(descriptor, pieces) if len(pieces) <= 64 else 0
            if written != size:
                os.lseek(descriptor, 0, os.SEEK_SET)
                digest = _piece_by_piece(descriptor, pieces)
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        reached("blob.rename.before")
        os.rename(beside, path)
        reached("blob.rename.after")
    except OSError:
        remove_path(beside)
        raise
    return digest.hexdigest()


def _piece_by_piece(descriptor: int, pieces: list[memoryview]) -> xxhash.xxh3_128:
    digest = xxhash.xxh3_128()
    for piece in pieces:
        for start in range(0, piece.nbytes, _PIECE_BYTES):
            waiting = piece[start : start + _PIECE_BYTES]
            digest.update(waiting)
            while waiting.nbytes:
                waiting = waiting[os.write(descriptor, waiting) :]
    return digest


def read(directory: str, ref: BlobRef) -> mmap.mmap | bytes | None:
    """The bytes of a blob, read-only; None where it is not in this directory.

    Raises:
        BlobError: it has not the size that the reference says.
    """
    try:
        descriptor = os.open(path_of(directory, ref.name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor).st_size
        if found != ref.bytes or not found:
            raise BlobError(f"blob {ref.name} has {found} bytes, its reference says {ref.bytes}")
        if found <= _COPIED_BYTES:
            content = os.read(descriptor, found)
            if len(content) == found:
                return content
        return _map(descriptor, found)
    finally:
        os.close(descriptor)


def _map(descriptor: int, size: int) -> mmap.mmap:
    at_once = getattr(mmap, "MAP_POPULATE", None)
    if at_once is None:
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    # Asking for all pages at once saves a fault for each.
    return mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | at_once, prot=mmap.PROT_READ)


def remove(directory: str, name: str) -> bool:
    """Remove a blob from a directory; whether it was there."""
    return remove_path(path_of(directory, name))


def remove_path(path: str) -> bool:
    """Remove a file; whether it was there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)
        return True
    return False


def copy(source_directory: str, target_directory: str, name: str) -> int:
    """Copy a blob, not synced; its bytes, 0 where the source has none.

    Raises:
        OSError: nothing is left of the attempt.
    """
    target = path_of(target_directory, name)
    beside = _beside(target)
    try:
        source = os.open(path_of(source_directory, name), os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    try:
        descriptor = _create(beside, 0o666)
        try:
            copied = _copy_all(source, descriptor)
        finally:
            os.close(descriptor)
        os.rename(beside, target)
    except OSError:
        remove_path(beside)
        raise
    finally:
        os.close(source)
    return copied


def _copy_all(source: int, target: int) -> int:
    copied = 0
    while piece := os.read(source, _PIECE_BYTES):
        waiting = memoryview(piece)
        while waiting.nbytes:
            waiting = waiting[os.write(target, waiting) :]
        copied += len(piece)
    return copied


def _create(path: str, mode: int) -> int:
    """Open a new file for writing; its folder is made where it is missing, which is rare."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        return os.open(path, flags, mode)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return os.open(path, flags, mode)


def _beside(path: str) -> str:
    folder, _, file = path.rpartition("/")
    return f"{folder}/{WRITING}{file}"
