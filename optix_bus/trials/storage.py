"""Where a study lies: a journal file, SQLite or another database, or this process."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optix_bus.errors import ConfigurationError, MissingExtra


def import_optuna() -> Any:
    """Optuna, quiet about its own progress; every use of it begins here.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingExtra("optuna", "tune", "by the search over trials") from error
    return optuna


@dataclass(frozen=True)
class Storage:
    """An opened storage.

    Attributes:
        backend: Optuna's object.
        path: the file that it lies in, where it is one; beside it lies the lock.
        ours_alone: whether no other process can reach it.
    """

    backend: Any
    path: Path | None
    ours_alone: bool = False

    def alone(self) -> AbstractContextManager[None]:
        """Nobody else who shares the study is inside at the same time, as far as a file can see to that.

        The kernel gives the lock back when its holder dies.
        """
        return _alone(self.path)


def open_storage(storage: Any) -> Storage:
    """Open what a user names.

    Args:
        storage: None for this process alone; a path for a journal file; a URL such as ``sqlite:///study.db``
            for a database; or a storage of Optuna's.

    Raises:
        ConfigurationError: it cannot be opened.
        MissingExtra: Optuna is not installed.
    """
    optuna = import_optuna()
    if storage is None:
        return Storage(optuna.storages.InMemoryStorage(), None, ours_alone=True)
    if isinstance(storage, optuna.storages.BaseStorage):
        return Storage(storage, None)
    if not isinstance(storage, str | Path):
        raise ConfigurationError(
            f"found a storage of type {type(storage).__name__}, expected a path (journal), a URL such as "
            "sqlite:///study.db, or a storage of Optuna's"
        )
    try:
        return _database(optuna, storage) if "://" in str(storage) else _journal(optuna, Path(storage))
    except Exception as error:  # whatever a driver raises
        raise ConfigurationError(
            f"the storage {str(storage)!r} cannot be opened: {type(error).__name__}: {error}"
        ) from error


def _alone(path: Path | None) -> AbstractContextManager[None]:
    if path is None or sys.platform == "win32":
        return contextlib.nullcontext()
    return _locked(path.with_name(f"{path.name}.claim"))


def _database(optuna: Any, url: str | Path) -> Storage:
    from sqlalchemy.engine import make_url  # comes with Optuna

    parsed = make_url(str(url))
    in_file = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
    path = Path(str(parsed.database)) if in_file else None
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    # SQLite waits for a lock instead of failing when several workers write at once.
    arguments = {"connect_args": {"timeout": 60}} if in_file else {}
    with _alone(path):  # two workers that make the tables at the same time would both fail
        return Storage(optuna.storages.RDBStorage(str(url), engine_kwargs=arguments), path)


def _journal(optuna: Any, path: Path) -> Storage:
    from optuna.storages.journal import JournalFileBackend

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = None if sys.platform == "win32" else _WriteLock(path)
    backend = JournalFileBackend(str(path), lock_obj=lock)  # type: ignore[arg-type]  # acquire and release
    return Storage(optuna.storages.JournalStorage(backend), path)


class _WriteLock:
    """Who appends to the journal is alone, and finds it whole.

    Optuna's own lock is a file that a killed process leaves behind, so that the others wait for half a
    minute; this one is the kernel's. A line that its writer did not live to finish is cut off: with the next
    one behind it nobody could read the journal any more.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: Any = None

    def acquire(self) -> bool:
        """Wait for it."""
        self._held = _locked(self._path.with_name(f"{self._path.name}.lock"))
        self._held.__enter__()
        _cut_unfinished(self._path)
        return True

    def release(self) -> None:
        """Give it back."""
        held, self._held = self._held, None
        if held is not None:
            held.__exit__(None, None, None)


def _cut_unfinished(path: Path) -> None:
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    import fcntl  # Windows has none

    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
