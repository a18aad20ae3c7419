"""The process host: one process of a run with one or more nodes in it, on the bus.

python -m optix_bus.runtime.host RUN PROCESS INCARNATION
"""

from __future__ import annotations

import signal
import sys
from collections import deque
from pathlib import Path
from types import FrameType

from optix_bus.bus.blobs import FileBlobStore
from optix_bus.bus.codec import Codec
from optix_bus.bus.endpoints import HubEndpoints
from optix_bus.bus.link import Link
from optix_bus.bus.record import Record
from optix_bus.bus.wire import Beacon
from optix_bus.errors import CodecError, NodeFailure, OptixError
from optix_bus.messages import (
    VOCABULARY,
    CutAnnounced,
    CutTaken,
    Event,
    TimerFired,
    TimerSet,
    VariantAdmitted,
    VariantDismissed,
)
from optix_bus.runtime import lifeline
from optix_bus.runtime.cuts import CutBook, CutFolder, take, takes_part
from optix_bus.runtime.failures import write_failure
from optix_bus.runtime.fold import Fold
from optix_bus.runtime.heartbeat import Heartbeat
from optix_bus.runtime.log import NodeLog
from optix_bus.runtime.plan import RunPlan
from optix_bus.runtime.recovery import Beginning, PatientStore, Repetition, is_answered
from optix_bus.runtime.retirement import ANNOUNCING, Retirement, references
from optix_bus.runtime.run_directory import RunDirectory
from optix_bus.runtime.site import build_nodes
from optix_bus.runtime.timers import Timers
from optix_bus.types import BlobRef

_POLL_SECONDS = 0.05
#: A cut lets many blobs go, which are copied into the archive first: not all of them before the next event.
_RETIRED_AT_ONCE = 2
#: Events by which nodes come to a run, and leave it.
_GROWTH = (VariantAdmitted, VariantDismissed)


class ProcessHost:
    """Drives the nodes of one process from the bus.

    It begins at the newest complete cut, or at the first event where there is none: a first start and a
    return from the dead are the same. Every event goes to the nodes in their order; what a handler emitted is
    sent when it has returned, and what the journal has of it already is dropped on the way.
    """

    def __init__(self, plan: RunPlan, process: str, incarnation: int) -> None:
        self._codec = Codec(VOCABULARY)
        self._incarnation = incarnation
        root = Path(plan.run_directory)
        run = RunDirectory(root)
        self._plan = plan
        self._boundaries = plan.boundaries
        self._process = process
        own = [node.name for node in plan.of_process(process)]
        log = NodeLog(process, plain=True)
        endpoints = HubEndpoints.in_directory(plan.sockets)
        self._heartbeat = Heartbeat(endpoints, process, own, incarnation)
        self._others = plan.lasting
        self._beginning = Beginning(root, run.journal, self._others, own)
        nodes = build_nodes(plan.as_of(self._beginning.sequence), process)
        # A cut is complete only with the states of this process, so then its place is there, too.
        self._folder = CutFolder(root, keeps=plan.keeper == process)
        self._cuts = CutBook(self._others)
        for cut in self._beginning.known():
            self._cuts.start(cut)
        stores = {
            name: FileBlobStore(
                plan.shared_memory,
                run.overflow,
                budget_bytes=int(plan.run["blob_budget_bytes"]),
                owner=name,
                wait=self._wait_for_space,
                archive_directory=run.blobs,
                always_admitted=1 + plan.lookahead,
            )
            for name in nodes
        }
        self._stores = stores
        self._retirement = Retirement(
            stores,
            self._cuts if plan.has_cuts else None,
            record=plan.run["record"],
            record_bytes=int(plan.run["record_bytes"]),
            log=log,
        )
        self._log = log
        #: The last event that was in the journal when this process began.
        self._recovered = 0
        self._sequence = 0
        seconds = float(plan.run["max_handle_seconds"])
        self._folds = [
            Fold(
                name,
                node,
                seed=plan.seed,
                store=PatientStore(stores[name], self._is_recovering, self._serve, seconds),
                log=NodeLog(name, plain=True),
                branch=plan.as_of(self._beginning.sequence).branch,
            )
            for name, node in nodes.items()
        ]
        always = {kind.__name__ for kind in (*_GROWTH, TimerSet, TimerFired, CutAnnounced, CutTaken)}
        self._wanted = {kind.__name__ for fold in self._folds for kind in fold.accepts} | always
        urgent = {
            kind.__name__ for node in nodes.values() for kind in node.accepts() if kind not in node.noted
        }
        spoken = {kind.__name__ for node in nodes.values() for kind in node.emits}
        self._link = Link(
            endpoints,
            list(nodes),
            incarnation,
            self._beginning.sequence + 1,
            near=self._beginning.near,
            # Of a past under other settings every event may have to be met.
            types=None if self._boundaries else self._wanted | spoken,
            wake_types=urgent | {TimerSet.__name__, TimerFired.__name__, CutAnnounced.__name__},
        )
        self._timers = Timers(nodes)
        self._repetition = Repetition(self._codec)
        #: Of nodes that cannot repeat themselves: the last event they have answered, and all answers since
        #: the cut by node and cause.
        self._answered: dict[str, int] = {}
        self._answers: dict[tuple[str, int], list[Event]] = {}
        #: Blobs that were announced by an event which has not come back yet.
        self._in_flight: dict[tuple[str, int, int], list[BlobRef]] = {}
        #: Handed out by the link, and not handled yet.
        self._batch: deque[Record] = deque()
        self._beacon: Beacon | None = None
        self._known_progress = -1
        self._stopping = False

    def run(self) -> None:
        """Set up, handle events until asked to end, tear down. Raises what a node raised."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        opened: list[Fold] = []
        try:
            for fold in self._folds:
                opened.append(fold)
                fold.node.setup()
            self._beginning.restore(self._folds)
            self._take_branch(self._beginning.sequence)
            self._link.connect(timeout=60.0)
            self._recover()
            self._heartbeat.start()
            while not self._stopping:
                self._turn()
            self._retirement.finish(ref for refs in self._in_flight.values() for ref in refs)
        finally:
            for fold in reversed(opened):
                try:
                    fold.node.teardown()
                except Exception as error:  # the others still have to be torn down
                    fold.log.warning("teardown failed", error=f"{type(error).__name__}: {error}")
            self._heartbeat.stop()
            self._link.close()

    def _recover(self) -> None:
        """Find out what is to be repeated."""
        self._recovered = self._retirement.recovered = self._link.head
        self._retirement.begun = self._retirement.in_hand = self._beginning.sequence
        self._heartbeat.end(self._beginning.sequence)
        if self._incarnation > 1:
            self._heartbeat.expect(self._recovered, self._beginning.remarks)
        for remark in self._beginning.remarks:
            self._log.warning(remark)
        if self._beginning.cut is not None:
            self._timers.load(self._folder.root, self._beginning.cut.number)
        if self._recovered == self._beginning.sequence:
            return  # nothing happened since, and whether a node could repeat it may be costly to say
        self._answered = {
            fold.name: self._link.last_identity(fold.name)[0] for fold in self._folds if not fold.node.repeats
        }
        repeating = [fold.name for fold in self._folds if fold.name not in self._answered]
        self._repetition.expect(repeating, self._beginning.sequence, self._recovered)
        if self._answered:
            self._answers = self._beginning.answers(self._codec, self._answered, self._recovered)

    def _is_recovering(self) -> bool:
        return self._sequence <= self._recovered

    def _turn(self) -> None:
        self._batch.extend(self._link.poll(_POLL_SECONDS))
        while self._batch:
            self._handle(self._batch.popleft())
            if self._stopping:
                return
        # What nobody here handles was passed.
        self._sequence = self._retirement.in_hand = self._link.seq
        self._heartbeat.end(self._sequence)
        # Before the end of what the journal held, a timer may have fired there that seems to be due here.
        for node, key, index in self._timers.due() if self._sequence >= self._recovered else []:
            name, body = self._codec.encode(TimerFired(node=node, key=key))
            self._link.emit(node, 0, index, name, body)
        if self._link.beacon is not self._beacon:
            self._beacon = self._link.beacon
            self._known_progress = self._progress()
        self._retirement.turn(self._known_progress, _RETIRED_AT_ONCE)

    def _handle(self, record: Record) -> None:
        self._sequence = self._retirement.in_hand = record.seq
        own = record.node in self._stores
        if own:
            self._in_flight.pop(record.identity, None)
            difference = self._repetition.compare(record)
            if difference:
                self._log.warning(difference)
        if record.type in self._wanted or (own and record.type in ANNOUNCING):
            try:
                event: Event = self._codec.decode(record.type, record.body)
            except CodecError as error:
                # Somebody else published what only looks like one of ours: nobody can act on it.
                self._folds[0].log.warning("event refused", node=record.node, seq=record.seq, why=str(error))
            else:
                if own and record.type in ANNOUNCING:
                    self._retirement.announced(record.seq, references(event))
                self._note_growth(event)
                self._timers.note(event, record.stamp_ns)
                self._apply(event, record)
                self._cut(event, record.seq)
        self._heartbeat.end(record.seq)
        if record.seq in self._boundaries:
            self._enter_future(record.seq)

    def _note_growth(self, event: Event) -> None:
        """Nodes of variants are waited for while they belong to the run."""
        if isinstance(event, VariantAdmitted):
            self._others = [*self._others, *event.nodes]
        elif isinstance(event, VariantDismissed):
            self._others = [name for name in self._others if name not in event.nodes]

    def _enter_future(self, sequence: int) -> None:
        """The past of a forked run ends here: the same states under other settings."""
        nodes = build_nodes(self._plan.as_of(sequence), self._process)
        for fold in self._folds:
            state, before, node = fold.node.state(), fold.node, nodes[fold.name]
            node.setup()
            for remark in node.load_state(state):
                self._log.warning(f"{fold.name}: {remark}")
            fold.node = node
            before.teardown()
        self._take_branch(sequence)

    def _take_branch(self, sequence: int) -> None:
        """Where the past of a forked run ends, and only there, chance takes another way."""
        branch = self._plan.as_of(sequence).branch
        if sequence in self._boundaries and branch:
            for fold in self._folds:
                fold.branch = branch
                fold.node.branch(branch)

    def _apply(self, event: Event, record: Record) -> None:
        for fold in self._folds:
            if type(event) not in fold.accepts:
                continue
            self._heartbeat.begin(fold.name, record.type)
            emitted: list[Event] = []
            try:
                recorded = self._answers.pop((fold.name, record.seq), [])
                if is_answered(record.seq, self._answered.get(fold.name, 0), recorded):
                    fold.repeat(event, record.seq, record.stamp_ns, recorded)
                else:
                    emitted = fold.apply(event, record.seq, record.stamp_ns)
            except OptixError:
                raise
            except Exception as error:
                raise NodeFailure(
                    f"{fold.name!r} in {record.type}: {type(error).__name__}: {error}"
                ) from error
            for index, item in enumerate(emitted):
                self._send(fold.name, record.seq, index, item)

    def _send(self, node: str, cause: int, index: int, event: Event) -> None:
        name, body = self._codec.encode(event)
        if name in ANNOUNCING:
            self._in_flight[(node, cause, index)] = references(event)
        if not self._link.emit(node, cause, index, name, body):
            self._repetition.said(node, cause, index, name, body)

    def _cut(self, event: Event, sequence: int) -> None:
        """Take a cut where one is announced; forget old ones where one is complete."""
        if self._cuts.note(event, sequence):
            self._folder.prune(self._cuts.complete[0].number)
        if not isinstance(event, CutAnnounced):
            return
        # What these events announce belongs to the time before the cut, and nobody will make it again.
        for ref in [ref for refs in self._in_flight.values() for ref in refs]:
            self._stores[ref.owner].persist(ref)
        beacon = self._link.beacon
        near = (
            None
            if beacon is None or beacon.head >= sequence
            else (beacon.head + 1, beacon.journal.segment, beacon.journal.offset)
        )
        states = []
        for fold in self._folds:
            if not takes_part(fold.name, fold.node, event):
                continue
            if self._answers.pop((fold.name, sequence), None):
                continue  # what it has written there it could not write again
            self._heartbeat.begin(fold.name, CutAnnounced.__name__)
            states.append(take(fold.name, fold.node, event))
        self._folder.write(states, sequence, event.window, near)
        for taken in states:
            self._timers.save(self._folder.root, event.cut, taken.event.node, self._folder.disk)
            self._send(taken.event.node, sequence, 0, taken.event)

    def _progress(self) -> int:
        """The last event that all nodes of the run have handled, as far as it is known."""
        beacon = self._link.beacon
        if beacon is None:
            return -1
        return min(beacon.nodes[name].progress if name in beacon.nodes else -1 for name in self._others)

    def _wait_for_space(self) -> None:
        """The budget is spent: serve the link until some consumer has caught up."""
        if self._stopping:
            raise NodeFailure("ended while waiting for space for a blob")
        self._serve()
        for record in (*self._batch, *self._link.ahead):
            # Not handled yet, but it may say that a cut is complete.
            if record.type == CutTaken.__name__:
                self._cuts.note(self._codec.decode(record.type, record.body), record.seq)
        self._retirement.press(self._progress())

    def _serve(self) -> None:
        """Keep the link alive while a handler waits for something."""
        self._link.flush(0.02)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True


def main(arguments: list[str]) -> int:
    """Entry of a node process; returns its exit code."""
    lifeline.watch()
    root, process, incarnation = Path(arguments[0]), arguments[1], int(arguments[2])
    run = RunDirectory(root)
    nodes = [process]
    try:
        plan = RunPlan.read(root / "plan.json")
        nodes = [node.name for node in plan.of_process(process)]
        ProcessHost(plan, process, incarnation).run()
    except Exception as error:
        write_failure(run, process, nodes, error)
        return error.exit_code if isinstance(error, OptixError) else 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
