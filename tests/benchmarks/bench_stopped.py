"""What a subscriber that is stopped costs the learner.

    python -m tests.benchmarks.bench_stopped [--quick]

The demo trains in small windows, and a process of its own follows every event. It is stopped with SIGSTOP for
20 seconds and runs for 20 seconds, in turns; policies per second are counted by the hub's stamps. At the end
the subscriber must have seen every event once and in order.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from optix_bus.bus.journal_reader import read_journal
from optix_bus.messages import PolicyUpdated
from optix_bus.runtime.plan import RunPlan
from optix_bus.runtime.run_directory import RunDirectory
from tests.benchmarks import measure
from tests.benchmarks.bench_restart import running
from tests.benchmarks.measure import Demand, Series, Table

#: Follows from the first event on, to the one whose number it is told.
FOLLOWER = """
import sys, threading
from optix_bus.bus.endpoints import HubEndpoints
from optix_bus.bus.link import Link

last = []
threading.Thread(target=lambda: last.append(int(sys.stdin.readline() or 0)), daemon=True).start()
link = Link(HubEndpoints.in_directory(sys.argv[1]))
link.connect(30.0)
seen = 0
while not last or seen < last[0]:
    for record in link.poll(0.2):
        if record.seq != seen + 1:
            sys.exit(f"event {record.seq} came behind {seen}")
        seen = record.seq
link.close()
"""


def bench(quick: bool) -> Table:
    """The table."""
    seconds, rounds = (1.0, 1) if quick else (20.0, 3)
    blocks: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    with running() as run, following(run) as follower:
        time.sleep(seconds / 4)  # the first windows import what the others only use
        for number in range(rounds):
            # Neither is always first: what else the machine does may come and go.
            for stopped in (True, False) if number % 2 else (False, True):
                follower.send_signal(signal.SIGSTOP if stopped else signal.SIGCONT)
                begin = time.time_ns()
                time.sleep(seconds)
                blocks[stopped].append((begin, time.time_ns()))
                follower.send_signal(signal.SIGCONT)
        events = list(read_journal(run.journal))
        follower.communicate(f"{events[-1].seq}\n", timeout=60.0)
        if follower.returncode != 0:
            raise RuntimeError("the subscriber missed an event")
    stamps = [event.stamp_ns for event in events if event.type == PolicyUpdated.__name__]
    free, stopped = (
        Series.of(sum(begin <= stamp < end for stamp in stamps) / (end - begin) * 1e9 for begin, end in times)
        for times in (blocks[False], blocks[True])
    )
    table = Table(f"Policies learnt while a subscriber is stopped for {seconds:g} s", judged=not quick)
    demand = Demand(">=", 0.95)
    table.add("stopped", stopped, "/s", beside="running", peer=free, ratio=stopped.over(free), demand=demand)
    return table


@contextlib.contextmanager
def following(run: RunDirectory) -> Iterator[subprocess.Popen[str]]:
    """A subscriber in a process of its own, until the block ends."""
    sockets = RunPlan.read(run.root / "plan.json").sockets
    command = [sys.executable, "-c", FOLLOWER, sockets]
    follower = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    try:
        yield follower
    finally:
        if follower.poll() is None:
            follower.kill()
        follower.wait()


if __name__ == "__main__":
    measure.run(bench)
