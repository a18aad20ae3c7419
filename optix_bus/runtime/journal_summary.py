"""What a journal tells of its run at a glance: who spoke, which cuts were taken, how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optix_bus.bus.codec import Codec
from optix_bus.bus.journal_report import JournalReport
from optix_bus.bus.journal_verify import verify_journal
from optix_bus.bus.record import Stored
from optix_bus.errors import CodecError
from optix_bus.messages import (
    CutAnnounced,
    CutTaken,
    Event,
    NodeLost,
    RunFinished,
    RunResumed,
    RunStarted,
    StopRequested,
)

_TYPES: tuple[type[Event], ...] = (
    RunStarted,
    RunResumed,
    NodeLost,
    CutAnnounced,
    CutTaken,
    StopRequested,
    RunFinished,
)


@dataclass(slots=True)
class CutSeen:
    """A cut; it is complete when every node of the run has taken it."""

    number: int
    window: int
    sequence: int
    nodes: list[str] = field(default_factory=list)
    complete: bool = False


@dataclass(slots=True)
class JournalSummary:
    """A journal at a glance.

    Attributes:
        report: what reading it has found.
        starts: every `RunStarted`: one, or two where the run is a branch of another.
        resumes: windows behind which the run was taken up again.
        cuts: by their numbers, oldest first.
        lost: nodes whose processes have died, with the reason.
        stops: reasons of `StopRequested`.
        finished: the last `RunFinished`, where there is one.
    """

    report: JournalReport
    starts: list[RunStarted] = field(default_factory=list)
    resumes: list[int] = field(default_factory=list)
    cuts: list[CutSeen] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    finished: RunFinished | None = None

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes of the run, as it said when it began."""
        return self.starts[-1].nodes if self.starts else ()

    @property
    def ending(self) -> str:
        """How the run ended, in words."""
        if self.finished is not None:
            return f"finished: {self.finished.reason}"
        if self.stops:
            return f"was asked to stop ({self.stops[-1]}), and did not finish"
        return "has not finished"


def summarise(directory: Path) -> JournalSummary:
    """Read a journal, also one that is being written or is damaged.

    Raises:
        JournalError: there is none, or it cannot be read.
    """
    notes = _Notes()
    report = verify_journal(directory, visit={kind.__name__: notes.take for kind in _TYPES})
    summary = JournalSummary(
        report,
        starts=notes.starts,
        resumes=notes.resumes,
        cuts=[notes.cuts[number] for number in sorted(notes.cuts)],
        lost=notes.lost,
        stops=notes.stops,
        finished=notes.finished,
    )
    for cut in summary.cuts:
        cut.complete = bool(summary.nodes) and set(cut.nodes) >= set(summary.nodes)
    return summary


class _Notes:
    """Events that say something about the whole run."""

    def __init__(self) -> None:
        self._codec = Codec(_TYPES)
        self.starts: list[RunStarted] = []
        self.resumes: list[int] = []
        self.cuts: dict[int, CutSeen] = {}
        self.lost: list[tuple[str, str]] = []
        self.stops: list[str] = []
        self.finished: RunFinished | None = None

    def take(self, stored: Stored) -> None:
        """Take in one event."""
        try:
            event: Any = self._codec.decode(stored.type, bytes(stored.body))
        except CodecError:
            return  # of another version; verifying says so
        if isinstance(event, RunStarted):
            self.starts.append(event)
        elif isinstance(event, RunResumed):
            self.resumes.append(event.window)
        elif isinstance(event, CutAnnounced):
            self.cuts[event.cut] = CutSeen(event.cut, event.window, stored.seq)
        elif isinstance(event, CutTaken) and event.cut in self.cuts:
            self.cuts[event.cut].nodes.append(event.node)
        elif isinstance(event, NodeLost):
            self.lost.append((event.node, event.reason))
        elif isinstance(event, StopRequested):
            self.stops.append(event.reason)
        elif isinstance(event, RunFinished):
            self.finished = event
