"""The process host: one process of a run with one or more nodes in it, on the bus.

python -m optix_bus.runtime.host RUN PROCESS INCARNATION
"""

from __future__ import annotations

import signal
import sys
import time
from collections import deque
from pathlib import Path
from types import FrameType

from optix_bus.bus.blobs import FileBlobStore
from optix_bus.bus.codec import Codec
from optix_bus.bus.endpoints import HubEndpoints
from optix_bus.bus.link import Link
from optix_bus.bus.record import Record
from optix_bus.errors import CodecError, NodeFailure, OptixError
from optix_bus.messages import VOCABULARY, Event, TimerFired, TimerSet
from optix_bus.runtime import lifeline
from optix_bus.runtime.failures import write_failure
from optix_bus.runtime.fold import Fold
from optix_bus.runtime.heartbeat import Heartbeat
from optix_bus.runtime.log import NodeLog
from optix_bus.runtime.plan import RunPlan
from optix_bus.runtime.run_directory import RunDirectory
from optix_bus.runtime.site import build_nodes
from optix_bus.types import BlobRef

_POLL_SECONDS = 0.05


class ProcessHost:
    """Drives the nodes of one process from the bus.

    Every event goes to the nodes in their order; what a handler emitted is sent when it has returned. Blobs
    that a node announced are retired when every node of the run has handled the announcement.
    """

    def __init__(self, plan: RunPlan, process: str, incarnation: int) -> None:
        self._codec = Codec(VOCABULARY)
        nodes = build_nodes(plan, process)
        endpoints = HubEndpoints.in_directory(plan.sockets)
        self._heartbeat = Heartbeat(endpoints, process, list(nodes), incarnation)
        self._others = [node.name for node in plan.nodes]
        self._stores = {
            name: FileBlobStore(
                plan.shared_memory,
                Path(plan.run_directory) / "blobs",
                budget_bytes=int(plan.run["blob_budget_bytes"]),
                owner=name,
                wait=self._wait_for_space,
            )
            for name in nodes
        }
        self._folds = [
            Fold(name, node, seed=plan.seed, store=self._stores[name], log=NodeLog(name, plain=True))
            for name, node in nodes.items()
        ]
        own = {TimerSet.__name__, TimerFired.__name__}
        self._wanted = {kind.__name__ for fold in self._folds for kind in fold.accepts} | own
        urgent = {
            kind.__name__ for node in nodes.values() for kind in node.accepts() if kind not in node.noted
        }
        self._link = Link(endpoints, list(nodes), incarnation, wake_types=urgent | own)
        #: Timers that are set: (when it is due, node, key).
        self._timers: list[tuple[int, str, str]] = []
        self._timers_fired = dict.fromkeys(nodes, 0)
        #: Sent, and not yet come back.
        self._firing: list[tuple[str, str]] = []
        #: Blobs that may still be read: (sequence of the announcement, owner, name).
        self._announced: deque[tuple[int, str, str]] = deque()
        self._sent: dict[tuple[str, int, int], list[BlobRef]] = {}
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
            self._link.connect(timeout=60.0)
            self._heartbeat.start()
            while not self._stopping:
                self._turn()
        finally:
            for fold in reversed(opened):
                try:
                    fold.node.teardown()
                except Exception as error:  # the others still have to be torn down
                    fold.log.warning("teardown failed", error=f"{type(error).__name__}: {error}")
            self._heartbeat.stop()
            self._link.close()

    def _turn(self) -> None:
        for record in self._link.poll(_POLL_SECONDS):
            self._handle(record)
            if self._stopping:
                return
        self._fire_timers()
        self._retire()

    def _handle(self, record: Record) -> None:
        for ref in self._sent.pop(record.identity, ()):
            self._announced.append((record.seq, ref.owner, ref.name))
        if record.type in self._wanted:
            try:
                event: Event = self._codec.decode(record.type, record.body)
            except CodecError as error:
                # Somebody else published what only looks like one of ours: nobody can act on it.
                self._folds[0].log.warning("event refused", node=record.node, seq=record.seq, why=str(error))
            else:
                self._keep_timers(event, record)
                self._apply(event, record)
        self._heartbeat.end(record.seq)

    def _apply(self, event: Event, record: Record) -> None:
        for fold in self._folds:
            if type(event) not in fold.accepts:
                continue
            self._heartbeat.begin(fold.name, record.type)
            try:
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
        values = [getattr(event, field) for field in event.__struct_fields__]
        refs = [value for value in values if isinstance(value, BlobRef)]
        if refs:
            self._sent[(node, cause, index)] = refs
        self._link.emit(node, cause, index, name, body)

    def _keep_timers(self, event: Event, record: Record) -> None:
        """Timers are in the journal: one that was set there and has not fired there is still to come."""
        if isinstance(event, TimerSet) and event.node in self._timers_fired:
            self._timers.append((record.stamp_ns + int(event.seconds * 1e9), event.node, event.key))
            self._timers.sort()
        elif isinstance(event, TimerFired) and event.node in self._timers_fired:
            if (event.node, event.key) in self._firing:
                self._firing.remove((event.node, event.key))
                return
            # Fired in an earlier life of this process.
            self._timers_fired[event.node] += 1
            self._timers.remove(next(timer for timer in self._timers if timer[1:] == (event.node, event.key)))

    def _fire_timers(self) -> None:
        while self._timers and self._timers[0][0] <= time.time_ns():
            _, node, key = self._timers.pop(0)
            name, body = self._codec.encode(TimerFired(node=node, key=key))
            self._firing.append((node, key))
            self._link.emit(node, 0, self._timers_fired[node], name, body)
            self._timers_fired[node] += 1

    def _retire(self) -> None:
        beacon = self._link.beacon
        if beacon is None or not self._announced:
            return
        seen = [beacon.nodes[name].progress if name in beacon.nodes else -1 for name in self._others]
        while self._announced and self._announced[0][0] <= min(seen):
            _, owner, name = self._announced.popleft()
            self._stores[owner].retire(name)

    def _wait_for_space(self) -> None:
        """The budget is spent: serve the link until some consumer has caught up."""
        if self._stopping:
            raise NodeFailure("ended while waiting for space for a blob")
        self._link.flush(0.02)
        self._retire()

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
