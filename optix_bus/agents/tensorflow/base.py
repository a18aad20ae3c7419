"""What every agent in TensorFlow does alike, beyond `optix_bus.agents.learner`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from optix_bus.agents.learner import Learner
from optix_bus.agents.tensorflow.acting import TensorFlowActing
from optix_bus.agents.tensorflow.networks import check_built
from optix_bus.agents.tensorflow.parts import TrainedParts, adopt
from optix_bus.errors import ConfigurationError
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import HyperparamSet, SpaceSpec


class TensorFlowLearner(Learner):
    """A `Learner` around named Keras models and optimizers; `learn` is left to the algorithm.

    A subclass sets ``card`` and answers `_models`, `_optimizers`, `_trained_by`, `_actor_name` and, where it
    is not categorical, `_head`. After its own attributes are in place it calls `__init__`.

    Args:
        hyperparams: what differs from the card's defaults; the learning rate is by default that of the first
            optimizer.
        obs_normalizer: scales observations of acting.
        reward_normalizer: kept and moved with the state.
        seed: of acting, learning and perturbing; None takes it from TensorFlow's generator.
        spaces: lets models without weights get them.
    """

    _acting: TensorFlowActing

    def __init__(
        self,
        hyperparams: HyperparamSet | Mapping[str, Any] | None,
        obs_normalizer: ObsNormalizer | None = None,
        reward_normalizer: RewardNormalizer | None = None,
        seed: int | None = None,
        spaces: SpaceSpec | None = None,
    ) -> None:
        if keras.backend.backend() != "tensorflow":
            raise ConfigurationError(
                f"Keras computes with {keras.backend.backend()}, expected tensorflow: set KERAS_BACKEND to "
                "it, or leave it unset"
            )
        for name, model in self._models.items():
            check_built(name, model, spaces)
        self._rates = {
            name: adopt(name, optimizer, self._trained_by(name))
            for name, optimizer in self._optimizers.items()
        }
        seed = int(tf.random.uniform([], maxval=2**62, dtype=tf.int64)) if seed is None else seed
        super().__init__(hyperparams, obs_normalizer, reward_normalizer, seed)

    @property
    @abstractmethod
    def _models(self) -> Mapping[str, Any]:
        """Everything with weights, by the name that its arrays carry."""

    @abstractmethod
    def _trained_by(self, optimizer: str) -> Sequence[Any]:
        """The variables that the optimizer of this name moves."""

    @property
    def _loose(self) -> Mapping[str, Any]:
        """Variables that belong to no model, by the name of their array."""
        return {}

    @property
    def _parts(self) -> TrainedParts:
        return TrainedParts(self._models, self._optimizers, self._statistics, self._loose)

    def _make_acting(self, rng: np.random.Generator) -> TensorFlowActing:
        name = self._actor_name
        return TensorFlowActing(self._models[name], self._obs_normalizer, rng, self._head, name)

    def reset_cache(self) -> None:
        """Look at the networks again before the next action.

        Needed only after replacing networks; changes of weights are noticed.
        """
        self._acting.forget(self._models[self._actor_name])

    def _first_rate(self) -> float:
        return next(iter(self._rates.values()))

    def _apply_learning_rate(self) -> None:
        # Optimizers keep the proportions that the user gave them.
        rate, first = self._hyperparams.params["learning_rate"], self._first_rate()
        for name, optimizer in self._optimizers.items():
            optimizer.learning_rate = rate * self._rates[name] / first if first > 0.0 else rate


def trainable(*models: Any) -> list[Any]:
    """The trainable variables of models, each once."""
    found = {id(v): v for model in models for v in model.trainable_variables}
    return list(found.values())
