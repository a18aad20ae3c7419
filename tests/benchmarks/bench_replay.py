"""How much faster than it ran a run is played again.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_replay [--quick]

The demo topology runs in processes once a round. Then its journal is replayed: the nodes that need no arrays
(scheduler and optimizer), all nodes, and, on a hub of its own, everything for subscribers. The speed is the
time between the stamps of the first and the last event of the run, divided by what the replay needs for them;
for the command, the start of the interpreter is in it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from optix_bus.runtime.replay_live import LiveReplay
from optix_bus.runtime.replay_run import RecordedRun
from optix_bus.runtime.replay_session import replay
from tests.benchmarks import measure
from tests.benchmarks.measure import Demand, Series, Table

DEMO = Path(__file__).parents[2] / "topologies" / "cartpole_ppo.yaml"
CONTROL = ("scheduler", "optimizer")


def bench(quick: bool) -> Table:
    """The table."""
    rounds, windows = (1, 5) if quick else (3, None)
    control, command, everything, live, lengths = [], [], [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="optix-bus-bench-") as folder:
            run = recorded(Path(folder) / "run", windows)
            lengths.append(length(run))
            control.append(speed(run, CONTROL))
            command.append(lengths[-1] / measure.seconds(lambda r=run: by_command(r)))
            everything.append(speed(run, ()))
            live.append(published(run))
    table = Table(f"Replay, {run.head} events in the last of {rounds} runs", judged=not quick)
    table.add("the runs took", Series.of(lengths), "s")
    table.add(
        "scheduler and optimizer", Series.of(control), "times the run", demand=Demand(">=", 20.0, "times")
    )
    table.add("the same by `optix-bus replay`", Series.of(command), "times the run")
    table.add("all nodes", Series.of(everything), "times the run")
    table.add("published for subscribers, --rate 0", Series.of(live), "events/s")
    return table


def recorded(folder: Path, windows: int | None) -> RecordedRun:
    """A run of the demo, to its end or as many windows."""
    limit = [] if windows is None else ["--set", f"nodes.scheduler.max_episodes={windows}"]
    command = [
        sys.executable,
        "-m",
        "optix_bus.cli",
        "up",
        str(DEMO),
        "--quiet",
        "--run-dir",
        str(folder),
        *limit,
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return RecordedRun(folder)


def length(run: RecordedRun) -> float:
    """Seconds between the stamps of its first and its last event."""
    first, last = (next(run.records(seq, seq)) for seq in (1, run.head))
    return (last.stamp_ns - first.stamp_ns) / 1e9


def speed(run: RecordedRun, nodes: tuple[str, ...]) -> float:
    """How many times faster than the run these nodes are played."""
    report = replay(run, nodes)
    if report.exit_code:
        raise RuntimeError(f"the replay differs from the run: {report.divergence or report.obstacle}")
    return report.speed


def by_command(run: RecordedRun) -> None:
    """As a person would."""
    nodes = [argument for node in CONTROL for argument in ("--node", node)]
    command = [sys.executable, "-m", "optix_bus.cli", "replay", str(run.directory.root), *nodes]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def published(run: RecordedRun) -> float:
    """Events per second on a hub of their own, journaled and read back."""
    live = LiveReplay(run, rate=0.0)
    try:
        result = live.publish()
    finally:
        live.close()
    if result.problem:
        raise RuntimeError(result.problem)
    return result.events / result.seconds


if __name__ == "__main__":
    measure.run(bench)
