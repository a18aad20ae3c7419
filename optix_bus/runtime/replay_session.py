"""A replay from its first event to its verdict."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from optix_bus.bus import blob_format
from optix_bus.bus.record import Record
from optix_bus.errors import BlobError, BlobMissing, CheckpointError, ConfigurationError, JournalError
from optix_bus.messages import CutTaken, NodeLost, RunResumed
from optix_bus.runtime.playback import Divergence, Emission, HandlerFailure, Played, shortened
from optix_bus.runtime.replay_compare import TOLERANCE, exact, of_states, tolerant
from optix_bus.runtime.replay_run import COLLECTED, RecordedRun, node_class, unlike_here
from optix_bus.runtime.replay_stage import Stage, begin, stage
from optix_bus.runtime.retirement import ANNOUNCING, references

#: Names of arrays that are listed where there are none.
_MAX_MISSING = 1000


class Watch:
    """Looks on; this one does nothing."""

    def before(self, record: Record, stage: Stage) -> None:
        """An event is about to be fed."""

    def after(self, played: Played, stage: Stage) -> bool:
        """It was fed; whether to go on."""
        return True

    def failed(self, failure: HandlerFailure, stage: Stage) -> None:
        """A node raised; its traceback is that of ``__cause__``."""


@dataclass
class Report:
    """What a replay has shown.

    Attributes:
        nodes: who was played.
        first, last: the events that were compared, both included.
        since: the cut's event with which the nodes began; 0 for the first event of the run.
        events, outputs, cuts: how many were fed and compared between ``first`` and ``last``.
        seconds: how long feeding took; ``recorded_seconds`` is what the run needed for the same events.
        divergence: the first thing that a node did otherwise.
        failure: a node raised, at the event where it died in the run.
        obstacle: why the replay could not go on to ``last``.
        missing: names of arrays that would have been needed.
        unrecorded: emitted, and not in the journal: the run ended first.
        notes: what a person should know.
    """

    nodes: list[str]
    first: int
    last: int
    since: int = 0
    events: int = 0
    outputs: int = 0
    cuts: int = 0
    seconds: float = 0.0
    recorded_seconds: float = 0.0
    tolerance: float = 0.0
    divergence: Divergence | None = None
    failure: str = ""
    obstacle: str = ""
    missing: list[str] = field(default_factory=list)
    unrecorded: list[Emission] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 all compared and equal, 1 a divergence, 2 something could not be replayed."""
        return 1 if self.divergence is not None else 2 if self.obstacle else 0

    @property
    def speed(self) -> float:
        """How often faster than the run; 0 where there was nothing to measure."""
        return self.recorded_seconds / self.seconds if self.seconds > 0 else 0.0


def replay(
    run: RecordedRun,
    names: Sequence[str] = (),
    *,
    first: int = 1,
    last: int | None = None,
    watch: Watch | None = None,
) -> Report:
    """Play nodes of a run again and compare everything that they emit, up to the first difference.

    Args:
        run: what was recorded.
        names: the nodes; without, all that emit something.
        first: the first event to compare; what comes before only brings the nodes there.
        last: the last event; by default the last of the journal.
        watch: looks on.

    Raises:
        ConfigurationError: an unknown node, or events that the run does not have.
    """
    end = run.head if last is None else last
    if not 1 <= first <= end <= run.head:
        raise ConfigurationError(
            f"events {first} to {end} were asked for, expected a range within 1 to {run.head}, the last of "
            "this run"
        )
    entries, notes = run.choose(names)
    foreign = run.foreign()
    report = Report([entry.name for entry in entries], first, end, notes=notes)
    if foreign:
        _be_tolerant(report, "", foreign)
    if worlds := [entry.name for entry in entries if COLLECTED & set(node_class(entry).emits)]:
        report.notes.append(
            f"the environment {run.plan.environment['id']} is created again for {', '.join(worlds)}"
        )
    cut = begin(run, report.nodes, first) if first > 1 else None
    with stage(run, report.nodes, cut=cut, compare=tolerant if foreign else exact) as played_on:
        report.since = played_on.since
        _Session(run, played_on, report, watch or Watch()).play()
        report.notes += played_on.notes
    return report


class _Session:
    def __init__(self, run: RecordedRun, stage: Stage, report: Report, watch: Watch) -> None:
        self._run = run
        self._stage = stage
        self._report = report
        self._watch = watch
        self._before = (0, 0)
        self._first_stamp = self._last_stamp = 0

    def play(self) -> None:
        report = self._report
        began = time.monotonic()
        try:
            self._feed_all()
        except HandlerFailure as failure:
            self._watch.failed(failure, self._stage)
            self._failed(failure)
        except JournalError as error:
            report.obstacle = str(error)
        report.seconds = time.monotonic() - began
        report.recorded_seconds = (self._last_stamp - self._first_stamp) / 1e9
        playback = self._stage.playback
        report.outputs = playback.compared - self._before[0]
        report.cuts = playback.cuts - self._before[1]
        if report.exit_code == 0 and report.last == self._run.head:
            report.unrecorded = playback.pending

    def _feed_all(self) -> None:
        report, stage, playback = self._report, self._stage, self._stage.playback
        for record in self._run.records(stage.since + 1, report.last):
            if record.seq == report.first:
                self._before = (playback.compared, playback.cuts)
            if not self._first_stamp:
                self._first_stamp = record.stamp_ns
            stage.before(record)
            self._move(record)
            self._watch.before(record, stage)
            played = playback.feed(record)
            stage.turn(played)
            self._last_stamp = record.stamp_ns
            report.events += record.seq >= report.first
            going_on = self._watch.after(played, stage)
            if played.divergences:
                self._diverged(played.divergences[0])
                return
            if not going_on:
                report.last = record.seq
                return

    def _move(self, record: Record) -> None:
        """A run may have gone on elsewhere than where it began."""
        if record.type == RunResumed.__name__ and not self._report.tolerance:
            event = self._run.decode(record)
            assert isinstance(event, RunResumed)
            if foreign := unlike_here(event.fingerprint):
                self._stage.playback.compare = tolerant
                _be_tolerant(self._report, f"from event {record.seq} on, ", foreign)

    def _diverged(self, divergence: Divergence) -> None:
        """Digests of a state say nothing: what differs in it does, where the recorded one is still there."""
        self._report.divergence = divergence
        taken = self._stage.taken.get(divergence.node)
        if divergence.type != CutTaken.__name__ or divergence.emission is None or taken is None:
            return
        recorded = next(self._run.records(divergence.sequence, divergence.sequence))
        event = self._run.decode(recorded)
        assert isinstance(event, CutTaken)
        try:
            before = self._run.cuts.read(event)
        except (CheckpointError, BlobError) as error:
            self._report.notes.append(f"what differs in the state cannot be said: {error}")
            return
        now = blob_format.parse(b"".join(taken.pieces), event.file)
        difference = of_states(before, now)
        if difference is not None:
            self._report.notes.append(
                f"in the state of {divergence.node!r}, {difference.field} was "
                f"{shortened(difference.expected)}, now {shortened(difference.found)}"
            )

    def _failed(self, failure: HandlerFailure) -> None:
        report = self._report
        if isinstance(failure.__cause__, BlobMissing):
            report.missing = list(itertools.islice(self._missing(failure.sequence), _MAX_MISSING))
            report.obstacle = _obstacle(report.missing, failure)
            return
        later = self._answer_behind(failure)
        if later is None and self._died(failure):
            report.failure = str(failure)
            return
        report.divergence = Divergence(
            later.seq if later is not None else failure.sequence,
            failure.node,
            "missing",
            later.type if later is not None else "its end",
            later.cause if later is not None else failure.sequence,
            "type",
            later.type if later is not None else None,
            str(failure),
        )

    def _missing(self, first: int) -> Iterator[str]:
        """Arrays that are announced to played nodes from here on, and that nobody has."""
        accepted = {
            kind.__name__ for fold in self._stage.folds.values() for kind in fold.accepts
        } & ANNOUNCING
        for record in self._run.records(first, self._report.last):
            if record.type in accepted:
                for ref in references(self._run.decode(record)):
                    if ref.owner not in self._stage.folds and not self._stage.blobs.has(ref):
                        yield ref.name

    def _answer_behind(self, failure: HandlerFailure) -> Record | None:
        """What the journal has of a node from the event on at which it raised now."""
        for record in self._run.records(failure.sequence):
            if record.node == failure.node and record.cause >= failure.sequence:
                return record
        return None

    def _died(self, failure: HandlerFailure) -> bool:
        """Whether the node died in the run as well."""
        with contextlib.suppress(ConfigurationError):  # of a run that was copied there may be no record
            if self._run.directory.read().state == "failed":
                return True
        return any(
            getattr(self._run.decode(record), "node", "") == failure.node
            for record in self._run.records(failure.sequence)
            if record.type == NodeLost.__name__
        )


def _be_tolerant(report: Report, since: str, foreign: Sequence[str]) -> None:
    report.tolerance = TOLERANCE
    report.notes.append(
        f"{since}this is not what the run ran on ({'; '.join(foreign)}): floats are compared within "
        f"{TOLERANCE:g}, relative, and checksums of arrays are not compared"
    )


def _obstacle(missing: Collection[str], failure: HandlerFailure) -> str:
    """Which arrays a replay lacks, in words."""
    if not missing:
        return f"event {failure.sequence} cannot be replayed: {failure}"
    first, *others = missing
    count = f"{len(others)}{'+' if len(missing) == _MAX_MISSING else ''}"
    more = f" ({count} that later events announce are not there either)" if others else ""
    return (
        f"event {failure.sequence} cannot be replayed: {failure.node!r} needs arrays that were not recorded: "
        f"{first}{more}; replay --all re-creates them, and run.record: blobs in the topology keeps them"
    )
