"""A child's side of the lifeline: when the supervisor is gone, the child ends too."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading

from optix_bus.runtime.children import LIFELINE

_PR_SET_PDEATHSIG = 1


def watch() -> None:
    """Start watching; call once, early in a child process. Without a lifeline this does nothing.

    On Linux the kernel is asked for a signal as well: a process that hangs with the interpreter locked
    reads no pipe.
    """
    descriptor = os.environ.get(LIFELINE)
    if descriptor is None:
        return
    die_with_parent()
    threading.Thread(target=_wait, args=(int(descriptor),), name="lifeline", daemon=True).start()


def die_with_parent() -> None:
    """Ask for SIGKILL when the parent dies; an adopted process dies with whoever has adopted it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _wait(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(descriptor, 1):
            pass
    os._exit(70)
