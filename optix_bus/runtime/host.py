"""The process host: one process of a run with one or more nodes in it, on the bus.

python -m optix_bus.runtime.host RUN PROCESS INCARNATION
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections import deque
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import structlog
from optix_bus.bus.blobs import FileBlobStore
from optix_bus.bus.codec import Codec
from optix_bus.bus.link import Frame, Link
from optix_bus.runtime.heartbeat import Heartbeat

from optix_bus.errors import NodeFailure, OptixError
from optix_bus.messages import VOCABULARY, Event, TimerFired, TimerSet
from optix_bus.runtime import lifeline
from optix_bus.runtime.endpoints import endpoints_in
from optix_bus.runtime.fold import Fold
from optix_bus.runtime.plan import RunPlan
from optix_bus.runtime.run_directory import RunDirectory
from optix_bus.runtime.site import build_nodes
from optix_bus.types import BlobRef

_POLL_SECONDS = 0.1


class ProcessHost:
    """Drives the nodes of one process from the bus.

    Every event goes to the nodes in their order; what a handler emitted is sent when it has returned. Blobs
    that a node announced are retired when every process has handled the announcement.
    """

    def __init__(self, plan: RunPlan, process: str, incarnation: int) -> None:
        self._plan = plan
        self._codec = Codec(VOCABULARY)
        self._nodes = build_nodes(plan, process)
        self._link = Link(endpoints_in(plan.sockets), nodes=list(self._nodes), incarnation=incarnation)
        self._stores: dict[str, FileBlobStore] = {}
        self._folds: list[Fold] = []
        for name, node in self._nodes.items():
            store = FileBlobStore(
                Path(plan.shared_memory),
                Path(plan.run_directory) / "blobs",
                budget_bytes=int(plan.run["blob_budget_bytes"]),
                owner=name,
                wait=self._wait_for_space,
            )
            self._stores[name] = store
            self._folds.append(Fold(name, node, seed=plan.seed, store=store))
        self._wanted = {kind.__name__ for fold in self._folds for kind in fold.accepts} | {"TimerSet"}
        self._timers: list[tuple[int, str, str]] = []
        self._timer_roots: dict[str, int] = {}
        #: What was announced and may still be read: (sequence of the announcement, owner, name).
        self._announced: deque[tuple[int, str, str]] = deque()
        self._sent: dict[tuple[str, int, int], list[BlobRef]] = {}
        self._stopping = False
        self._heartbeat = Heartbeat(plan.sockets, process, list(self._nodes))

    def run(self) -> None:
        """Set up, handle events until asked to end, tear down. Raises what a node raised."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        opened: list[Fold] = []
        try:
            for fold in self._folds:
                opened.append(fold)
                fold.node.setup()
            self._await_welcome()
            self._heartbeat.start()
            while not self._stopping:
                for frame in self._link.poll(_POLL_SECONDS):
                    self._handle(frame)
                    if self._stopping:
                        break
                self._fire_timers()
                self._retire()
        finally:
            for fold in reversed(opened):
                with contextlib.suppress(Exception):
                    fold.node.teardown()
            self._link.flush(2.0)
            self._heartbeat.stop()
            self._link.close()

    def _await_welcome(self) -> None:
        """Nothing is handled before the hub knows this process; the supervisor's deadline bounds the wait."""
        while not self._link.connected and not self._stopping:
            for frame in self._link.poll(_POLL_SECONDS):
                self._handle(frame)

    def _handle(self, frame: Frame) -> None:
        own = self._sent.pop((frame.node, frame.cause, frame.index), None)
        for ref in own or ():
            self._announced.append((frame.sequence, ref.owner, ref.name))
        if frame.type in self._wanted:
            event: Event = self._codec.decode(frame.type, frame.body)
            if isinstance(event, TimerSet) and event.node in self._nodes:
                self._timers.append((frame.stamp_ns + int(event.seconds * 1e9), event.node, event.key))
                self._timers.sort()
            for fold in self._folds:
                if type(event) in fold.accepts:
                    self._heartbeat.begin(frame.type, frame.sequence)
                    emitted = fold.apply(event, frame.sequence, frame.stamp_ns)
                    for index, item in enumerate(emitted):
                        self._send(fold.name, frame.sequence, index, item)
            self._heartbeat.end()
        self._heartbeat.handled = frame.sequence

    def _send(self, node: str, cause: int, index: int, event: Event) -> None:
        name, body = self._codec.encode(event)
        refs = [
            value for field in event.__struct_fields__ if isinstance(value := getattr(event, field), BlobRef)
        ]
        if refs:
            self._sent[(node, cause, index)] = refs
        self._link.emit(node, cause, index, name, body)

    def _fire_timers(self) -> None:
        while self._timers and self._timers[0][0] <= time.time_ns():
            _, node, key = self._timers.pop(0)
            source = f"{node}!timer"
            index = self._timer_roots[source] = self._timer_roots.get(source, -1) + 1
            name, body = self._codec.encode(TimerFired(node=node, key=key))
            self._link.emit(source, 0, index, name, body)

    def _retire(self) -> None:
        """Everybody has handled the announcement: nobody can ask for the blob again."""
        progress = self._link.slowest_progress()
        while self._announced and self._announced[0][0] <= progress:
            _, owner, name = self._announced.popleft()
            self._stores[owner].retire(name)

    def _wait_for_space(self) -> None:
        """The budget is spent: serve the link until some consumer has caught up."""
        self._link.service(0.01)
        self._retire()
        if self._stopping:
            raise NodeFailure("ended while waiting for space for a blob")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True


def main(arguments: list[str]) -> int:
    """Entry of a node process; returns its exit code."""
    lifeline.watch()
    root, process, incarnation = Path(arguments[0]), arguments[1], int(arguments[2])
    run = RunDirectory(root)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=False),
        ]
    )
    nodes = [process]
    try:
        plan = RunPlan.read(root / "plan.json")
        nodes = [node.name for node in plan.of_process(process)]
        ProcessHost(plan, process, incarnation).run()
    except Exception as error:
        _write_failure(run, process, nodes, error)
        return error.exit_code if isinstance(error, OptixError) else 3
    return 0


def _write_failure(run: RunDirectory, process: str, nodes: list[str], error: Exception) -> None:
    """Leave the root cause where the supervisor finds it, and the whole story in the log."""
    traceback.print_exception(error)
    message = str(error) if isinstance(error, OptixError) else f"{type(error).__name__}: {error}"
    failure: dict[str, Any] = {
        "kind": type(error).__name__,
        "message": message,
        "exit_code": error.exit_code if isinstance(error, OptixError) else 3,
        "nodes": nodes,
        "pid": os.getpid(),
    }
    with contextlib.suppress(OSError):
        (run.failures / f"{process}.json").write_bytes(msgspec.json.encode(failure))
    print(f"{type(error).__name__}: {message}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
