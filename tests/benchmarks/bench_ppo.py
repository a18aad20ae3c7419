"""How fast PPO acts and learns, beside the same networks in plain PyTorch, and beside Stable-Baselines3.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_ppo

One update is 2048 samples (8 environments x 256 steps), 10 epochs, two 2x64 tanh networks: the median of
nine. End to end is CartPole with those settings, in steps per second, after a warm-up window.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch

from optix_bus.agents import make_agent
from optix_bus.agents.torch.ppo import TorchPPOAgent
from optix_bus.pipelines import VectorBatchPipeline
from optix_bus.types import EpisodeData, SpaceSpec
from tests.agents.windows import VECTOR, random_window

WINDOWS = 10


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    agent = make_agent(VECTOR, seed=0)
    assert isinstance(agent, TorchPPOAgent)
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    policy = agent.policy()
    for name, call in (
        ("policy, batch 8, deterministic", lambda: policy.act_batch(x, deterministic=True)),
        ("policy, batch 8, sampling", lambda: policy.act_batch(x)),
        ("agent, batch 8, sampling", lambda: agent.act_batch(x)),
    ):
        print(f"{name:<44}{1e6 * _seconds(call, 2000):>10.1f} µs")
    window = random_window(0, steps=256, width=8)
    for minibatch in (256, 64):
        for way, fast, fused in (
            ("by hand", True, True),
            ("autograd, fused", False, True),
            ("autograd", False, False),
        ):
            seconds = _update(VECTOR, window, minibatch, fast, fused)
            print(f"{f'update, minibatch {minibatch}, {way}':<44}{1e3 * seconds:>10.1f} ms")
    for minibatch in (256, 64):
        print(f"{f'CartPole, minibatch {minibatch}':<44}{_end_to_end(minibatch):>10.0f} steps/s")
        if importlib.util.find_spec("stable_baselines3"):
            print(f"{'the same in Stable-Baselines3':<44}{_stable_baselines(minibatch):>10.0f} steps/s")


def _seconds(call: Callable[[], Any], times: int) -> float:
    runs = []
    for _ in range(9):
        start = time.perf_counter()
        for _ in range(times):
            call()
        runs.append((time.perf_counter() - start) / times)
    return statistics.median(runs)


def _update(spaces: SpaceSpec, window: EpisodeData, minibatch: int, fast: bool, fused: bool) -> float:
    made = make_agent(spaces, seed=0, hyperparams={"minibatch_size": minibatch})
    assert isinstance(made, TorchPPOAgent)
    parameters = [*made._actor.parameters(), *made._critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-4, eps=1e-5, fused=fused)
    agent = TorchPPOAgent(made._actor, made._critic, optimizer, made.get_hyperparams(), fast=fast, seed=0)
    agent.learn(window)
    return _seconds(lambda: agent.learn(window), 1)


def _end_to_end(minibatch: int) -> float:
    agent = make_agent(gymnasium.make("CartPole-v1"), seed=0, hyperparams={"minibatch_size": minibatch})
    makers = [lambda: gymnasium.make("CartPole-v1")] * 8
    pipeline = VectorBatchPipeline(env_fns=makers, agent=agent, window_size=256, seed=0)
    pipeline.setup()
    windows = pipeline.episodes()
    agent.learn(next(windows))
    start = time.perf_counter()
    for _ in range(WINDOWS):
        agent.learn(next(windows))
    seconds = time.perf_counter() - start
    pipeline.teardown()
    return WINDOWS * 2048 / seconds


def _stable_baselines(minibatch: int) -> float:
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    model = PPO(
        "MlpPolicy", make_vec_env("CartPole-v1", n_envs=8), n_steps=256, batch_size=minibatch, device="cpu"
    )
    model.learn(2048)
    start = time.perf_counter()
    model.learn(WINDOWS * 2048)
    return WINDOWS * 2048 / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
