"""Places where a test lets a run die: a machine that stops does not choose its moment.

``OPTIX_BUS_FAILPOINT=journal.append.before:17`` kills a whole run (supervisor and process, SIGKILL) when some
process of it reaches that place for the 17th time. Without the variable a place costs one comparison.
"""

from __future__ import annotations

import contextlib
import os
import signal

_ARMED = "OPTIX_BUS_FAILPOINT"
_ROOT = "OPTIX_BUS_FAILPOINT_ROOT"

_place, _, _count = os.environ.get(_ARMED, "").partition(":")
_left = int(_count or 1)
if _place:
    # The first process that gets here is the one that starts all others.
    os.environ.setdefault(_ROOT, str(os.getpid()))


def reached(place: str) -> None:
    """A process has come to a place where a run may die."""
    if place == _place:
        _pass()


def _pass() -> None:
    global _left
    _left -= 1
    if _left == 0:
        for pid in (int(os.environ[_ROOT]), os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
