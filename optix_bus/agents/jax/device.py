"""Where JAX computes, and where it keeps what it has compiled.

JAX settles both when it computes for the first time in a process: platforms and threads cannot be changed
after that, so everything here asks before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from optix_bus.errors import ConfigurationError

#: Names a folder for compiled programs; see `use_compilation_cache`.
CACHE_VARIABLE = "OPTIX_BUS_JAX_CACHE"
#: How many threads XLA starts to compute with; it is read once, when the CPU is first used.
_THREADS = "NPROC"
#: Its attributes are made while JAX is imported; no type checker sees them.
_CONFIG: Any = jax.config


def resolve_device(device: str = "auto") -> Any:
    """The JAX device to use; ``auto`` is the CPU, where small networks learn fastest.

    Unless somebody has chosen platforms (``JAX_PLATFORMS``), asking for the CPU leaves all others untouched:
    JAX would otherwise take most of the memory of every GPU. The CPU computes in one thread: for layers of a
    few hundred units more of them take twice the CPU time and not less of anybody's.

    Args:
        device: ``auto``, ``cpu``, ``gpu``, ``cuda`` or ``tpu``, with ``:1`` for the second one.

    Raises:
        ConfigurationError: no such device here.
    """
    name, _, number = ("cpu" if device == "auto" else device).partition(":")
    if name == "cpu" and not _CONFIG.jax_platforms:
        _CONFIG.update("jax_platforms", "cpu")
    use_compilation_cache(os.environ.get(CACHE_VARIABLE))
    try:
        with _one_thread():
            return jax.devices(name)[int(number or 0)]
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(
            f"device {device!r} cannot be used here ({reason}); expected 'auto', 'cpu', 'gpu' or 'gpu:N'"
        ) from error


def use_compilation_cache(folder: str | os.PathLike[str] | None) -> None:
    """Keep compiled programs in this folder, so that the next process need not compile them again.

    Nothing is written anywhere unless this is called or the variable `CACHE_VARIABLE` names a folder when the
    first agent is made; None changes nothing. A folder that is chosen already (``jax_compilation_cache_dir``,
    ``JAX_COMPILATION_CACHE_DIR``) stays. Programs depend on the processor and on the version of JAX, which
    JAX checks; processes may use a folder together, and it may be deleted at any time.

    What lies there is run as it is found, so nobody else may write there: a folder that does not exist yet is
    made for its owner alone.

    Raises:
        ConfigurationError: the folder cannot be made, belongs to somebody else, or others can write in it.
    """
    if folder is None or not str(folder) or _CONFIG.jax_compilation_cache_dir:
        return
    place = Path(folder).expanduser().absolute()
    _keep_private(place)
    _CONFIG.update("jax_compilation_cache_dir", str(place))
    # An update takes a second to compile, its helpers a tenth: all of them are worth keeping.
    _CONFIG.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    _CONFIG.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _keep_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise ConfigurationError(
            f"compiled programs cannot be kept in {folder} ({error.strerror}); name another folder in "
            f"{CACHE_VARIABLE}, or none"
        ) from error
    if os.name != "posix":
        return
    if found.st_uid not in (os.getuid(), 0):
        raise ConfigurationError(
            f"{folder} belongs to the user with number {found.st_uid}, expected one of your own: compiled "
            f"programs are run as they are found; name another folder in {CACHE_VARIABLE}"
        )
    if found.st_mode & 0o022:
        raise ConfigurationError(
            f"others can write in {folder}, and compiled programs are run as they are found; chmod go-w it, "
            f"or name another folder in {CACHE_VARIABLE}"
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    before = os.environ.get(_THREADS)
    os.environ.setdefault(_THREADS, "1")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_THREADS, None)
