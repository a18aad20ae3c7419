"""PPO in a loop of thirty lines, without the rest of the library."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from optix_bus.agents import make_agent
from optix_bus.types import EpisodeData


@pytest.mark.learning
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ppo_learns_cartpole_in_80_thousand_steps(seed):
    envs = gym.make_vec(
        "CartPole-v1", 8, vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP},
    )  # fmt: skip
    agent = make_agent(
        envs, seed=seed, hyperparams={"learning_rate": 1e-3, "minibatch_size": 256, "gamma": 0.98}
    )
    observations, _ = envs.reset(seed=seed)
    for window in range(80):
        rows = []
        for _ in range(128):
            acted = agent.act_batch(observations)
            following, rewards, terminated, truncated, infos = envs.step(acted.actions)
            final = following.copy()
            for b in np.flatnonzero(terminated | truncated):
                final[b] = infos["final_obs"][b]
            rows.append((observations, acted.actions, rewards, terminated, truncated, final, acted.log_probs))
            observations = following
        columns = [np.array(column) for column in zip(*rows, strict=True)]
        names = (
            "observations",
            "actions",
            "rewards",
            "terminated",
            "truncated",
            "final_observations",
            "log_probs",
        )
        agent.learn(EpisodeData(**dict(zip(names, columns, strict=True)), episode_id=window))
    assert np.mean([_episode(agent, 1000 + number) for number in range(20)]) >= 400


def _episode(agent, seed):
    env = gym.make("CartPole-v1")
    observation, _ = env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        action = int(agent.act_batch(observation[None], deterministic=True).actions[0])
        observation, reward, terminated, truncated, _ = env.step(action)
        total, over = total + reward, terminated or truncated
    return total
