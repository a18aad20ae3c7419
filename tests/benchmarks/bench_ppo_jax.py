"""PPO in JAX end to end, in CPU seconds, beside Stable-Baselines3 with the same settings.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_ppo_jax [--quick]

A window is CartPole, 8 environments x 256 steps, collected and learnt: 10 epochs, two networks of 2x64, Adam.
CPU seconds are user and system of all threads. What JAX compiles is measured in processes of their own, from
the making of the agent to the end of its first window, with an empty folder for compiled programs and with a
filled one; importing is not in it, on either side. A million steps are that first window and 488 more at what
they take in a round; the peer's are 489 of its windows. The row that says so was really run from its first to
its last step, in a new process with an empty folder.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile

from optix_bus.agents.jax.device import CACHE_VARIABLE
from tests.benchmarks import end_to_end
from tests.benchmarks.end_to_end import PEER, WINDOW
from tests.benchmarks.measure import Demand, Series, Table, interleaved, run

#: A million steps.
WINDOWS = math.ceil(1_000_000 / WINDOW)
_RUN = """
import time
from tests.benchmarks import end_to_end
import optix_bus.agents.jax.make_ppo
end_to_end.one_thread()
began = time.process_time()
ours = end_to_end.ppo("jax", {minibatch}, 1, before={windows})
print(time.process_time() - began)
"""


def bench(quick: bool) -> Table:
    """Both sizes of minibatches, or to see that it works the larger one."""
    end_to_end.one_thread()
    rounds = 1 if quick else 7
    table = Table("PPO in JAX, collecting and learning, CPU seconds", judged=not quick)
    for minibatch, times in {64: 8.0, 256: 5.0}.items():
        if quick and minibatch == 64:
            continue
        _minibatch(table, minibatch, times, rounds, 3 if quick else WINDOWS)
    return table


def _minibatch(table: Table, minibatch: int, times: float, rounds: int, whole: int) -> None:
    cold, warm = _first_windows(minibatch, min(rounds, 3))
    ours = end_to_end.ppo("jax", minibatch, 1 if rounds == 1 else 8)
    measures = {"ours": ours, PEER: end_to_end.peer_ppo(minibatch, 1 if rounds == 1 else 2)}
    found = interleaved(rounds, measures, warm_up=rounds > 1)
    mine, theirs = (found[name].map(lambda speed: WINDOW / speed) for name in ("ours", PEER))
    name = f"minibatch {minibatch}"
    ratio = theirs.over(mine)
    table.add(f"{name}, a window", mine, "s", beside=PEER, peer=theirs, ratio=ratio)
    table.add("  of which collecting", ours.shares(rounds), "%")
    table.add(f"{name}, first window, compiled", cold, "s")
    table.add(f"{name}, first window, from the cache", warm, "s")
    million = theirs.map(lambda window: WINDOWS * window)
    for state, first in (("compiled", cold), ("from the cache", warm)):
        row = Series.of(first.median + (WINDOWS - 1) * window for window in mine.values)
        table.add(
            f"{name}, a million steps, {state}",
            row,
            "s",
            beside=PEER,
            peer=million,
            ratio=million.over(row),
            demand=Demand(">=", times),
        )
        reached = Series.of(
            _reached(first.median, a, b, times) for a, b in zip(mine.values, theirs.values, strict=True)
        )
        table.add(f"{name}, {times:g} x from this step on, {state}", reached, "steps")
    with tempfile.TemporaryDirectory() as folder:
        run_whole = Series.of([_fresh(minibatch, whole, folder)])
    rest = Series.of([whole * theirs.median])
    table.add(
        f"{name}, {whole * WINDOW:,} steps really run, compiled",
        run_whole,
        "s",
        beside=PEER,
        peer=rest,
        ratio=rest.over(run_whole),
    )


def _reached(first: float, mine: float, theirs: float, times: float) -> float:
    """Steps after which all steps together have taken so many times less than theirs; infinite for never."""
    gained = theirs / times - mine
    return WINDOW * max(1.0, (first - mine) / gained) if gained > 0.0 else math.inf


def _first_windows(minibatch: int, times: int) -> tuple[Series, Series]:
    """CPU seconds until a new process has learnt its first window: with an empty folder, and a filled one."""
    cold, warm = [], []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            cold.append(_fresh(minibatch, 1, folder))
            warm.append(_fresh(minibatch, 1, folder))
    return Series.of(cold), Series.of(warm)


def _fresh(minibatch: int, windows: int, folder: str) -> float:
    """CPU seconds of so many windows in a new process that keeps compiled programs in this folder."""
    command = [sys.executable, "-c", _RUN.format(minibatch=minibatch, windows=windows)]
    environment = {**os.environ, CACHE_VARIABLE: folder}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return float(done.stdout)


if __name__ == "__main__":
    run(bench)
