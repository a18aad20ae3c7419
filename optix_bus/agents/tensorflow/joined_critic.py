"""A critic whose observations are no vectors."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class JoinedCritic(keras.Model):  # type: ignore[misc]  # Keras has no types
    """Values ``[B, 1]`` of observations that are no vectors, and actions ``[B, dim]``, given as a pair.

    Args:
        features: observations ``[B, *obs_shape]`` to ``[B, n]``; it has its weights.
        value: ``[features | action]``, ``[B, n + dim]``, to ``[B, 1]``; so has this.
    """

    def __init__(self, features: Any, value: Any) -> None:
        super().__init__()
        self.features = features
        self.value = value
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Actions join what was made of the observations."""
        observations, actions = inputs
        return self.value(tf.concat([self.features(observations), actions], 1))
