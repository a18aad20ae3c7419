"""How long until a process that was killed is back.

    python -m tests.benchmarks.bench_restart [--quick]

From SIGKILL to the hub's stamp of `NodeReady`: noticed, started again, set up, everything handled again that
the journal holds behind the last cut. The demo trains meanwhile, in small windows. Every process is killed in
turn; the learner, which the nursery forks, once more with the nursery dead, so that it starts as a new
interpreter.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from optix_bus.bus.journal_reader import read_journal
from optix_bus.errors import ConfigurationError
from optix_bus.messages import NodeReady
from optix_bus.runtime.names import NURSERY
from optix_bus.runtime.run_directory import ProcessRecord, RunDirectory
from tests.benchmarks import measure
from tests.benchmarks.measure import Demand, Series, Table

DEMO = Path(__file__).parents[2] / "topologies" / "cartpole_ppo.yaml"
LEARNER = "learner"
NEVER = 1_000_000
CHANGES = {
    "nodes.pipeline.environments": 2,
    "nodes.pipeline.window_steps": 64,
    "nodes.validation.environments": 4,
    "nodes.validation.episodes": 4,
    "nodes.scheduler.max_episodes": NEVER,
    "nodes.scheduler.min_episodes_before_dormant": NEVER,
    "run.restarts": NEVER,
    # Each death counts as the first: later ones would wait before they start again.
    "run.restart_seconds": 0.01,
}
_BOUND_SECONDS = 30.0


def bench(quick: bool) -> Table:
    """The table."""
    rounds = 1 if quick else 10
    kills: dict[str, list[tuple[float, int]]] = {}
    with running() as run:
        names = [process.name for process in run.read().processes if process.name != NURSERY]
        for _ in range(rounds):
            for name in names:
                kills.setdefault(name, []).append(kill(run, name))
        if NURSERY in [process.name for process in run.read().processes]:
            for _ in range(1 if quick else 3):
                kills.setdefault("learner, new interpreter", []).append(kill_without_nursery(run))
        nodes = {process.name: process.nodes[0] for process in run.read().processes if process.nodes}
        ready = ready_stamps(run)
    table = Table("Ready again after SIGKILL", judged=not quick)
    for label, found in kills.items():
        name = label.partition(",")[0]
        taken = [ready[nodes[name], incarnation + 1] - at for at, incarnation in found]
        # A learner's new interpreter imports its framework: that is what the nursery is for.
        demand = Demand("<", 1.0, "s") if name == label else None
        table.add(f"{label}, {len(taken)} kills", Series.of(taken), "s", demand=demand)
    return table


@contextlib.contextmanager
def running() -> Iterator[RunDirectory]:
    """The demo, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="optix-bus-bench-") as folder:
        run = RunDirectory(Path(folder) / "run")
        command = [sys.executable, "-m", "optix_bus.cli", "up", str(DEMO), "--run-dir", str(run.root)]
        for key, value in CHANGES.items():
            command += ["--set", f"{key}={value}"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([*command, "--quiet"], **quiet)
        try:
            until(lambda: run.record.exists() and run.read().state == "running")
            yield run
            if process.poll() is not None:
                raise RuntimeError(f"the demo ended with exit code {process.returncode}")
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                process.send_signal(number)
            process.wait()


def kill(run: RunDirectory, name: str) -> tuple[float, int]:
    """Kill a process and wait until it is back; when it was killed, and which life that ended."""
    before = process_of(run, name)
    at = time.time()
    os.kill(before.pid, signal.SIGKILL)
    until(lambda: is_back(run, before))
    return at, before.incarnation


def kill_without_nursery(run: RunDirectory) -> tuple[float, int]:
    """Kill the nursery, and then the learner, which finds none that is ready."""
    nursery = process_of(run, NURSERY)
    os.kill(nursery.pid, signal.SIGKILL)
    until(lambda: process_of(run, NURSERY).incarnation > nursery.incarnation)
    killed = kill(run, LEARNER)
    until(lambda: is_back(run, nursery))
    return killed


def is_back(run: RunDirectory, before: ProcessRecord) -> bool:
    """Whether the next life of a process is ready."""
    now = process_of(run, before.name)
    return now.incarnation > before.incarnation and now.state == "ready"


def process_of(run: RunDirectory, name: str) -> ProcessRecord:
    """The present record of a process."""
    return next(process for process in run.read().processes if process.name == name)


def until(condition: object, seconds: float = _BOUND_SECONDS) -> None:
    """Wait for something that a run writes down."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(ConfigurationError):
            if condition():  # type: ignore[operator]
                return
        if time.monotonic() > deadline:
            raise RuntimeError(f"it did not happen in {seconds:g} s")
        time.sleep(0.02)


def ready_stamps(run: RunDirectory) -> dict[tuple[str, int], float]:
    """When each life of each node was ready, seconds since the epoch."""
    import msgspec

    found = {}
    for record in read_journal(run.journal):
        if record.type == NodeReady.__name__:
            event = msgspec.msgpack.decode(record.body, type=NodeReady)
            found[event.node, event.incarnation] = record.stamp_ns / 1e9
    return found


if __name__ == "__main__":
    measure.run(bench)
