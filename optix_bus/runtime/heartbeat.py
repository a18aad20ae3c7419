"""A process says that it lives, what it handles and since when.

In a thread of its own, because a long handler is no hang.
"""

from __future__ import annotations

import os
import threading
import time

from optix_bus.bus.endpoints import HubEndpoints
from optix_bus.bus.reporter import Reporter
from optix_bus.runtime.names import HEARTBEAT

_SECONDS = 0.1


class Heartbeat:
    """Reports on the side channel ten times a second.

    Attributes:
        handled: sequence number of the last event that every node of the process has handled.
    """

    def __init__(self, endpoints: HubEndpoints, process: str, nodes: list[str], incarnation: int) -> None:
        self._endpoints = endpoints
        self._process = process
        self._nodes = nodes
        self._incarnation = incarnation
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._work: tuple[str, str, float] | None = None
        self._expected = 0
        self._remarks: list[str] = []
        self.handled = -1

    def expect(self, sequence: int, remarks: list[str]) -> None:
        """The process is ready when it has handled this event; the remarks say how it began."""
        self._expected = sequence
        self._remarks = remarks

    def start(self) -> None:
        """Begin; the first report with ``ready`` says that the process is."""
        self._thread.start()

    def begin(self, node: str, event_type: str) -> None:
        """A handler starts."""
        self._work = (node, event_type, time.monotonic())

    def end(self, sequence: int) -> None:
        """All handlers of this event have returned."""
        self._work = None
        self.handled = sequence

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _run(self) -> None:
        reporter = Reporter(self._endpoints)
        try:
            while True:
                work = self._work
                body = {
                    "process": self._process,
                    "pid": os.getpid(),
                    "ready": self.handled >= self._expected,
                    "remarks": self._remarks,
                    "seq": self.handled,
                    "handling": f"{work[1]} in {work[0]!r}" if work is not None else "",
                    "handling_seconds": time.monotonic() - work[2] if work is not None else 0.0,
                }
                for node in self._nodes:
                    reporter.report(HEARTBEAT, node, self._incarnation, body)
                if self._ended.wait(_SECONDS):
                    return
        finally:
            reporter.close()
