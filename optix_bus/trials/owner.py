"""Who works on a trial, and whether that process still lives."""

from __future__ import annotations

import contextlib
import os
import platform
from functools import cache
from typing import Any

from optix_bus.runtime.run_directory import creation_time, process_alive


def myself() -> dict[str, Any]:
    """Our process in plain values; the time of creation tells it from a later one with the same number."""
    return {"host": _host(), "pid": os.getpid(), "created": creation_time(os.getpid())}


def is_dead(owner: Any) -> bool:
    """Whether the process is certainly gone: of one on another machine nobody here can say so."""
    if not isinstance(owner, dict) or owner.get("host") != _host():
        return False
    return not process_alive(int(owner["pid"]), float(owner["created"]))


@cache
def _host() -> str:
    """The machine, and the space in which its process numbers hold: a container counts its own."""
    with contextlib.suppress(OSError):
        return f"{platform.node()} {os.readlink('/proc/self/ns/pid')}"
    return platform.node()
