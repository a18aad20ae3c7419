"""Agents whose policy is one number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from optix_bus.interfaces import BaseAgent
from optix_bus.types import EpisodeData, HyperparamSet


class Constant(BaseAgent):
    """Acts with its level; six methods, `perturb_weights` and a record of what was done to it."""

    default_param_bounds = {"learning_rate": (1e-4, 1e-1)}  # noqa: RUF012 - as users write it

    def __init__(self, level: float = 0.0, learning_rate: float = 1e-2) -> None:
        self.level = level
        self.params: dict[str, Any] = {"learning_rate": learning_rate, "layers": 2}
        self.torn_down = 0
        self.windows: list[EpisodeData] = []

    def act(self, observation: Any) -> Any:
        return np.array([self.level], np.float32)

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        self.windows.append(episode_data)
        return {"loss": 0.0}

    def get_hyperparams(self) -> HyperparamSet:
        return HyperparamSet(dict(self.params))

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        self.params = {**self.params, **hyperparams.params}

    def save_weights(self, path: str) -> None:
        Path(path).write_text(repr(self.level))

    def load_weights(self, path: str) -> None:
        self.level = float(Path(path).read_text())

    def teardown(self) -> None:
        self.torn_down += 1
