"""The supervisor's side of the nursery: a warm process that forks others on request.

Importing a framework takes more than a second, forking a process that has done it a hundredth of one. What is
forked belongs to the supervisor, as if it had started it itself.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from optix_bus.runtime.children import SpawnedChild
from optix_bus.runtime.names import NURSERY
from optix_bus.runtime.nursery_process import Reply, Request


@dataclass(frozen=True)
class Birth:
    """A process is there; or it is not, because the nursery could not fork it or has died (``pid`` 0)."""

    process: str
    incarnation: int
    pid: int


class Nursery(SpawnedChild):
    """One nursery process.

    Args:
        run: the run directory, with its plan.
        log: of the nursery itself.
        lifeline: read end of a pipe that children watch; its only writer is this process.
    """

    def __init__(self, run: Path, log: Path, lifeline: int) -> None:
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        module = "optix_bus.runtime.nursery_process"
        try:
            super().__init__(
                NURSERY,
                ["-m", module, str(run), str(requests), str(replies), str(lifeline)],
                log,
                pass_fds=(requests, replies, lifeline),
            )
        except BaseException:
            self._hang_up()
            raise
        finally:
            os.close(requests)
            os.close(replies)
        for descriptor in (self._requests, self._replies):
            os.set_blocking(descriptor, False)
        self.is_ready = False
        #: Processes that were forked.
        self.births = 0
        self._waiting: dict[tuple[str, int], None] = {}
        self._read = b""

    def ask(self, process: str, incarnation: int, log: Path) -> None:
        """Ask for a process; `births` of a later turn tells what came of it."""
        self._waiting[process, incarnation] = None
        # One that cannot be written to is dying: `poll` finds out.
        with contextlib.suppress(OSError):
            request = Request(process, incarnation, str(log))
            os.write(self._requests, msgspec.json.encode(request) + b"\n")

    def poll(self) -> list[Birth]:
        """What has come of requests. When the nursery is dead, none is left waiting."""
        ended = self.exit_code is not None  # before reading: what it said before its end counts
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._replies, 65_536):
                self._read += chunk
        *lines, self._read = self._read.split(b"\n")
        found = []
        for line in lines:
            reply = msgspec.json.decode(line, type=Reply)
            if not reply.process:
                self.is_ready = True
                continue
            self.births += reply.pid > 0
            self._waiting.pop((reply.process, reply.incarnation), None)
            found.append(Birth(reply.process, reply.incarnation, reply.pid))
        if ended:
            found += [Birth(process, incarnation, 0) for process, incarnation in self._waiting]
            self._waiting.clear()
        return found

    def close(self) -> None:
        """Ask for no more; what was forked lives on."""
        super().close()
        self._hang_up()

    def _hang_up(self) -> None:
        for descriptor in (self._requests, self._replies):
            if descriptor >= 0:
                os.close(descriptor)
        self._requests = self._replies = -1
