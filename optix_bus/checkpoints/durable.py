"""Writing a folder so that it is there whole or not at all, whenever the power fails."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from optix_bus.errors import CheckpointError
from optix_bus.failpoints import reached

_PARTIAL = ".partial"
_CHUNK = 1 << 20


def write_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Create the folder ``target`` with what ``fill(folder)`` writes into it.

    It is written beside, every file and folder is fsynced, and the whole is renamed into place; a folder of
    that name is replaced. An error leaves neither a half folder nor a missing old one.

    Raises:
        CheckpointError: the disk is full, or the place cannot be written.
    """
    beside = target.with_name(f".{target.name}.{os.getpid()}{_PARTIAL}")
    old = target.with_name(f".{target.name}.{os.getpid()}.old{_PARTIAL}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        fill(beside)
        for folder, _, names in os.walk(beside, topdown=False):
            for name in names:
                _sync(Path(folder) / name)
            _sync(Path(folder))
        if target.exists():
            os.rename(target, old)
        reached("snapshot.rename.before")
        os.rename(beside, target)
        reached("snapshot.rename.after")
        _sync(target.parent)
    except OSError as error:
        if old.exists() and not target.exists():
            os.rename(old, target)
        raise _explained(target, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def sweep(directory: Path) -> None:
    """Remove what writers left that died while writing; a living process keeps its own."""
    for leftover in directory.glob(f".*{_PARTIAL}"):
        process = leftover.name.removesuffix(_PARTIAL).removesuffix(".old").rpartition(".")[2]
        if not (process.isdigit() and _alive(int(process))):
            _recover(leftover)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path relative to it."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
            found[path.relative_to(folder).as_posix()] = digest.hexdigest()
    return found


def _recover(leftover: Path) -> None:
    """An old version whose replacement never arrived goes back to its place; anything else goes."""
    name = leftover.name.removesuffix(_PARTIAL)
    if name.endswith(".old"):
        home = leftover.with_name(name.removesuffix(".old").rpartition(".")[0].removeprefix("."))
        if not home.exists():
            os.rename(leftover, home)
            return
    shutil.rmtree(leftover, ignore_errors=True)


def _alive(process: int) -> bool:
    if process == os.getpid():
        return False  # an earlier process had this number: nobody sweeps while writing
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():  # Windows opens no folders; its renames are journaled
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explained(target: Path, error: OSError) -> CheckpointError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CheckpointError(
            f"the disk is full: cannot write {target} ({error.strerror}); nothing of it was kept. Free some "
            "space, lower max_snapshots, or choose another directory"
        )
    return CheckpointError(f"cannot write {target}: {error}")
