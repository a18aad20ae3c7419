"""An agent that is no reinforcement learning: a forecaster that learns from a stream while it forecasts.

`forecaster.yaml` names both, ``online_forecaster:SeasonalStream-v0`` and ``online_forecaster:Forecaster``.
The loop asks for six methods and a score, and for nothing else: an action is a forecast, a reward its
negative squared error, and no step has consequences.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from optix_bus.interfaces import BaseAgent
from optix_bus.types import EpisodeData, HyperparamSet

LAGS = 8


class SeasonalStream(gym.Env[Any, Any]):
    """``x_t = 1.2 x_{t-1} - 0.6 x_{t-2} + 0.5 sin(2 pi t / 24 + phase) + noise``; the phase is new each time.

    An observation is the last 8 values, an action the forecast of the next one, the reward its negative
    squared error. Nobody can expect more than ``-length * noise^2`` in an episode.

    Args:
        noise: standard deviation of what cannot be forecast.
        length: steps of an episode.
    """

    def __init__(self, noise: float = 0.1, length: int = 200) -> None:
        self.noise = noise
        self.length = length
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (LAGS,), np.float32)
        self.action_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Start somewhere in the season, after the stream has forgotten where it began."""
        super().reset(seed=seed)
        self._phase = self.np_random.uniform(0.0, 2.0 * np.pi)
        self._values = [0.0, 0.0]
        for _ in range(50):
            self._values.append(self._next())
        self._steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """The stream goes on, whatever was forecast."""
        self._values.append(self._next())
        self._steps += 1
        error = float(np.asarray(action).reshape(())) - self._values[-1]
        return self._observe(), -(error**2), False, self._steps >= self.length, {}

    def _next(self) -> float:
        season = 0.5 * np.sin(2.0 * np.pi * len(self._values) / 24.0 + self._phase)
        noise = self.noise * self.np_random.standard_normal()
        return float(1.2 * self._values[-1] - 0.6 * self._values[-2] + season + noise)

    def _observe(self) -> Any:
        return np.array(self._values[-LAGS:], np.float32)


class Forecaster(BaseAgent):
    """Recursive least squares on the last values, with exponential forgetting.

    Haykin, Adaptive Filter Theory, 5th edition, table 10.1.

    Args:
        lags: length of an observation.
        forgetting: weight of the step before the newest; 1 never forgets.
    """

    def __init__(self, lags: int = LAGS, forgetting: float = 0.999) -> None:
        self.params: dict[str, Any] = {"forgetting": forgetting}
        self.weights = np.zeros(lags + 1)
        self.spread = 1000.0 * np.eye(lags + 1)  # inverse of the correlation of the inputs

    def act(self, observation: Any) -> Any:
        """The forecast of the next value, ``[1]``."""
        return np.array([self._inputs(observation) @ self.weights], np.float32)

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """One step of the filter for each value that came; reports the error before each step."""
        seen = np.asarray(episode_data.observations, float).reshape(-1, len(self.weights) - 1)
        came = np.asarray(episode_data.final_observations, float).reshape(seen.shape)[:, -1]
        real = np.ones(len(seen), bool)
        if episode_data.valid is not None:
            real = np.asarray(episode_data.valid).reshape(-1)
        errors = [self._follow(self._inputs(seen[row]), came[row]) for row in np.flatnonzero(real)]
        return {
            "squared_error": float(np.mean(np.square(errors))),
            "largest_error": float(np.max(np.abs(errors))),
        }

    def get_hyperparams(self) -> HyperparamSet:
        """How fast it forgets."""
        return HyperparamSet(dict(self.params))

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Take another value into force."""
        self.params = {**self.params, **hyperparams.params}

    def save_weights(self, path: str) -> None:
        """One NumPy file."""
        with Path(path).open("wb") as file:
            np.savez(file, weights=self.weights, spread=self.spread)

    def load_weights(self, path: str) -> None:
        """What `save_weights` wrote."""
        with np.load(path) as saved:
            self.weights, self.spread = saved["weights"], saved["spread"]

    def _inputs(self, observation: Any) -> Any:
        return np.append(np.asarray(observation, float), 1.0)

    def _follow(self, inputs: Any, came: float) -> float:
        ahead = self.spread @ inputs
        gain = ahead / (self.params["forgetting"] + inputs @ ahead)
        error = float(came - inputs @ self.weights)
        self.weights = self.weights + gain * error
        self.spread = (self.spread - np.outer(gain, ahead)) / self.params["forgetting"]
        self.spread = (self.spread + self.spread.T) / 2.0  # rounding must not make it lopsided
        return error


gym.register("SeasonalStream-v0", entry_point=SeasonalStream)
