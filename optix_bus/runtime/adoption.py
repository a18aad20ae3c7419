"""Orphans: what a process of the run leaves when it dies is ours to end and to wait for.

The nursery forks processes that are to outlive it, and a node may have processes of its own (environments
that step beside each other). On Linux the kernel gives orphans to the nearest ancestor that asks for them;
elsewhere, and in a process that may not ask, nothing here has an effect.

Every process of a run leads a session, and what it starts belongs to that session: this is how orphans are
told from the other children of an application that runs a topology.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Collection, Iterator

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37


@contextlib.contextmanager
def adopting() -> Iterator[bool]:
    """Inside, orphans among our descendants become our children; yields whether that is so."""
    before = _asked()
    if before is None or not _ask(True):
        yield False
        return
    try:
        yield True
    finally:
        _ask(before)


def _asked() -> bool | None:
    if sys.platform != "linux":
        return None
    found = ctypes.c_int()
    with contextlib.suppress(OSError, AttributeError):
        if ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0) == 0:
            return bool(found.value)
    return None


def _ask(wanted: bool) -> bool:
    with contextlib.suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) == 0)
    return False


class Orphans:
    """What dead processes of a run left; killed, and waited for when they are dead."""

    def __init__(self) -> None:
        self._left: set[int] = set()

    def end(self, leaders: Collection[int]) -> None:
        """Kill whatever is in the sessions of these dead processes."""
        for pid in psutil.pids():
            with contextlib.suppress(OSError):
                if os.getsid(pid) in leaders and pid not in leaders:
                    os.kill(pid, signal.SIGKILL)
                    self._left.add(pid)

    def reap(self) -> None:
        """Wait for those that are dead; those that nobody gave to us are somebody else's to wait for."""
        for pid in list(self._left):
            try:
                gone = os.waitpid(pid, os.WNOHANG)[0] == pid
            except ChildProcessError:
                gone = True
            if gone:
                self._left.discard(pid)
