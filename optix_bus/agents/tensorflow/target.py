"""Targets: models that follow others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from optix_bus.agents.tensorflow.joined_critic import JoinedCritic
from optix_bus.agents.tensorflow.networks import read
from optix_bus.errors import ConfigurationError


def target_of(name: str, model: Any) -> Any:
    """A model of the same layers with the same weights.

    Raises:
        ConfigurationError: Keras cannot make a second one.
    """
    if isinstance(model, JoinedCritic):
        return JoinedCritic(*(target_of(name, part) for part in (model.features, model.value)))
    try:
        target = keras.models.clone_model(model)
        target.set_weights(model.get_weights())
    except (NotImplementedError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigurationError(
            f"the {name} cannot be copied for its target ({reason}); a model class of your own needs "
            "get_config, or use keras.Sequential or keras.Model(inputs, outputs)"
        ) from error
    return target


def take_over(model: Any, target: Any) -> None:
    """Give the target the weights of the model."""
    for own, following in zip(model.weights, target.weights, strict=True):
        following.assign(read(own))


def follow(pairs: Sequence[tuple[Any, Any]], tau: Any) -> None:
    """``target <- target + tau (source - target)``; what is not trained is copied."""
    for model, target in pairs:
        for own, following in zip(model.trainable_variables, target.trainable_variables, strict=True):
            following.assign_add(tau * (own.value - following.value))
        for own, following in zip(_fixed(model), _fixed(target), strict=True):
            following.assign(own.value)


def all_finite(variables: Sequence[Any]) -> bool:
    """Whether all of these variables are."""
    return all(bool(np.isfinite(np.asarray(read(v))).all()) for v in variables)


def _fixed(model: Any) -> list[Any]:
    return [v for v in model.weights if not any(v is other for other in model.trainable_variables)]
