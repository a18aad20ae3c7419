"""What the loop costs per window, with an agent and a world that cost nothing.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_loop [--quick]

1,000 windows each: wall time from the first window to the end, per window. *Evaluated* runs score every
window and tune a hyperparameter after each; the others do neither after the first. Through processes the
stamps of the journal say how long it took; start and end of the processes are left out. What the runs left is
removed at the end of all: ext4 makes files up to a millisecond slower for a while where many have just gone.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from optix_bus import RLOptimizer
from optix_bus.bus.journal_reader import read_journal
from optix_bus.messages import CollectWindow
from optix_bus.pipelines import PipelineSettings, make_pipeline
from optix_bus.runtime.fold import Envelope
from optix_bus.types import EpisodeData
from tests.benchmarks import measure, noop_world
from tests.benchmarks.measure import Demand, Series, Table

TOPOLOGY = Path(__file__).parent / "noop.yaml"
NEVER = 1_000_000
DEMAND = Demand("<", 3.0, "ms")


def bench(quick: bool) -> Table:
    """The table."""
    with tempfile.TemporaryDirectory() as folder:
        return measured(Path(folder), *((20, 1) if quick else (1000, 3)), judged=not quick)


def measured(folder: Path, windows: int, rounds: int, *, judged: bool) -> Table:
    """The table of runs in this folder."""
    places = (str(folder / str(number)) for number in itertools.count())
    training, validation = ready_windows()
    table = Table(f"Loop overhead per window, {windows} windows", judged=judged)
    for name, agent in (("six methods", noop_world.SixMethods), ("state as arrays", noop_world.Arrays)):
        for evaluated in (True, False):
            found = repeated(
                rounds,
                lambda a=agent, e=evaluated: rl_optimizer(
                    a(), training, validation, windows, e, next(places)
                ),
            )
            table.add(f"RLOptimizer, {name}, {label(evaluated)}", found, "ms", demand=DEMAND)
    for runner, through in (("inline", inline), ("processes", processes)):
        for evaluated in (True, False):
            gaps: list[float] = []
            found = repeated(rounds, lambda t=through, e=evaluated, g=gaps: t(windows, e, g, next(places)))
            worst = f"p50 {statistics.median(gaps):.2f}, p99 {np.quantile(gaps, 0.99):.2f} ms"
            table.add(f"topology {runner}, {label(evaluated)}", found, "ms", beside=worst, demand=DEMAND)
    return table


def label(evaluated: bool) -> str:
    """For a row."""
    return "evaluated" if evaluated else "not evaluated"


def repeated(rounds: int, measured: Callable[[], float]) -> Series:
    """Several runs of it, in milliseconds a window."""
    return Series.of(1e3 * measured() for _ in range(rounds))


def ready_windows() -> tuple[list[EpisodeData], list[EpisodeData]]:
    """Training windows and validation episodes of CartPole under a random policy, to be handed out again."""
    made = []
    for role in ("train", "validation"):
        settings = PipelineSettings(environments=8, window_steps=256)
        pipeline = make_pipeline("CartPole-v1", {}, settings, role=role, seed=0, agent=Coin())
        collect = pipeline.collect if role == "train" else lambda p=pipeline: p.evaluate(20)
        made.append([collect() for _ in range(8)])
        pipeline.teardown()
    return made[0], made[1]


class Coin:
    """Acts at random."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def act_batch(self, observations: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return self._rng.integers(0, 2, len(observations))


def rl_optimizer(
    agent: Any,
    training: list[EpisodeData],
    validation: list[EpisodeData],
    windows: int,
    evaluated: bool,
    folder: str,
) -> float:
    """Seconds a window of `RLOptimizer` over ready windows."""
    with contextlib.redirect_stdout(io.StringIO()):
        optimizer = RLOptimizer(
            agent,
            noop_world.Ready(training),
            val_pipeline=noop_world.Ready(validation),
            checkpoint_dir=folder,
            max_episodes=windows,
            base_interval=1 if evaluated else NEVER,
            max_interval_episodes=NEVER,
            backoff_factor=1.0,
            min_episodes_before_dormant=NEVER,
        )
        began = time.perf_counter()
        finished = optimizer.run()
        took = time.perf_counter() - began
    if finished.windows != windows or finished.evaluations != (windows if evaluated else 1):
        raise RuntimeError(f"found {finished}, expected {windows} windows")
    return took / windows


def overrides(windows: int, evaluated: bool) -> list[str]:
    """What changes in the topology."""
    interval = 1 if evaluated else NEVER
    return [f"nodes.scheduler.max_episodes={windows}", f"nodes.scheduler.base_interval={interval}"]


def inline(windows: int, evaluated: bool, gaps: list[float], folder: str) -> float:
    """Seconds a window of the topology in this process, where blobs are encoded as between processes."""
    from optix_bus.runtime.inline_run import run_inline
    from optix_bus.runtime.progress import QuietView
    from optix_bus.runtime.run_directory import RunDirectory
    from optix_bus.runtime.topology import load_topology

    starts: list[int] = []

    def listen(envelope: Envelope) -> None:
        if isinstance(envelope.event, CollectWindow):
            starts.append(envelope.stamp_ns)

    run = RunDirectory.create(Path(folder))
    outcome = run_inline(load_topology(TOPOLOGY, overrides(windows, evaluated)), run, QuietView(), listen)
    if outcome.exit_code != 0:
        raise RuntimeError(outcome.reason)
    return per_window(starts, windows, gaps)


def processes(windows: int, evaluated: bool, gaps: list[float], folder: str) -> float:
    """Seconds a window of the topology in seven processes."""
    command = [sys.executable, "-m", "optix_bus.cli", "up", str(TOPOLOGY), "--json", "--run-dir", folder]
    for override in overrides(windows, evaluated):
        command += ["--set", override]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise RuntimeError(
            f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
        )
    records = read_journal(f"{folder}/journal")
    starts = [record.stamp_ns for record in records if record.type == CollectWindow.__name__]
    return per_window(starts, windows, gaps)


def per_window(starts: list[int], windows: int, gaps: list[float]) -> float:
    """Seconds from window to window by the stamps at which they were asked for; the first is left out,
    because it imports and maps what the others only use. Single times go to ``gaps``, in milliseconds."""
    if len(starts) != windows:
        raise RuntimeError(f"found {len(starts)} windows, expected {windows}")
    gaps += (np.diff(starts[1:]) / 1e6).tolist()
    return (starts[-1] - starts[1]) / 1e9 / (windows - 2)


if __name__ == "__main__":
    measure.run(bench)
