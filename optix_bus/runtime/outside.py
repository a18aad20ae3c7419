"""What a run has outside its directory: a folder for sockets, and one in shared memory for blobs.

Each holds the file `owner.json`, which the supervisor keeps locked as long as it lives. The kernel gives a
lock back when its holder is gone, however it ended; nothing else is as sure: a number of a process may be
somebody else's by now, or one that another container counts.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from optix_bus.runtime.run_directory import RunRecord, creation_time, process_alive

SHARED_MEMORY = Path("/dev/shm")
_PREFIX = "optix-bus-"
_OWNER = "owner.json"
#: A folder without an owner that is empty for so long was made by a supervisor that died between two lines.
_ABANDONED_SECONDS = 3600.0


class Owner(msgspec.Struct, frozen=True):
    """Who has made a folder. ``created`` tells the process from a later one with the same number."""

    pid: int
    created: float


class OutsideFolder:
    """A folder of a run outside its directory; removed by `remove`, or swept once we are dead."""

    def __init__(self, within: Path) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=within))
        beside = self.path / f"{_OWNER}.new"
        self._lock: int | None = os.open(beside, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks: then nobody ever sweeps the folder
            _lock(self._lock)
        os.write(self._lock, msgspec.json.encode(Owner(os.getpid(), creation_time(os.getpid()))))
        beside.replace(self.path / _OWNER)  # nobody sees it before it is locked

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        remove_directory(self.path)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def private_directory() -> OutsideFolder:
    """A new folder for sockets that only this user can enter, with a short path: Unix sockets allow 107
    bytes for all of it."""
    root = os.environ.get("XDG_RUNTIME_DIR")
    usable = root is not None and Path(root).is_dir() and len(root) < 40
    return OutsideFolder(Path(root) if root is not None and usable else Path(tempfile.gettempdir()))


def shared_directory() -> OutsideFolder | None:
    """A new folder for blobs in shared memory; None where there is none."""
    if SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK):
        return OutsideFolder(SHARED_MEMORY)
    return None


def remove_outside(record: RunRecord) -> None:
    """Remove what a run has outside its directory."""
    for text in (record.sockets, record.shared_memory):
        remove_directory(Path(text))


def remove_directory(folder: Path) -> None:
    """Remove a folder for sockets or blobs; one that is not of our making is left alone."""
    if _is_ours(folder):
        shutil.rmtree(folder, ignore_errors=True)


def sweep() -> list[str]:
    """Remove what runs have left whose supervisor is dead; returns the folders.

    Left alone are folders of other users, of living supervisors, and those without an owner: unless one of
    these is empty and older than an hour, in which case its supervisor died before it could say who it is.
    """
    swept: list[str] = []
    if sys.platform == "win32":
        return swept  # no runs in processes there, hence no folders
    for folder in _folders():
        if _is_ours(folder) and _is_abandoned(folder):
            remove_directory(folder)
            if not folder.exists():
                swept.append(str(folder))
    return swept


def swept_line(folders: list[str]) -> str:
    """One line for people on what was swept; empty where it was nothing."""
    return f"swept what dead runs had left: {', '.join(folders)}" if folders else ""


def _folders() -> Iterator[Path]:
    places = {Path(tempfile.gettempdir()), SHARED_MEMORY}
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        places.add(Path(runtime))
    for place in sorted(places):
        with contextlib.suppress(OSError):
            yield from sorted(place.glob(f"{_PREFIX}*"))


def _is_ours(folder: Path) -> bool:
    """Whether this is a folder, of this user, with our name; a link is none."""
    if not folder.name.startswith(_PREFIX):
        return False
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _is_abandoned(folder: Path) -> bool:
    try:
        with (folder / _OWNER).open("rb") as file:
            _lock(file.fileno())
            owner = msgspec.json.decode(file.read(), type=Owner)
            return not process_alive(owner.pid, owner.created)
    except FileNotFoundError:
        return _is_old_and_empty(folder)
    except (OSError, msgspec.DecodeError):
        return False  # locked, or nothing that we could judge


def _lock(descriptor: int) -> None:
    import fcntl  # Windows has none, and no runs in processes

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_old_and_empty(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return not any(folder.iterdir()) and time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS
    return False
