"""The gates of SAC and TD3: Pendulum-v1 in 20,000 steps, with the settings of the public benchmark tables.

Settings: RL Baselines3 Zoo, hyperparams/sac.yml and hyperparams/td3.yml,
https://github.com/DLR-RM/rl-baselines3-zoo.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from optix_bus import BatchPipeline, make_agent

TUNED: dict[str, dict[str, Any]] = {
    "sac": {"learning_rate": 1e-3},
    "td3": {"learning_rate": 1e-3, "gamma": 0.98, "replay_capacity": 200_000, "learning_starts": 10_000},
}


def score(algorithm: str, seed: int, steps: int, window: int = 50, **hyperparams: Any) -> float:
    """Mean return of 100 deterministic episodes after so many steps of training."""
    env = gym.make("Pendulum-v1")
    agent = make_agent(env, algorithm=algorithm, seed=seed, hyperparams={**TUNED[algorithm], **hyperparams})
    pipeline = BatchPipeline(env, agent, window_size=window, seed=seed)
    pipeline.setup()
    windows = pipeline.episodes()
    for _ in range(steps // window):
        agent.learn(next(windows))
    pipeline.teardown()
    tested = gym.make_vec("Pendulum-v1", 100, vectorization_mode="sync")
    observations, _ = tested.reset(seed=10_000)
    returns = np.zeros(100)
    for _ in range(200):
        actions = agent.act_batch(observations, deterministic=True).actions
        observations, rewards, *_ = tested.step(actions)
        returns += rewards
    return float(returns.mean())


def interquartile_mean(values: list[float]) -> float:
    ordered = sorted(values)
    cut = len(ordered) // 4
    return float(np.mean(ordered[cut : len(ordered) - cut]))


@pytest.mark.learning
@pytest.mark.parametrize(
    ("algorithm", "hyperparams", "least"),
    [("sac", {}, -300.0), ("td3", {"learning_starts": 1000}, -500.0)],
    ids=["sac", "td3"],
)
def test_a_pendulum_swings_up_in_a_third_of_the_steps(
    algorithm: str, hyperparams: dict[str, Any], least: float
) -> None:
    """A policy at random scores about -1,200."""
    found = score(algorithm, 0, 7000, **hyperparams)
    print(f"{algorithm}, 7,000 steps: {found:.1f}")
    assert found >= least


@pytest.mark.learning
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_pendulum_is_learnt_to_the_level_of_the_public_tables(algorithm: str) -> None:
    scores = [score(algorithm, seed, 20_000) for seed in range(5)]
    print(f"{algorithm}, 20,000 steps, 5 seeds: {', '.join(f'{each:.1f}' for each in scores)}")
    assert interquartile_mean(scores) >= -175
