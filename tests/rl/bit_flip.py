"""The random-goal bit-flip task: nothing but hindsight finds the goal among 2^n.

Andrychowicz et al. 2017, https://arxiv.org/abs/1707.01495, section 3.1.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class BitFlip(gym.Env):
    """State and goal are n random bits; an action flips one. -1 for each step, 0 where the goal is reached.

    Observations are ``[state, goal]``; reaching the goal terminates, n steps truncate.
    """

    def __init__(self, bits: int = 15) -> None:
        self.bits = bits
        self.observation_space = gym.spaces.Box(0.0, 1.0, (2 * bits,), np.float32)
        self.action_space = gym.spaces.Discrete(bits)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._state, self._goal = self.np_random.integers(0, 2, (2, self.bits)).astype(np.float32)
        self._steps = 0
        return self._observe(), {}

    def step(self, action: int):
        self._state[action] = 1.0 - self._state[action]
        self._steps += 1
        reward = float(compute_reward(self._state, self._goal))
        reached = reward == 0.0
        return self._observe(), reward, reached, not reached and self._steps >= self.bits, {}

    def _observe(self):
        return np.concatenate([self._state, self._goal])


def compute_reward(achieved: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """0 where all bits agree, otherwise -1; for one pair or rows of them."""
    return np.where((achieved == goal).all(axis=-1), 0.0, -1.0)
