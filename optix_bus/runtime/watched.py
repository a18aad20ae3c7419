"""One process of a run as its supervisor sees it: what it said last, and when that is too long ago."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optix_bus.runtime.children import Child, explain_exit
from optix_bus.runtime.restarts import Death, Restarts
from optix_bus.runtime.run_directory import ProcessRecord
from optix_bus.runtime.topology_settings import RunSettings

#: States of a process record: set up, caught up with the journal, at work; dead until its restart is due;
#: dead for good; ended with the run.
STARTING, RECOVERING, READY, WAITING, LOST, ENDED = (
    "starting",
    "recovering",
    "ready",
    "waiting",
    "lost",
    "ended",
)


@dataclass
class Watched:
    """A process in its present life. All times are monotonic seconds.

    Attributes:
        record: what `ps` shows.
        restarts: its history and what follows from it.
        beats: whether it sends heartbeats; deadlines on silence hold for such processes only.
        warm: whether the nursery may fork it.
        child: None between two lives, and while the nursery has not answered.
        started: when its present life was asked for.
        due: when its next life begins, while it waits.
        heard: its last sign of life; 0 before the first.
        handled: the last event that all its nodes have handled.
        handling: what it said it was handling, and for how long.
        verdict: why it is being killed, if it is.
        cause: why its last life ended.
        count: restarts within the time that counts.
        leaves: the event behind which its nodes belong to the run no longer; 0 for none.
        killed: when it is ended at once, once it was asked to leave.
    """

    record: ProcessRecord
    restarts: Restarts
    beats: bool = True
    warm: bool = False
    child: Child | None = None
    started: float = 0.0
    due: float = 0.0
    heard: float = 0.0
    handled: int = -1
    handling: str = ""
    handling_seconds: float = 0.0
    remarks: tuple[str, ...] = ()
    verdict: str = ""
    cause: str = ""
    count: int = 0
    leaves: int = 0
    killed: float = 0.0

    @property
    def may_leave(self) -> bool:
        """Whether it was dismissed, and has taken note of that."""
        return 0 < self.leaves <= self.handled

    @property
    def name(self) -> str:
        """Of the process."""
        return self.record.name

    def begin(self, now: float) -> None:
        """A new life."""
        self.record.state = STARTING
        self.child = None
        self.started, self.heard = now, 0.0
        self.handled = -1
        self.handling, self.handling_seconds = "", 0.0
        self.remarks, self.verdict = (), ""

    def hear(self, body: Mapping[str, Any], now: float) -> bool:
        """A heartbeat; whether the process has just become ready."""
        self.heard = now
        self.handled = max(self.handled, int(body.get("seq", -1)))
        self.handling = str(body.get("handling") or "")
        self.handling_seconds = float(body.get("handling_seconds") or 0.0)
        if self.record.state not in (STARTING, RECOVERING):
            return False
        if not body.get("ready", True):
            self.record.state = RECOVERING
            return False
        self.remarks = tuple(str(remark) for remark in body.get("remarks") or ())
        self.record.state = READY
        return True

    def overdue(self, now: float, limits: RunSettings, *, judge_silence: bool = True) -> str:
        """Which deadline it has missed, in words; empty where it has missed none.

        A heartbeat says for how long its process has been busy. What counts is what it said, not the time
        since: nobody is busy longer because the hub is away.
        """
        if self.record.state == STARTING:
            if now - self.started > limits.start_seconds:
                allowed = f"{limits.start_seconds:g} s to become ready (run.start_seconds)"
                return f"took longer than {allowed}; see the log"
            return ""
        if not self.beats or self.record.state not in (RECOVERING, READY):
            return ""
        if self.handling and self.handling_seconds > limits.max_handle_seconds:
            return (
                f"has worked on {self.handling} for more than {limits.max_handle_seconds:g} s "
                "(run.max_handle_seconds)"
            )
        if judge_silence and now - self.heard > limits.idle_seconds:
            return f"has been silent for more than {limits.idle_seconds:g} s (run.idle_seconds)"
        return ""

    def death(self, code: int, failure: Mapping[str, Any]) -> Death:
        """How the present life has ended, from its exit code and from what it wrote itself (or nothing)."""
        if failure:
            return Death(
                str(failure.get("message")),
                # What it meant, although it may have hung on its way out and been killed.
                int(failure.get("exit_code") or code),
                was_heard=self.heard > 0.0,
                handled=self.handled,
                said=True,
                node=str(failure.get("node") or ""),
                sequence=int(failure.get("sequence") or 0),
            )
        return Death(
            self.verdict or explain_exit(code),
            code,
            was_heard=self.heard > 0.0,
            handled=self.handled,
            said=bool(self.verdict),
            node=self.name if self.verdict and self.handling else "",
            sequence=self.handled + 1 if self.verdict and self.handling else 0,
        )
