"""The gate of hindsight replay: 15 bits, 20,000 steps, with it and without it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from optix_bus import HERBuffer
from tests.rl.bit_flip import BitFlip, compute_reward

BITS = 15


def train(k: int, seed: int, steps: int = 20_000) -> nn.Module:
    """Plain double DQN with a soft target; with k=0 the buffer shows what happened and nothing else."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = nn.Sequential(nn.Linear(2 * BITS, 256), nn.ReLU(), nn.Linear(256, BITS))
    target = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    buffer = HERBuffer(2 * BITS, 1, BITS, strategy="future", k=k, capacity=steps, seed=seed)
    env, taken = BitFlip(BITS), 0
    while taken < steps:
        episode, ended = [], False
        observation, _ = env.reset(seed=int(rng.integers(2**31)))
        while not ended:
            explore = rng.random() < max(0.05, 1.0 - taken / (0.3 * steps))
            action = int(rng.integers(BITS)) if explore else greedy(network, observation)
            following, reward, terminated, truncated, _ = env.step(action)
            episode.append((observation, action, reward, following, terminated, following[:BITS]))
            observation, ended, taken = following, terminated or truncated, taken + 1
        buffer.store_episode(
            *zip(*episode, strict=True),
            compute_reward,
            compute_done=lambda achieved, goal: compute_reward(achieved, goal) == 0.0,
        )
        for _ in range(len(episode) if taken > 500 else 0):
            update(network, target, optimizer, buffer)
    return network


def greedy(network: nn.Module, observation: np.ndarray) -> int:
    with torch.no_grad():
        return int(network(torch.as_tensor(observation)).argmax())


def update(network: nn.Module, target: nn.Module, optimizer: torch.optim.Optimizer, buffer: HERBuffer):
    obs, act, rew, following, done, *_ = (torch.as_tensor(column) for column in buffer.sample(128))
    with torch.no_grad():
        best = network(following).argmax(1, keepdim=True)
        value = target(following).gather(1, best)[:, 0]
        goal = rew + 0.98 * (1.0 - done) * value
    error = nn.functional.smooth_l1_loss(network(obs).gather(1, act[:, None])[:, 0], goal)
    optimizer.zero_grad()
    error.backward()
    optimizer.step()
    with torch.no_grad():
        for old, new in zip(target.parameters(), network.parameters(), strict=True):
            old.lerp_(new, 0.05)


def success(network: nn.Module, episodes: int = 200) -> float:
    env, reached = BitFlip(BITS), 0
    for episode in range(episodes):
        observation, _ = env.reset(seed=10_000 + episode)
        terminated = truncated = False
        while not (terminated or truncated):
            observation, _, terminated, truncated, _ = env.step(greedy(network, observation))
        reached += terminated
    return reached / episodes


@pytest.mark.learning
@pytest.mark.parametrize("seed", range(5))
def test_with_hindsight_fifteen_bits_are_learnt_in_20000_steps(seed):
    found = success(train(k=4, seed=seed))
    print(f"seed {seed}: success with hindsight {found:.3f}")
    assert found >= 0.95


@pytest.mark.learning
@pytest.mark.parametrize("seed", range(5))
def test_without_hindsight_nothing_is_learnt(seed):
    found = success(train(k=0, seed=seed))
    print(f"seed {seed}: success without hindsight {found:.3f}")
    assert found <= 0.05
