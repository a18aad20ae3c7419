"""How fast DQN learns, beside the bare calls of PyTorch and beside Stable-Baselines3, in CPU time.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_dqn

Both train on CartPole with two hidden layers of 256, batches of 64 and 128 gradient steps for each 256 steps
of one environment; ours is double, which is one more pass forward. The floor is what a gradient step takes
with nothing around it: the passes of the same networks forward and back, and the optimizer.
"""

from __future__ import annotations

import copy
import importlib.util
import time
from collections.abc import Callable

import gymnasium
import torch
from torch import nn

from optix_bus.agents import make_agent
from optix_bus.pipelines import BatchPipeline
from tests.benchmarks.measure import Demand, Table, interleaved, run

STEPS, STARTS = 256, 1000
SETTINGS = {"learning_rate": 2.3e-3, "train_freq": STEPS, "gradient_steps": 128, "target_update_freq": 128}


def bench(quick: bool) -> Table:
    """The table."""
    torch.set_num_threads(1)
    windows, rounds = (2, 1) if quick else (24, 5)
    measures: dict[str, Callable[[], float]] = {
        "by hand": lambda: _ours(windows, fast=True),
        "autograd": lambda: _ours(windows, fast=False),
        "floor": lambda: _floor(windows),
    }
    peers = {"floor": "the bare gradient steps"}
    if importlib.util.find_spec("stable_baselines3"):
        measures["peer"] = lambda: _stable_baselines(windows)
        peers["peer"] = "Stable-Baselines3"
    found = interleaved(rounds, measures, warm_up=not quick)
    table = Table("DQN on CartPole: steps of the environment per CPU second", judged=not quick)
    for name in ("by hand", "autograd"):
        for peer, beside in peers.items():
            demanded = name == "by hand" and peer == "peer"
            table.add(
                f"acting and learning, {name}",
                found[name],
                "steps/s",
                beside=beside,
                peer=found[peer],
                ratio=found[name].over(found[peer]),
                demand=Demand(">=", 1.5) if demanded else None,
            )
    return table


def _ours(windows: int, fast: bool) -> float:
    agent = make_agent(
        gymnasium.make("CartPole-v1"), algorithm="dqn", seed=0, device="cpu", hyperparams=SETTINGS
    )
    agent._fast = fast  # type: ignore[attr-defined]  # a benchmark of both ways
    pipeline = BatchPipeline(gymnasium.make("CartPole-v1"), agent, window_size=STEPS)
    pipeline.setup()
    episodes = pipeline.episodes()
    for _ in range(1 + STARTS // STEPS):
        agent.learn(next(episodes))
    began = time.process_time()
    for _ in range(windows):
        agent.learn(next(episodes))
    taken = time.process_time() - began
    pipeline.teardown()
    return windows * STEPS / taken


def _stable_baselines(windows: int) -> float:
    from stable_baselines3 import DQN

    model = DQN(
        "MlpPolicy",
        gymnasium.make("CartPole-v1"),
        learning_rate=SETTINGS["learning_rate"],
        batch_size=64,
        learning_starts=STARTS,
        train_freq=STEPS,
        gradient_steps=128,
        target_update_interval=STEPS,
        policy_kwargs={"net_arch": [256, 256]},
        device="cpu",
        seed=0,
    )
    before = (1 + STARTS // STEPS) * STEPS
    model.learn(before)
    began = time.process_time()
    model.learn(windows * STEPS, reset_num_timesteps=False)
    return windows * STEPS / (time.process_time() - began)


def _floor(windows: int) -> float:
    """Gradient steps alone, as steps of the environment that they would belong to."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2))
    target = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    x, following, slopes = torch.randn(64, 4), torch.randn(64, 4), torch.randn(64, 2)

    def steps(count: int) -> None:
        for _ in range(count):
            with torch.no_grad():
                target(following)
                network(following)
            optimizer.zero_grad()
            network(x).backward(slopes)
            optimizer.step()

    steps(50)
    began = time.process_time()
    steps(windows * 128)
    return windows * STEPS / (time.process_time() - began)


if __name__ == "__main__":
    run(bench)
