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
from typing import Any

import msgspec

from optix_bus.bus.codec import Codec
from optix_bus.bus.endpoints import HubEndpoints
from optix_bus.bus.link import Link
from optix_bus.errors import BusError, CodecError, NodeFailure
from optix_bus.messages import (
    VOCABULARY,
    Event,
    NodeLost,
    NodeReady,
    PolicyUpdated,
    RunFinished,
    RunStarted,
    StopRequested,
)
from optix_bus.runtime.children import Child, explain_exit
from optix_bus.runtime.fingerprint import fingerprint
from optix_bus.runtime.names import HEARTBEAT, HUB, SUPERVISOR
from optix_bus.runtime.plan import RunPlan
from optix_bus.runtime.planning import make_plan
from optix_bus.runtime.progress import Progress, View
from optix_bus.runtime.run_directory import (
    ProcessRecord,
    RunDirectory,
    RunRecord,
    creation_time,
    private_directory,
    remove_directory,
    shared_directory,
)
from optix_bus.runtime.topology import Topology

_POLL_SECONDS = 0.05


@dataclass
class _Watched:
    """A process and what is known of it."""

    child: Child
    record: ProcessRecord
    heard: float = 0.0  # monotonic time of its last heartbeat; 0 before the first
    handling_since: float = 0.0
    handling: str = ""


@dataclass
class Outcome:
    """How a run ended: the exit code of `up`, and what stands behind it."""

    exit_code: int
    reason: str
    finished: RunFinished | None
    lost: str = ""
    log_lines: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, finished: RunFinished) -> Outcome:
        """Of a loop that ended in order: by its own rules, or because somebody asked."""
        by_rule = finished.reason in ("converged", "target_score", "max_episodes")
        return cls(0 if by_rule else 130, finished.reason, finished)


class Supervisor:
    """One run from start to end.

    Args:
        topology: checked.
        run: an empty run directory.
        view: what a person sees.
    """

    def __init__(self, topology: Topology, run: RunDirectory, view: View) -> None:
        self._topology = topology
        self._run = run
        self._view = view
        self._watched: dict[str, _Watched] = {}
        self._stops = 0
        self._roots = 0
        self._progress = Progress()
        self._codec = Codec(VOCABULARY)
        self._link: Link | None = None

    def run(self) -> Outcome:
        """Run to the end. Whatever happens, no process, socket or shared memory of the run is left."""
        run_id = f"{self._topology.name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        with contextlib.ExitStack() as outside:
            sockets = private_directory()
            outside.callback(remove_directory, sockets)
            shared = shared_directory(self._run)
            outside.callback(remove_directory, shared)
            plan = make_plan(
                self._topology,
                run_id=run_id,
                run_directory=self._run.root.resolve(),
                sockets=str(sockets),
                shared_memory=str(shared),
            )
            self._record = RunRecord(
                run_id=run_id,
                name=plan.name,
                state="starting",
                supervisor=ProcessRecord(SUPERVISOR, os.getpid(), creation_time(os.getpid()), "ready"),
                seed=plan.seed,
                sockets=str(sockets),
                shared_memory=str(shared),
                topology=str(self._topology.path),
                started=time.time(),
            )
            return self._see_through(plan)

    def _see_through(self, plan: RunPlan) -> Outcome:
        outcome = Outcome(1, "ended by an error that nobody foresaw", None)
        with self._signals():
            try:
                self._run.topology.write_text(self._topology.dump(), encoding="utf-8")
                plan.write(self._run.root / "plan.json")
                self._save("starting")
                outcome = self._supervise(plan)
            except NodeFailure as error:
                outcome = self._explain(error)
            except BusError as error:
                outcome = self._explain(NodeFailure(f"the bus failed: {error}"))
            except OSError as error:
                outcome = self._explain(NodeFailure(f"{error.filename or self._run.root}: {error.strerror}"))
            finally:
                self._end_all()
                self._record.exit_code, self._record.reason = outcome.exit_code, outcome.reason
                self._save("finished" if outcome.exit_code == 0 else "failed")
                self._write_report(outcome)
        return outcome

    def _supervise(self, plan: RunPlan) -> Outcome:
        self._view.phase(f"run {plan.run_id} in {self._run.root}")
        self._start(HUB, ["-m", "optix_bus.runtime.hub_process", str(self._run.root)], [HUB])
        for process in self._slowest_first(plan):
            nodes = [node.name for node in plan.of_process(process)]
            self._start(process, ["-m", "optix_bus.runtime.host", str(self._run.root), process, "1"], nodes)
        self._connect(plan)
        self._save("starting")
        self._await_ready(plan)
        self._save("running")
        self._root(
            RunStarted(
                run_id=plan.run_id,
                seed=plan.seed,
                topology_digest=plan.digest,
                nodes=tuple(node.name for node in plan.nodes),
                fingerprint=fingerprint(),
            )
        )
        self._view.phase(f"{len(plan.nodes)} nodes ready")
        return Outcome.of(self._watch_until_finished())

    def _slowest_first(self, plan: RunPlan) -> list[str]:
        """The learner's process has a framework to load: the others start in the shadow of that."""
        learns = {
            entry.process for entry in self._topology.nodes if PolicyUpdated in entry.node_class().emits
        }
        return sorted(plan.processes, key=lambda process: process not in learns)

    def _start(self, name: str, arguments: list[str], nodes: list[str]) -> None:
        environment = {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
        child = Child(name, arguments, self._run.logs / f"{name}.log", environment)
        record = ProcessRecord(name, child.pid, creation_time(child.pid), "starting", 0, 1, nodes)
        self._record.processes.append(record)
        self._watched[name] = _Watched(child, record)

    def _connect(self, plan: RunPlan) -> None:
        """The supervisor's own link; waits for the hub, which is starting."""
        link = Link(
            HubEndpoints.in_directory(plan.sockets),
            [SUPERVISOR],
            1,
            side=(HEARTBEAT, HUB),
            # It looks at everything a few times a second: being woken by each event would help nobody.
            wake_types=(RunFinished.__name__,),
        )
        self._link = link
        deadline = time.monotonic() + self._topology.run.start_seconds
        while not link.is_connected:
            self._check_children()
            if time.monotonic() > deadline:
                limit = self._topology.run.start_seconds
                raise NodeFailure(f"the hub did not answer within {limit:g} s (run.start_seconds)")
            link.poll(_POLL_SECONDS)
        self._ready(self._watched[HUB])

    def _await_ready(self, plan: RunPlan) -> None:
        """The barrier: nothing is collected before everybody listens."""
        deadline = time.monotonic() + self._topology.run.start_seconds
        while True:
            self._turn()
            late = [name for name, process in self._watched.items() if process.record.state != "ready"]
            if not late:
                return
            if self._stops:
                raise NodeFailure("interrupted while the nodes were starting")
            if time.monotonic() > deadline:
                raise NodeFailure(
                    f"{', '.join(late)} not ready within {self._topology.run.start_seconds:g} s "
                    "(run.start_seconds); see the log"
                )

    def _watch_until_finished(self) -> RunFinished:
        asked = False
        while self._progress.finished is None:
            if self._stops and not asked:
                asked = True
                self._view.phase("stopping: the best policy is being restored (Ctrl-C again ends at once)")
                self._root(StopRequested(reason="interrupted"))
            if self._stops > 1:
                raise NodeFailure("interrupted twice: ended without restoring the best policy")
            self._turn()
        return self._progress.finished

    def _turn(self) -> None:
        """One round: events, heartbeats, children, view."""
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
        for kind, _, _, body in self._link.reports():
            if kind == HEARTBEAT:
                self._hear(body)
            elif kind == HUB:
                self._view.phase(f"hub: {body.get('message')}")
        if self._progress.finished is None:
            self._check_children()
            self._check_deadlines()
        self._view.tick(self._progress, {name: p.record.state for name, p in self._watched.items()})

    def _hear(self, body: dict[str, Any]) -> None:
        """A heartbeat. The first one of a process says that it is ready."""
        process = self._watched.get(str(body.get("process")))
        if process is None or body.get("pid") != process.child.pid:
            return
        process.heard = time.monotonic()
        process.handling = str(body.get("handling") or "")
        process.handling_since = process.heard - float(body.get("handling_seconds") or 0.0)
        if process.record.state == "starting":
            self._ready(process)

    def _ready(self, process: _Watched) -> None:
        process.record.state = "ready"
        for node in process.record.nodes:
            self._root(NodeReady(node=node, pid=process.child.pid, incarnation=process.record.incarnation))

    def _check_children(self) -> None:
        for name, process in self._watched.items():
            if process.child.exit_code is not None:
                raise _Lost(name, explain_exit(process.child.exit_code))

    def _check_deadlines(self) -> None:
        now, limits = time.monotonic(), self._topology.run
        for name, process in self._watched.items():
            if process.record.state != "ready" or name == HUB:
                continue
            if process.handling and now - process.handling_since > limits.max_handle_seconds:
                raise _Lost(
                    name,
                    f"has worked on {process.handling} for more than {limits.max_handle_seconds:g} s "
                    "(run.max_handle_seconds)",
                )
            if now - process.heard > limits.idle_seconds:
                raise _Lost(
                    name, f"has been silent for more than {limits.idle_seconds:g} s (run.idle_seconds)"
                )

    def _root(self, event: Event) -> None:
        assert self._link is not None
        name, body = self._codec.encode(event)
        self._link.emit(SUPERVISOR, 0, self._roots, name, body)
        self._roots += 1

    def _explain(self, error: NodeFailure) -> Outcome:
        """The root cause in one line, with the words of the process that died."""
        if not isinstance(error, _Lost):
            return Outcome(130 if self._stops else error.exit_code, str(error), None)
        lost = error.process
        process = self._watched[lost]
        process.record.state = "lost"
        failure = self._run.failure(lost)
        reason = str(failure.get("message") or error.how)
        nodes = ", ".join(repr(node) for node in failure.get("nodes", process.record.nodes))
        line = f"node {nodes} (pid {process.child.pid}) died: {reason}"
        if self._link is not None and lost != HUB:
            with contextlib.suppress(BusError):
                for node in process.record.nodes:
                    self._root(NodeLost(node=node, pid=process.child.pid, incarnation=1, reason=reason))
                self._link.flush(1.0)
        code = int(failure.get("exit_code") or NodeFailure.exit_code)
        return Outcome(code, line, None, lost, process.child.last_lines())

    def _end_all(self) -> None:
        """Orderly, in the reverse order of the start; whoever does not end in time is killed."""
        if self._link is not None:
            self._link.close()
        names = list(reversed(self._watched))
        hub_last = [name for name in names if name != HUB] + [name for name in names if name == HUB]
        for group in ([name for name in hub_last if name != HUB], [HUB]):
            present = [self._watched[name] for name in group if name in self._watched]
            for process in present:
                process.child.terminate()
            deadline = time.monotonic() + self._topology.run.stop_seconds
            for process in present:
                left = 0.0 if self._stops > 1 else max(0.0, deadline - time.monotonic())
                if process.child.wait(left) is None:
                    process.child.kill()
                    process.child.wait(10.0)
                if process.record.state != "lost":
                    process.record.state = "ended"

    def _save(self, state: str) -> None:
        self._record.state = state
        with contextlib.suppress(OSError):  # a full disk must not hide why the run ends
            self._run.write(self._record)

    def _write_report(self, outcome: Outcome) -> None:
        finished = msgspec.to_builtins(outcome.finished) if outcome.finished is not None else None
        report = {"exit_code": outcome.exit_code, "reason": outcome.reason, "finished": finished}
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


class _Lost(NodeFailure):
    """A process is gone, or given up."""

    def __init__(self, process: str, how: str) -> None:
        super().__init__(f"{process} {how}")
        self.process = process
        self.how = how
