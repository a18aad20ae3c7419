"""Runs a topology on this machine: starts its processes, watches them, ends them, and says why.

The supervisor is a node of its own on the bus. It speaks only roots: who is ready, who is lost, that the run
starts, that somebody asked it to stop. Everything it learns about the run it learns as events.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType

import msgspec

from optix_bus.bus.codec import Codec
from optix_bus.bus.endpoints import HubEndpoints
from optix_bus.bus.link import Link
from optix_bus.errors import BusError, CodecError, NodeFailure
from optix_bus.messages import (
    VOCABULARY,
    Event,
    RunFinished,
    RunResumed,
    RunStarted,
    StopRequested,
    VariantAdmitted,
    VariantDismissed,
)
from optix_bus.runtime.adoption import adopting
from optix_bus.runtime.crew import Crew, Lost
from optix_bus.runtime.fingerprint import fingerprint
from optix_bus.runtime.names import HEARTBEAT, HUB, SUPERVISOR
from optix_bus.runtime.outside import private_directory, shared_directory, sweep, swept_line
from optix_bus.runtime.plan import RunPlan
from optix_bus.runtime.planning import make_plan
from optix_bus.runtime.progress import Progress, View
from optix_bus.runtime.resume import Resumption, prepare
from optix_bus.runtime.run_directory import ProcessRecord, RunDirectory, RunRecord, creation_time
from optix_bus.runtime.topology import Topology

_POLL_SECONDS = 0.05


@dataclass
class Outcome:
    """How a run ended: the exit code of `up`, and what stands behind it."""

    exit_code: int
    reason: str
    finished: RunFinished | None
    lost: str = ""
    log_lines: list[str] = field(default_factory=list)
    #: What did not go as if nothing had happened: episodes that were cut, states that were lost, and where.
    remarks: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, finished: RunFinished) -> Outcome:
        """Of a loop that ended in order: by its own rules, or because somebody asked."""
        by_rule = finished.reason in ("converged", "target_score", "max_episodes", "max_steps")
        return cls(0 if by_rule else 130, finished.reason, finished)


class Supervisor:
    """One run from start to end.

    Args:
        topology: checked.
        run: an empty run directory, or one whose run is to be resumed.
        view: what a person sees.
        resume: go on with the run that is there.
    """

    def __init__(self, topology: Topology, run: RunDirectory, view: View, *, resume: bool = False) -> None:
        self._resumption: Resumption | None = prepare(run) if resume else None
        self._topology = topology
        self._run = run
        self._view = view
        self._stops = 0
        self._roots = 0 if self._resumption is None else self._resumption.roots
        self._progress = Progress()
        self._codec = Codec(VOCABULARY)
        self._link: Link | None = None
        self._crew: Crew | None = None
        self._beacon: object = None

    def run(self) -> Outcome:
        """Run to the end. Whatever happens, no process, socket or shared memory of the run is left."""
        if line := swept_line(sweep()):
            self._view.phase(line)
        with contextlib.ExitStack() as outside:
            sockets = private_directory()
            outside.callback(sockets.remove)
            shared = shared_directory()
            if shared is not None:
                outside.callback(shared.remove)
            else:
                self._run.overflow.mkdir(exist_ok=True)
            plan = self._plan(
                str(sockets.path), str(shared.path if shared is not None else self._run.overflow)
            )
            self._record = RunRecord(
                run_id=plan.run_id,
                name=plan.name,
                state="starting",
                supervisor=ProcessRecord(SUPERVISOR, os.getpid(), creation_time(os.getpid()), "ready"),
                seed=plan.seed,
                sockets=plan.sockets,
                shared_memory=plan.shared_memory,
                topology=str(self._topology.path),
                started=time.time(),
            )
            return self._see_through(plan)

    def _plan(self, sockets: str, shared_memory: str) -> RunPlan:
        if self._resumption is not None:
            return msgspec.structs.replace(
                self._resumption.plan, sockets=sockets, shared_memory=shared_memory
            )
        return make_plan(
            self._topology,
            run_id=f"{self._topology.name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}",
            run_directory=self._run.root.resolve(),
            sockets=sockets,
            shared_memory=shared_memory,
        )

    def _see_through(self, plan: RunPlan) -> Outcome:
        outcome = Outcome(1, "ended by an error that nobody foresaw", None)
        with self._signals(), adopting() as adopts:
            try:
                if self._resumption is None:
                    self._run.topology.write_text(self._topology.dump(), encoding="utf-8")
                plan.write(self._run.root / "plan.json")
                outcome = self._supervise(plan, adopts)
            except NodeFailure as error:
                outcome = self._explain(error)
            except BusError as error:
                outcome = self._explain(NodeFailure(f"the bus failed: {error}"))
            except OSError as error:
                outcome = self._explain(NodeFailure(f"{error.filename or self._run.root}: {error.strerror}"))
            finally:
                self._end_all()
                outcome.remarks += self._remarks()
                self._record.exit_code, self._record.reason = outcome.exit_code, outcome.reason
                self._save("finished" if outcome.exit_code == 0 else "failed")
                self._write_report(outcome)
        return outcome

    def _supervise(self, plan: RunPlan, adopts: bool) -> Outcome:
        self._view.phase(f"run {plan.run_id} in {self._run.root}")
        # Before anybody starts: what became of the windows after the cut is so even where the start fails.
        for line in self._resumption.lines if self._resumption is not None else ():
            self._view.phase(line)
        lives = self._resumption.incarnations if self._resumption is not None else {}
        self._crew = crew = Crew(
            plan,
            self._run,
            self._topology.run,
            self._record.processes,
            adopting=adopts,
            lives=lives,
            tell=self._tell,
            say=self._view.phase,
            changed=lambda: self._save(self._record.state),
        )
        self._link = Link(
            HubEndpoints.in_directory(plan.sockets),
            [SUPERVISOR],
            1 + lives.get(SUPERVISOR, 0),
            side=(HEARTBEAT, HUB),
            # It looks at everything a few times a second: being woken by each event would help nobody.
            wake_types=(RunFinished.__name__,),
        )
        for variant, left in self._resumption.variants.items() if self._resumption is not None else ():
            crew.admit(variant, leaves=left)
        crew.start()
        while not crew.is_ready:  # nothing is collected before everybody listens
            if self._stops:
                raise NodeFailure("interrupted while the nodes were starting")
            self._turn(crew)
        self._save("running")
        self._say_begun(plan)
        self._view.phase(f"{len(plan.nodes)} nodes ready")
        return Outcome.of(self._watch_until_finished(crew))

    def _say_begun(self, plan: RunPlan) -> None:
        """The first event of a run, or that it goes on."""
        resumption = self._resumption
        if resumption is not None:
            cut = resumption.cut
            self._tell(
                RunResumed(
                    cut=cut.number if cut is not None else 0,
                    window=cut.window if cut is not None else -1,
                    remarks=tuple(resumption.remarks),
                    fingerprint=fingerprint(),
                )
            )
        if resumption is None or not resumption.started:
            self._tell(
                RunStarted(
                    run_id=plan.run_id,
                    seed=plan.seed,
                    topology_digest=plan.digest,
                    nodes=tuple(node.name for node in plan.nodes),
                    fingerprint=fingerprint(),
                )
            )

    def _watch_until_finished(self, crew: Crew) -> RunFinished:
        asked = False
        while self._progress.finished is None:
            if self._stops and not asked:
                asked = True
                self._view.phase("stopping: the best policy is being restored (Ctrl-C again ends at once)")
                self._tell(StopRequested(reason="interrupted"))
            if self._stops > 1:
                raise NodeFailure("interrupted twice: ended without restoring the best policy")
            self._turn(crew)
        return self._progress.finished

    def _turn(self, crew: Crew) -> None:
        """One round: events, heartbeats, processes, view."""
        assert self._link is not None
        # Watching is not urgent: woken by each event, the supervisor would take the cores from the nodes.
        time.sleep(_POLL_SECONDS)
        for record in self._link.poll():
            try:
                event: Event = self._codec.decode(record.type, record.body)
            except CodecError:
                continue  # somebody else's event; the nodes log what they cannot read
            self._progress.fold(event)
            self._view.event(event, self._progress)
            # What was in the journal when the run was resumed is known already.
            if self._resumption is None or record.seq > self._resumption.head:
                self._grow(event, record.seq, crew)
        beacon = self._link.beacon
        if beacon is not None and beacon is not self._beacon:
            self._beacon = beacon
            crew.hear_hub(beacon.boot, beacon.head)
        for kind, _, _, body in self._link.reports():
            if kind == HEARTBEAT:
                crew.hear(body)
            elif kind == HUB:
                self._view.phase(f"hub: {body.get('message')}")
        if self._progress.finished is None:
            crew.turn()
        self._view.tick(self._progress, crew.states)

    def _grow(self, event: Event, sequence: int, crew: Crew) -> None:
        """Nodes of variants come and go as the scheduler says."""
        if isinstance(event, VariantAdmitted):
            crew.join(event.variant)
        elif isinstance(event, VariantDismissed):
            crew.dismiss(event.variant, sequence)

    def _tell(self, event: Event) -> None:
        assert self._link is not None
        name, body = self._codec.encode(event)
        self._link.emit(SUPERVISOR, 0, self._roots, name, body)
        self._roots += 1

    def _explain(self, error: NodeFailure) -> Outcome:
        """The root cause in one line, with the words of the process that died."""
        if not isinstance(error, Lost):
            return Outcome(130 if self._stops else error.exit_code, str(error), None)
        if self._link is not None and self._crew is not None and self._crew.hub_is_there:
            with contextlib.suppress(BusError):
                self._link.flush(1.0)
        return Outcome(error.exit_code, str(error), None, error.process, error.log_lines)

    def _end_all(self) -> None:
        if self._link is not None:
            self._link.close()
        if self._crew is not None:
            self._crew.end(lambda: self._stops > 1)

    def _save(self, state: str) -> None:
        self._record.state = state
        with contextlib.suppress(OSError):  # a full disk must not hide why the run ends
            self._run.write(self._record)

    def _remarks(self) -> list[str]:
        of_resumption = self._resumption.remarks if self._resumption is not None else []
        return [*of_resumption, *(self._crew.remarks if self._crew is not None else [])]

    def _write_report(self, outcome: Outcome) -> None:
        finished = msgspec.to_builtins(outcome.finished) if outcome.finished is not None else None
        report = {
            "exit_code": outcome.exit_code,
            "reason": outcome.reason,
            "finished": finished,
            "remarks": outcome.remarks,
        }
        with contextlib.suppress(OSError):
            self._run.report.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM stop the run in order; a second one at once."""

        def count(number: int, frame: FrameType | None) -> None:
            self._stops += 1

        before = {number: signal.signal(number, count) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
