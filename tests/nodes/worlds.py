"""A world small enough to know every number of: used to see which policy earned which score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from optix_bus.interfaces import BaseAgent
from optix_bus.types import EpisodeData, HyperparamSet


class Corridor(gym.Env[np.ndarray[Any, Any], int]):
    """Ten steps an episode; the reward of each is the action itself."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(1000)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.left = 10
        return self._see(), {}

    def step(self, action: int) -> Any:
        self.left -= 1
        return self._see(), float(action), self.left == 0, False, {}

    def _see(self) -> np.ndarray[Any, Any]:
        return np.array([self.left / 10, self.np_random.uniform(-1, 1)], np.float32)


class Failing(Corridor):
    """Raises in its fifth step."""

    def step(self, action: int) -> Any:
        if self.left == 6:
            raise RuntimeError("the simulator has crashed")
        return super().step(action)


class Scripted(BaseAgent):
    """Its policy is one number, which each window moves on along a script. Six methods, nothing else."""

    def __init__(self, script: list[int]) -> None:
        self.script = script
        self.updates = 0
        self.level = script[0]
        self.stash: list[int] = []
        self.stashes: list[int] = []
        self.params: dict[str, Any] = {"learning_rate": 0.1}
        self.windows: list[EpisodeData] = []

    def act(self, observation: Any) -> int:
        self.stash.append(self.level)
        return self.level

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        self.windows.append(episode_data)
        self.stashes.append(len(self.stash))
        self.stash = []
        self.updates += 1
        self.level = self.script[min(self.updates, len(self.script) - 1)]
        return {"policy_loss": 0.5}

    def get_hyperparams(self) -> HyperparamSet:
        return HyperparamSet(dict(self.params))

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        self.params = dict(hyperparams.params)

    def save_weights(self, path: str) -> None:
        Path(path).write_text(str(self.level))

    def load_weights(self, path: str) -> None:
        self.level = int(Path(path).read_text())
