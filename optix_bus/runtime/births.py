"""How the processes of a run come into the world: as new interpreters, or forked by a warm nursery."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from optix_bus.runtime.children import AdoptedChild, Child, SpawnedChild
from optix_bus.runtime.names import HUB, NURSERY
from optix_bus.runtime.nursery import Nursery
from optix_bus.runtime.run_directory import RunDirectory, creation_time
from optix_bus.runtime.watched import READY, STARTING, Watched

#: How long a warm nursery may take to fork; one that is stopped is not waited for.
_FORK_SECONDS = 2.0


class Births:
    """Begins lives.

    A process that is forked at its first start waits for the nursery, which starts at the same time. Later
    nobody waits: where the nursery is not ready, dead, or does not answer, a new interpreter is started.

    Args:
        run: the run directory, with the plan in it.
        everybody: all processes by name, the nursery's own among them where there is one.
        changed: called when a record has changed.
    """

    def __init__(
        self, run: RunDirectory, everybody: Mapping[str, Watched], changed: Callable[[], None]
    ) -> None:
        self._run = run
        self._everybody = everybody
        self._changed = changed
        self._nursery: Nursery | None = None
        #: Children of the nursery live until this pipe has no writer, whatever becomes of the nursery.
        self._lifeline, self._line_writer = os.pipe()

    def launch(self, watched: Watched, why: str = "", *, warm: bool = True) -> None:
        """Begin a life; ``why`` is a line for the log that it shares with the life before."""
        watched.begin(time.monotonic())
        root, name, incarnation = str(self._run.root), watched.name, watched.record.incarnation
        log = self._log(name)
        if why:
            _draw_a_line(log, f"{name}, life {incarnation}: {why}")
        nursery = self._nursery if warm and watched.warm else None
        if name == NURSERY:
            self._nursery = Nursery(self._run.root, log, self._lifeline)
            self._born(watched, self._nursery)
        elif name == HUB:
            self._born(watched, SpawnedChild(name, ["-m", "optix_bus.runtime.hub_process", root], log))
        elif nursery is not None and (nursery.is_ready or not watched.record.restarts):
            nursery.ask(name, incarnation, log)
        else:
            arguments = ["-m", "optix_bus.runtime.host", root, name, str(incarnation)]
            self._born(watched, SpawnedChild(name, arguments, log))

    def attend(self, now: float) -> None:
        """Take in what the nursery has answered; start those that it cannot fork any more."""
        if self._nursery is None:
            return
        births = self._nursery.poll()
        own = self._everybody[NURSERY]
        if self._nursery.is_ready and own.record.state == STARTING:
            own.record.state, own.heard = READY, now
            self._changed()
        own.handled = max(own.handled, 0) + sum(birth.pid > 0 for birth in births)
        for birth in births:
            watched = self._everybody[birth.process]
            if birth.pid:
                self._born(watched, AdoptedChild(birth.process, birth.pid, self._log(birth.process)))
            elif watched.child is None and watched.record.incarnation == birth.incarnation:
                self.launch(watched, warm=False)

    def hurry(self, watched: Watched, now: float) -> None:
        """A nursery that is warm and does not fork is stopped or hangs: it is ended, and not waited for."""
        own = self._everybody.get(NURSERY)
        if own is None or own.child is None or own.verdict or own.record.state != READY:
            return
        if watched.record.state == STARTING and now - max(watched.started, own.heard) > _FORK_SECONDS:
            own.verdict = f"did not fork {watched.name} in {_FORK_SECONDS:g} s"
            own.child.kill()

    def is_over(self, child: Child, now: float) -> None:
        """A life has ended. Where it was the nursery's, what it has answered still counts."""
        if child is self._nursery:
            self.attend(now)
            self._nursery = None
        child.close()

    def end(self) -> None:
        """Nobody is born any more; call it before the others are ended."""
        if self._nursery is None:
            return
        nursery, self._nursery = self._nursery, None
        nursery.kill()
        deadline = time.monotonic() + 10.0
        while nursery.exit_code is None and time.monotonic() < deadline:
            time.sleep(0.005)
        for birth in nursery.poll():
            if birth.pid:
                child = AdoptedChild(birth.process, birth.pid, self._log(birth.process))
                self._born(self._everybody[birth.process], child)

    def close(self) -> None:
        """Give up the lifelines; call it when everybody has ended."""
        os.close(self._lifeline)
        os.close(self._line_writer)

    def _born(self, watched: Watched, child: Child) -> None:
        watched.child = child
        watched.record.pid, watched.record.created = child.pid, creation_time(child.pid)
        self._changed()

    def _log(self, name: str) -> Path:
        return self._run.logs / f"{name}.log"


def _draw_a_line(log: Path, text: str) -> None:
    """Between two lives of a process, in the log that both write."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as file:
        file.write(f"--- {stamp} {text} ---\n")
