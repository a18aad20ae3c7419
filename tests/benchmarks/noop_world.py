"""A world in which nothing costs anything, so that what is left is the loop. `noop.yaml` beside it names it.

Sizes are those of CartPole and a 2x64 policy: a window of about 100 kB, a state of about 110 kB.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from optix_bus.agents.acting import load_policy
from optix_bus.interfaces import BaseAgent, BasePipeline
from optix_bus.types import EpisodeData, HyperparamSet, NamedArrays

#: One observation of this many float32 weighs as much as 8 x 256 of CartPole's.
WIDTH = 8192


class NoopWorld(gym.Env[np.ndarray[Any, Any], int]):
    """Episodes of one step; every observation is the same array."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (WIDTH,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.reward = float(self.np_random.normal())
        return _OBSERVATION, {}

    def step(self, action: int) -> Any:
        return _OBSERVATION, self.reward, True, False, {}


_OBSERVATION = np.zeros(WIDTH, np.float32)

# The topology knows this module by another name than the benchmark does; both may be imported.
if "OptixBusNoop-v0" not in gym.registry:
    gym.register("OptixBusNoop-v0", entry_point=NoopWorld)


class SixMethods(BaseAgent):
    """The six methods, as empty as can be; one hyperparameter, for a tuner to tune."""

    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = {"learning_rate": (1e-4, 1e-2)}

    def __init__(self) -> None:
        self._params = HyperparamSet({"learning_rate": 1e-3})

    def act(self, observation: Any) -> int:
        return 0

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        return {"policy_loss": 0.0}

    def get_hyperparams(self) -> HyperparamSet:
        return self._params

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        self._params = hyperparams

    def save_weights(self, path: str) -> None:
        Path(path).write_bytes(b"none")

    def load_weights(self, path: str) -> None:
        return None


class Arrays(SixMethods):
    """Its policy travels as arrays: one linear layer, and what an optimizer of a 2x64 PPO keeps beside it."""

    def __init__(self) -> None:
        super().__init__()
        layers = [{"op": "linear", "weight": "actor.0.weight", "bias": "actor.0.bias"}]
        description = {"format": 1, "kind": "mlp", "head": "categorical", "layers": layers}
        arrays = {
            "actor.0.weight": np.zeros((2, WIDTH), np.float32),
            "actor.0.bias": np.zeros(2, np.float32),
            "optimizer.moments": np.zeros(11_000, np.float32),
        }
        self._state = NamedArrays(arrays, {"policy": description})

    def state(self) -> NamedArrays:
        return self._state

    def load_state(self, state: NamedArrays) -> None:
        return None

    def policy(self) -> Any:
        return load_policy(self._state, np.random.default_rng(0))

    def reseed(self, rng: np.random.Generator) -> None:
        return None


class Ready(BasePipeline):
    """Hands out windows that were collected before, in turn."""

    def __init__(self, windows: list[EpisodeData]) -> None:
        self._windows = windows
        self._given = 0

    def setup(self) -> None:
        return None

    def episodes(self) -> Iterator[EpisodeData]:
        while True:
            yield self._next()

    def collect(self, window: int, rng: np.random.Generator) -> EpisodeData:
        return self._next()

    def evaluate(self, episodes: int, first_episode: int = 0) -> EpisodeData:
        return self._next()

    def teardown(self) -> None:
        return None

    def set_agent(self, agent: Any) -> None:
        return None

    def _next(self) -> EpisodeData:
        window = self._windows[self._given % len(self._windows)]
        self._given += 1
        # The loop writes its number and its labels into what it gets.
        return dataclasses.replace(window, metadata=dict(window.metadata))
