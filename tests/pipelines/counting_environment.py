"""An environment whose observations say which episode and step they belong to, so that a wrong join shows."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np

from optix_bus.interfaces import Acting
from optix_bus.types import EpisodeData


class CountingEnvironment(gymnasium.Env[Any, Any]):
    """Observation ``[tag, episode, step]``; the reward of a step is its number, from 1 on.

    Episode ``e`` (from 0) of this object lasts ``lengths[e % len(lengths)]`` steps. Even ones terminate, odd
    ones are truncated.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, lengths: tuple[int, ...] = (3,), tag: int = 0) -> None:
        self.lengths = lengths
        self.tag = tag
        self.episode = -1
        self.at = 0
        self.seeds: list[int | None] = []
        self.taken: list[Any] = []
        self.closed = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.episode += 1
        self.at = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.taken.append(action)
        self.at += 1
        over = self.at >= self.lengths[self.episode % len(self.lengths)]
        terminated = over and self.episode % 2 == 0
        info = {"last": self.at} if over else {}
        return self._observation(), float(self.at), terminated, over and not terminated, info

    def close(self) -> None:
        self.closed += 1

    def _observation(self) -> Any:
        return np.array([self.tag, self.episode, self.at], np.float32)


class Scripted:
    """A policy that acts by a hash of the observation and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.asked: list[bool] = []
        self.seeded_with: list[float] = []

    def act_batch(self, observations: Any, *, deterministic: bool = False) -> Acting:
        self.seen.append(observations.copy())
        self.asked.append(deterministic)
        actions = (np.isfinite(observations) & (observations % 2 == 1)).sum(axis=1) % 2
        return Acting(actions, np.full(len(actions), -0.5, np.float32), observations[:, -1])

    def reseed(self, rng: np.random.Generator) -> None:
        self.seeded_with.append(float(rng.random()))


def columns(data: EpisodeData) -> list[list[dict[str, Any]]]:
    """The valid rows of each environment, as dicts."""
    observations = np.asarray(data.observations)
    single = observations.ndim == 2
    names = ("observations", "final_observations", "rewards", "terminated", "truncated", "episode_starts")
    arrays = {name: np.asarray(getattr(data, name)) for name in names}
    if single:
        arrays = {name: array[:, None] for name, array in arrays.items()}
    valid = np.ones(arrays["rewards"].shape, bool) if data.valid is None else np.asarray(data.valid)
    return [
        [
            {name: array[step, row] for name, array in arrays.items()}
            for step in range(len(valid))
            if valid[step, row]
        ]
        for row in range(valid.shape[1])
    ]


def assert_joined(rows: list[dict[str, Any]]) -> None:
    """Valid rows of one environment are real transitions, in order, none missing and none invented."""
    for row in rows:
        tag, episode, step = row["observations"].tolist()
        assert row["final_observations"].tolist() == [tag, episode, step + 1]
        assert row["rewards"] == step + 1
        assert bool(row["episode_starts"]) == (step == 0)
    for row, following in itertools.pairwise(rows):
        if row["terminated"] or row["truncated"]:
            tag, episode, _ = row["observations"].tolist()
            assert following["observations"].tolist() == [tag, episode + 1, 0]
            assert bool(row["terminated"]) == (episode % 2 == 0)
        else:
            assert following["observations"].tolist() == row["final_observations"].tolist()
