"""A world in which a trial takes milliseconds and its score follows from its settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import gymnasium as gym
import numpy as np

from optix_bus import BaseAgent, BatchPipeline, HyperparamSet


class Meadow(gym.Env):
    """Episodes of four steps; the reward is the action."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Box(-1000.0, 1000.0, (1,), np.float32)
    opened: ClassVar[list[Meadow]] = []

    def __init__(self, breaks_at=None):
        self.steps = self.total = 0
        self.breaks_at = breaks_at
        self.closed = False
        Meadow.opened.append(self)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        self.total += 1
        if self.breaks_at is not None and self.total >= self.breaks_at:
            raise RuntimeError("the meadow is flooded")
        return np.zeros(1, np.float32), float(action[0]), self.steps == 4, False, {}

    def close(self):
        self.closed = True


class Grower(BaseAgent):
    """Its action is ``height``, reached little by little: one window, one tenth of the way."""

    default_param_bounds: ClassVar = {"height": (0.0, 10.0)}
    torn_down: ClassVar[list[Grower]] = []

    def __init__(self, params):
        self.params = {"height": 5.0, "pace": 10, **params}
        self.windows = 0

    def act(self, observation):
        share = min(1.0, self.windows / max(1, self.params["pace"]))
        return np.array([share * self.params["height"]], np.float32)

    def learn(self, episode_data):
        if self.params["height"] != self.params["height"]:
            raise FloatingPointError("not a number")
        self.windows += 1
        return {}

    def get_hyperparams(self):
        return HyperparamSet(dict(self.params), 0)

    def set_hyperparams(self, hyperparams):
        self.params = dict(hyperparams.params)

    def save_weights(self, path):
        Path(path).write_text(json.dumps([self.params, self.windows]))

    def load_weights(self, path):
        self.params, self.windows = json.loads(Path(path).read_text())

    def teardown(self):
        Grower.torn_down.append(self)


def pipeline(window_size=8):
    return BatchPipeline(env=Meadow(), window_size=window_size)
