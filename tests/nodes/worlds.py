"""A world small enough to know every number of: used to see which policy earned which score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from optix_bus.interfaces import Acting, BaseAgent
from optix_bus.types import EpisodeData, HyperparamSet, NamedArrays


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


class Winding(Corridor):
    """Episodes of six to fourteen steps; what is seen depends on all that was done in them."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        gym.Env.reset(self, seed=seed)
        self.left = int(self.np_random.integers(6, 15))
        self.position = 0.0
        return self._see(), {}

    def step(self, action: int) -> Any:
        self.position = 0.9 * self.position + 0.001 * float(action) * self.np_random.uniform(0.5, 1.5)
        self.left -= 1
        return self._see(), float(action), self.left == 0, False, {}

    def _see(self) -> np.ndarray[Any, Any]:
        return np.array([self.left / 15, np.tanh(self.position)], np.float32)


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


class Whole(Scripted):
    """Six methods, and `save_weights` writes all that learning changes."""

    def save_weights(self, path: str) -> None:
        Path(path).write_text(f"{self.updates} {self.level}")

    def load_weights(self, path: str) -> None:
        self.updates, self.level = map(int, Path(path).read_text().split())


class Drawing(Scripted):
    """Its policy travels as arrays. Acting draws; learning follows chance, rewards and the learning rate."""

    default_param_bounds = {"learning_rate": (0.05, 0.5)}  # noqa: RUF012 - as users write it
    default_log_params = ("learning_rate",)

    def __init__(self, script: list[int]) -> None:
        super().__init__(script)
        self.rng = np.random.default_rng(0)

    def act_batch(self, observations: Any, *, deterministic: bool = False) -> Acting:
        return DrawingPolicy(self.level, self.rng).act_batch(observations, deterministic=deterministic)

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        diagnostics = super().learn(episode_data)
        chance = int(self.rng.integers(4)) + round(10 * self.params["learning_rate"])
        self.level += chance + int(episode_data.total_reward) % 3
        return {**diagnostics, "unknown": float("nan")}

    def state(self) -> NamedArrays:
        return NamedArrays({"level": np.array([self.updates, self.level])}, {"made by": ["Drawing", 1]})

    def load_state(self, state: NamedArrays) -> None:
        self.updates, self.level = state.arrays["level"].tolist()

    def policy(self) -> DrawingPolicy:
        return DrawingPolicy(self.level, self.rng)

    def reseed(self, rng: np.random.Generator) -> None:
        self.rng = rng


class DrawingPolicy:
    """The acting half of `Drawing`."""

    def __init__(self, level: int, rng: np.random.Generator) -> None:
        self.level = level
        self.rng = rng

    def act_batch(self, observations: Any, *, deterministic: bool = False) -> Acting:
        drawn = (
            np.zeros(len(observations), int)
            if deterministic
            else self.rng.integers(4, size=len(observations))
        )
        return Acting(self.level + drawn)

    def reseed(self, rng: np.random.Generator) -> None:
        self.rng = rng
