"""What a PPO update costs in JAX, in CPU seconds, beside the update loop of Stable-Baselines3.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_ppo_jax

One update is 2048 samples of 4 numbers (8 environments x 256 steps), 10 epochs, two 2x64 tanh networks,
Adam; on both sides the same minibatches in number and size. Ours begins with the window and so includes
values and advantages; theirs begins with a filled buffer. What JAX compiles is measured apart, in a process
of its own, with an empty cache and with a filled one, and counts in the rows of a million steps: 488 windows
and one compilation.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch

from optix_bus.agents.jax.device import CACHE_VARIABLE
from optix_bus.agents.jax.ppo import FlaxPPOAgent
from tests.agents.windows import random_window
from tests.benchmarks.measure import Demand, Series, Table, interleaved, run

STEPS, WIDTH, WINDOWS = 256, 8, 488
_FIRST = """
import time
from tests.benchmarks.bench_ppo_jax import ours
learn = ours({minibatch})
began = time.process_time()
learn()
print(time.process_time() - began)
"""


def bench(quick: bool) -> Table:
    """Both minibatch sizes."""
    torch.set_num_threads(1)
    table = Table(f"One PPO update of {STEPS * WIDTH} samples in JAX, CPU seconds", judged=not quick)
    for minibatch, times in ((64, 8.0), (256, 5.0)):
        cold, warm = _first_windows(minibatch, 1 if quick else 3)
        ways = {"ours": _timed(ours(minibatch)), "theirs": _timed(_stable_baselines(minibatch))}
        found = interleaved(2 if quick else 9, ways)
        name = f"minibatch {minibatch}"
        mine, theirs = found["ours"], found["theirs"]
        peer = {"beside": "Stable-Baselines3", "peer": theirs}
        table.add(f"{name}, update", mine, "s", ratio=theirs.over(mine), **peer)  # type: ignore[arg-type]
        table.add(f"{name}, first window, compiled cold", cold, "s")
        table.add(f"{name}, first window, from the cache", warm, "s")
        for state, first in (("cold", cold), ("cached", warm)):
            million = mine.map(lambda x, once=first.median: once + (WINDOWS - 1) * x)  # type: ignore[misc]
            rest = theirs.map(lambda x: WINDOWS * x)
            table.add(
                f"{name}, a million steps, {state}",
                million,
                "s",
                beside="Stable-Baselines3",
                peer=rest,
                ratio=rest.over(million),
                demand=Demand(">=", times),
            )
    return table


def ours(minibatch: int) -> Callable[[], object]:
    """Learn one window; the first call compiles."""
    agent = FlaxPPOAgent(4, 2, {"minibatch_size": minibatch})
    window = random_window(0, steps=STEPS, width=WIDTH)
    window.actions = window.actions % 2
    return functools.partial(agent.learn, window)


def _stable_baselines(minibatch: int) -> Callable[[], object]:
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    model = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=WIDTH),
        n_steps=STEPS,
        batch_size=minibatch,
        n_epochs=10,
        device="cpu",
    )
    model.learn(STEPS * WIDTH)
    train: Callable[[], object] = model.train
    return train


def _timed(call: Callable[[], object]) -> Callable[[], float]:
    def measure() -> float:
        began = time.process_time()
        call()
        return time.process_time() - began

    return measure


def _first_windows(minibatch: int, times: int) -> tuple[Series, Series]:
    """CPU seconds of the first window in a new process: with an empty cache, and with a filled one."""
    cold, warm = [], []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            for found in (cold, warm):
                command = [sys.executable, "-c", _FIRST.format(minibatch=minibatch)]
                environment = {**os.environ, CACHE_VARIABLE: folder}
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                found.append(float(done.stdout))
    return Series.of(cold), Series.of(warm)


if __name__ == "__main__":
    run(bench)
