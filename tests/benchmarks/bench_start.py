"""How long until something happens, and how much memory the processes take.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_start [--quick]

Imports are timed in fresh interpreters beside one that imports nothing. A start is timed from the moment in
which `optix-bus up` is started as a process to the hub's stamp of the first collected window.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from optix_bus.bus.journal_reader import read_journal
from optix_bus.errors import ConfigurationError
from optix_bus.runtime.run_directory import RunDirectory
from tests.benchmarks import measure
from tests.benchmarks.measure import Demand, Series, Table, interleaved

DEMO = Path(__file__).parents[2] / "topologies" / "cartpole_ppo.yaml"
LEARNS = ("learner", "supervisor")


def bench(quick: bool) -> Table:
    """The table."""
    rounds = 1 if quick else 7
    table = Table("Start-up and memory", judged=not quick)
    imports = interleaved(
        rounds,
        {
            "nothing": lambda: interpreter("pass"),
            "optix_bus": lambda: interpreter("import optix_bus"),
            "help": lambda: interpreter("from optix_bus.cli import main; main(['--help'])"),
        },
    )
    bare = imports["nothing"]
    for name, label in (("optix_bus", "import optix_bus"), ("help", "optix-bus --help")):
        demand = Demand("<", 0.3, "s")
        table.add(label, imports[name], "s", beside="bare interpreter", peer=bare, demand=demand)
    starts, memory = [], {}
    for _ in range(1 if quick else 5):
        seconds, sizes = start()
        starts.append(seconds)
        for name, size in sizes.items():
            memory.setdefault(name, []).append(size)
    table.add("up to the first window collected", Series.of(starts), "s", demand=Demand("<", 4.0, "s"))
    for name, found in sorted(memory.items()):
        demand = None if name in LEARNS else Demand("<", 70.0, "MB")
        table.add(f"memory of {name}", Series.of(found), "MB", demand=demand)
    return table


def interpreter(code: str) -> float:
    """Wall time of a fresh interpreter that runs this."""
    command = [sys.executable, "-c", code]
    return measure.seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def start() -> tuple[float, dict[str, float]]:
    """Seconds until the first window is collected, and the largest resident size of each process in MB."""
    with tempfile.TemporaryDirectory(prefix="optix-bus-bench-") as folder:
        run = RunDirectory(Path(folder) / "run")
        began = time.time()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "optix_bus.cli", "up", str(DEMO), "--quiet"),
                *("--run-dir", str(run.root), "--set", "nodes.scheduler.max_episodes=10"),
            ],
            stdout=subprocess.DEVNULL,
        )
        sizes: dict[str, float] = {}
        ended = threading.Event()
        watcher = threading.Thread(target=watch, args=(run, sizes, ended))
        watcher.start()
        code = process.wait()
        ended.set()
        watcher.join()
        if code != 0:
            raise RuntimeError(f"the demo ended with exit code {code}")
        first = next(r for r in read_journal(run.journal) if r.type == "WindowCollected")
        return first.stamp_ns / 1e9 - began, sizes


def watch(run: RunDirectory, sizes: dict[str, float], ended: threading.Event) -> None:
    """Keep the largest resident size of every process of the run."""
    while not ended.wait(0.05):
        with contextlib.suppress(ConfigurationError):  # not written yet
            record = run.read()
            for process in (record.supervisor, *record.processes):
                with contextlib.suppress(psutil.Error):
                    size = psutil.Process(process.pid).memory_info().rss / 1e6
                    sizes[process.name] = max(sizes.get(process.name, 0.0), size)


if __name__ == "__main__":
    measure.run(bench)
