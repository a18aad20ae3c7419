"""Double DQN with a hindsight replay on the random-goal bit-flip task, and the same without hindsight."""

from __future__ import annotations

import copy
import time

import numpy as np
import torch
from torch import nn

from optix_bus import HERBuffer
from tests.rl.bit_flip import BitFlip, compute_reward


def run(seed: int, steps: int, episodes: int, judge_seed: int, bits: int, k: int) -> tuple[float, int, float]:
    """Share of successes of the trained policy, steps taken, CPU minutes of training."""
    torch.set_num_threads(1)
    began = time.process_time()
    network, taken = train(bits, k, seed, steps)
    minutes = (time.process_time() - began) / 60.0
    return success(network, bits, episodes, judge_seed), taken, minutes


def train(bits: int, k: int, seed: int, steps: int) -> tuple[nn.Module, int]:
    """A target that follows softly; with ``k=0`` the buffer shows what happened and nothing else."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = nn.Sequential(nn.Linear(2 * bits, 256), nn.ReLU(), nn.Linear(256, bits))
    target = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    buffer = HERBuffer(2 * bits, 1, bits, strategy="future", k=k, capacity=steps, seed=seed)
    env, taken = BitFlip(bits), 0
    while taken + bits <= steps:
        episode, ended = [], False
        observation, _ = env.reset(seed=int(rng.integers(2**31)))
        while not ended:
            explore = rng.random() < max(0.05, 1.0 - taken / (0.3 * steps))
            action = int(rng.integers(bits)) if explore else _greedy(network, observation)
            following, reward, terminated, truncated, _ = env.step(action)
            episode.append((observation, action, reward, following, terminated, following[:bits]))
            observation, ended, taken = following, terminated or truncated, taken + 1
        buffer.store_episode(
            *zip(*episode, strict=True),
            compute_reward,
            compute_done=lambda achieved, goal: compute_reward(achieved, goal) == 0.0,
        )
        for _ in range(len(episode) if taken > 500 else 0):
            _update(network, target, optimizer, buffer)
    return network, taken


def success(network: nn.Module, bits: int, episodes: int, judge_seed: int) -> float:
    """Share of episodes in which the goal was reached."""
    env, reached = BitFlip(bits), 0
    for episode in range(episodes):
        observation, _ = env.reset(seed=judge_seed + episode)
        terminated = truncated = False
        while not (terminated or truncated):
            observation, _, terminated, truncated, _ = env.step(_greedy(network, observation))
        reached += terminated
    return reached / episodes


def _greedy(network: nn.Module, observation: np.ndarray) -> int:
    with torch.no_grad():
        return int(network(torch.as_tensor(observation)).argmax())


def _update(
    network: nn.Module, target: nn.Module, optimizer: torch.optim.Optimizer, buffer: HERBuffer
) -> None:
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
