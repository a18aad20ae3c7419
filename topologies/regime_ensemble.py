"""Three specialists for a stream that changes its regime under way, and the ensemble of them.

`regime_ensemble.yaml` names both, ``regime_ensemble:ShiftingStream-v0`` and
``regime_ensemble:RegimeEnsemble``. An action is a position, a reward what it gains from the next change of
the stream. Nobody says in which regime the stream is: each specialist is weighed by what it would have gained
lately, and learns where it is the best.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from optix_bus import CheckpointRegistry, EnsembleAgent, PolicyManager
from optix_bus.evolution.weights import score_weights
from optix_bus.interfaces import BaseAgent
from optix_bus.types import EpisodeData, HyperparamSet

#: Changes that are seen, and how many of the newest a forecast is made from.
SEEN, ORDER = 20, 2
#: What holding a whole position for one step costs.
COST = 0.1
#: By regime: how much of a change carries over to the next, and the standard deviation of what is new.
REGIMES = {"trending": (0.6, 1.0), "ranging": (-0.6, 1.0), "volatile": (0.0, 3.0)}


class ShiftingStream(gym.Env[Any, Any]):
    """``x_t = a x_{t-1} + s noise``, where (a, s) are those of a hidden regime that changes now and then.

    An observation is the last 20 changes, oldest first; an action the position in [-1, 1]; the reward
    ``position x_{t+1} - 0.1 |position|``. In a volatile regime only a position of zero loses nothing.

    Args:
        regimes: which there are; see `REGIMES`.
        mean_stay: steps for which a regime stays, on average.
        length: steps of an episode.
    """

    def __init__(
        self, regimes: tuple[str, ...] = tuple(REGIMES), mean_stay: float = 60.0, length: int = 300
    ) -> None:
        self.regimes = tuple(regimes)
        self.mean_stay = mean_stay
        self.length = length
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (SEEN,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begin in any regime, with a past that is all of it."""
        super().reset(seed=seed)
        self.regime = str(self.np_random.choice(self.regimes))
        self._changes = [0.0]
        for _ in range(2 * SEEN):
            self._changes.append(self._next())
        self._steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """The stream goes on, whatever the position."""
        position = float(np.clip(np.asarray(action, float).reshape(()), -1.0, 1.0))
        if len(self.regimes) > 1 and self.np_random.random() < 1.0 / self.mean_stay:
            self.regime = str(self.np_random.choice([each for each in self.regimes if each != self.regime]))
        self._changes.append(self._next())
        self._steps += 1
        reward = position * self._changes[-1] - COST * abs(position)
        return self._observe(), reward, False, self._steps >= self.length, {"regime": self.regime}

    def _next(self) -> float:
        carried, spread = REGIMES[self.regime]
        return float(carried * self._changes[-1] + spread * self.np_random.standard_normal())

    def _observe(self) -> Any:
        return np.array(self._changes[-SEEN:], np.float32)


class Specialist(BaseAgent):
    """A position from a linear forecast of the next change; recursive least squares with forgetting.

    Args:
        start: what of the last change it expects to carry over before it has seen anything.
        forgetting: weight of the step before the newest; 1 never forgets.
        gain: position for a forecast of 1.
    """

    def __init__(self, start: float, forgetting: float = 0.999, gain: float = 1.0) -> None:
        self.params: dict[str, Any] = {"forgetting": forgetting, "gain": gain}
        self.weights = np.zeros(ORDER)
        self.weights[-1] = start
        self.spread = 0.05 * np.eye(ORDER)  # it trusts its start at first

    def positions(self, recent: Any) -> Any:
        """``[...]`` positions for the newest changes ``[..., 2]``."""
        return np.clip(self.params["gain"] * (recent @ self.weights), -1.0, 1.0)

    def act(self, observation: Any) -> Any:
        """The position, ``[1]``."""
        return self.positions(np.asarray(observation, float)[None, -ORDER:]).astype(np.float32)

    def follow(self, recent: Any, came: float) -> float:
        """Learn from one change that came; returns the error of the forecast."""
        ahead = self.spread @ recent
        gain = ahead / (self.params["forgetting"] + recent @ ahead)
        error = float(came - recent @ self.weights)
        self.weights = self.weights + gain * error
        self.spread = (self.spread - np.outer(gain, ahead)) / self.params["forgetting"]
        self.spread = (self.spread + self.spread.T) / 2.0  # rounding must not make it lopsided
        return error

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """From every step of a window."""
        seen, came = _steps(episode_data)
        sizes = seen.std(axis=1)
        scaled = zip(seen / sizes[:, None], came / sizes, strict=True)
        errors = [self.follow(row[-ORDER:], change) for row, change in scaled]
        return {"squared_error": float(np.mean(np.square(errors)))}

    def get_hyperparams(self) -> HyperparamSet:
        """How fast it forgets, and how bold it is."""
        return HyperparamSet(dict(self.params))

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Take other values into force."""
        self.params = {**self.params, **hyperparams.params}

    def save_weights(self, path: str) -> None:
        """One JSON file, which keeps every digit."""
        Path(path).write_text(json.dumps({"weights": self.weights.tolist(), "spread": self.spread.tolist()}))

    def load_weights(self, path: str) -> None:
        """What `save_weights` wrote."""
        saved = json.loads(Path(path).read_text())
        self.weights, self.spread = np.array(saved["weights"]), np.array(saved["spread"])


class RegimeEnsemble(BaseAgent):
    """Three specialists in an `EnsembleAgent`, weighed anew before each step.

    What a position would have gained does not depend on the position that was taken, so an observation holds
    what each specialist would have scored over the changes in it. Those scores weigh the members, and say who
    learns from a step: the one that did best before it.

    Args:
        starts: what each specialist expects to carry over at first.
        forgetting, gain: of all of them.
    """

    default_param_bounds = {"forgetting": (0.99, 1.0), "gain": (0.3, 3.0)}  # noqa: RUF012 - as users write it

    def __init__(
        self, starts: tuple[float, ...] = (0.3, -0.3, 0.0), forgetting: float = 0.999, gain: float = 1.0
    ) -> None:
        # The loop saves whole ensembles; in this folder nothing is ever written.
        self.manager = PolicyManager(CheckpointRegistry("regime_ensemble_members"))
        for start in starts:
            self.manager.add_agent(Specialist(start, forgetting, gain))
        self.ensemble = EnsembleAgent(self.manager, primary_agent=self.members[0])

    @property
    def members(self) -> list[Specialist]:
        """The specialists."""
        return self.manager.agents

    def rolling_scores(self, observations: Any) -> Any:
        """``[B, members]`` what each would have gained a step, over the changes in ``[B, 20]``."""
        changes = np.asarray(observations, float)
        recent = np.lib.stride_tricks.sliding_window_view(changes[:, :-1], ORDER, axis=1)
        positions = np.stack([member.positions(recent) for member in self.members], axis=1)
        return (positions * changes[:, None, ORDER:] - COST * np.abs(positions)).mean(axis=2)

    def act(self, observation: Any) -> Any:
        """The members' positions, averaged by what they would have gained lately; ``[1]``."""
        scores = self.rolling_scores(np.asarray(observation)[None])[0]
        self.manager.update_weights(dict(enumerate(scores.tolist())))
        return self.ensemble.act(observation)

    def act_batch(self, observations: Any) -> Any:
        """The same for ``[B, 20]`` at once, each with weights of its own: ``[B, 1]``."""
        newest = np.asarray(observations, float)[:, -ORDER:]
        positions = np.stack([member.positions(newest) for member in self.members], axis=1)
        weights = np.array([score_weights(row) for row in self.rolling_scores(observations).tolist()])
        return ((weights * positions).sum(axis=1) / weights.sum(axis=1))[:, None].astype(np.float32)

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Each step teaches the member that did best before it, as the members were before the window."""
        members = self.members
        seen, came = _steps(episode_data)
        best = self.rolling_scores(seen).argmax(axis=1)
        # By the size of what is seen: a step of a volatile stream is no better evidence than another.
        sizes = seen.std(axis=1)
        errors = [
            members[number].follow(row[-ORDER:] / size, change / size)
            for number, row, change, size in zip(best.tolist(), seen, came, sizes, strict=True)
        ]
        taught = np.bincount(best, minlength=len(members)).tolist()
        return {
            "squared_error": float(np.mean(np.square(errors))),
            **{f"steps_of_member_{number}": float(count) for number, count in enumerate(taught)},
        }

    def get_hyperparams(self) -> HyperparamSet:
        """Those that all of them share."""
        return self.members[0].get_hyperparams()

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Into force in all of them."""
        for member in self.members:
            member.set_hyperparams(hyperparams)

    def save_weights(self, path: str) -> None:
        """A folder with a file for each."""
        Path(path).mkdir()
        for number, member in enumerate(self.members):
            member.save_weights(str(Path(path) / f"{number}.json"))

    def load_weights(self, path: str) -> None:
        """What `save_weights` wrote."""
        for number, member in enumerate(self.members):
            member.load_weights(str(Path(path) / f"{number}.json"))


def _steps(episode_data: EpisodeData) -> tuple[Any, Any]:
    """Observations ``[N, 20]`` and the change that came after each, of real transitions only."""
    seen = np.asarray(episode_data.observations, float).reshape(-1, SEEN)
    came = np.asarray(episode_data.final_observations, float).reshape(seen.shape)[:, -1]
    if episode_data.valid is None:
        return seen, came
    real = np.asarray(episode_data.valid).reshape(-1)
    return seen[real], came[real]


gym.register("ShiftingStream-v0", entry_point=ShiftingStream)
