"""An agent whose policy is one number, travels as arrays, and climbs to where its learning rate lets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nodes.learner import LearnerNode
from optix_bus.agents.acting import load_policy
from optix_bus.interfaces import BaseAgent
from optix_bus.types import EpisodeData, HyperparamSet, NamedArrays

#: Actions of the corridor of `tests.nodes.worlds`, whose reward is the action.
_ACTIONS = 1000
_LAYERS = [{"op": "linear", "weight": "actor.0.weight", "bias": "actor.0.bias"}]
_POLICY = {"format": 1, "kind": "mlp", "head": "categorical", "layers": _LAYERS}


class Climbing(BaseAgent):
    """Where it ends is 600 times its learning rate, so that a variant may come higher than its parent."""

    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = {"learning_rate": (0.05, 0.5)}

    def __init__(self) -> None:
        self.level = 5
        self.params: dict[str, Any] = {"learning_rate": 0.1}
        self.rng = np.random.default_rng(0)

    def act(self, observation: Any) -> int:
        return self.level

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        end = round(600 * self.params["learning_rate"])
        step = max(0, end - self.level)
        self.level = (
            min(end, self.level + (step + 1) // 2 + int(self.rng.integers(3))) if step else self.level
        )
        return {"policy_loss": 0.5, "seen": float(np.sum(episode_data.rewards))}

    def get_hyperparams(self) -> HyperparamSet:
        return HyperparamSet(dict(self.params))

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        self.params = dict(hyperparams.params)

    def save_weights(self, path: str) -> None:
        Path(path).write_text(str(self.level))

    def load_weights(self, path: str) -> None:
        self.level = int(Path(path).read_text())

    def state(self) -> NamedArrays:
        bias = np.zeros(_ACTIONS, np.float32)
        bias[self.level] = 200.0
        weight = np.zeros((_ACTIONS, 2), np.float32)
        arrays = {"actor.0.weight": weight, "actor.0.bias": bias, "level": np.array([self.level])}
        return NamedArrays(arrays, {"policy": _POLICY})

    def load_state(self, state: NamedArrays) -> None:
        (self.level,) = state.arrays["level"].tolist()

    def policy(self) -> Any:
        return load_policy(self.state(), self.rng)

    def act_batch(self, observations: Any, *, deterministic: bool = False) -> Any:
        return self.policy().act_batch(observations, deterministic=deterministic)

    def reseed(self, rng: np.random.Generator) -> None:
        self.rng = rng


class OwnLearner(LearnerNode):
    """As a user may write one, who has nothing for variants."""

    for_variants: ClassVar[str] = ""
