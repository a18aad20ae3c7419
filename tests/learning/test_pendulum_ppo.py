"""The gate of Gaussian PPO: Pendulum-v1 in 200,000 steps, -200 or more, interquartile mean of five seeds.

Eight environments and 256 steps a window. Where the public tables of RL Baselines3 Zoo (hyperparams/ppo.yml,
https://github.com/DLR-RM/rl-baselines3-zoo) explore by a noise that depends on the state, this is the plain
algorithm, with a learning rate that falls to 0.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from optix_bus import VectorBatchPipeline, make_agent
from tests.learning.test_pendulum import interquartile_mean

STEPS, WINDOW, ENVIRONMENTS = 200_000, 256, 8
TUNED = {
    "gamma": 0.95,
    "entropy_coef": 0.0,
    "minibatch_size": 128,
    "learning_rate": {"schedule": "linear", "from": 1e-3, "to": 0.0, "over": STEPS},
}


def score(seed: int) -> float:
    """Mean return of 100 deterministic episodes after training."""
    agent = make_agent(gym.make("Pendulum-v1"), algorithm="ppo", seed=seed, hyperparams=TUNED)
    makers = [lambda: gym.make("Pendulum-v1")] * ENVIRONMENTS
    pipeline = VectorBatchPipeline(makers, agent, window_size=WINDOW, seed=seed)
    windows = pipeline.episodes()
    for _ in range(STEPS // (WINDOW * ENVIRONMENTS)):
        agent.learn(next(windows))
    tested = pipeline.evaluate(100, first_episode=1_000_000)
    pipeline.teardown()
    return float(np.mean(tested.metadata["episode_returns"]))


@pytest.mark.learning
@pytest.mark.timeout(3600)
def test_pendulum_is_learnt_to_the_gate() -> None:
    scores = [score(seed) for seed in range(5)]
    print(f"gaussian_ppo, {STEPS:,} steps, 5 seeds: {', '.join(f'{each:.1f}' for each in scores)}")
    assert interquartile_mean(scores) >= -200
