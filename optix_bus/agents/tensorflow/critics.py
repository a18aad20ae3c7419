"""Critics of observations and actions: of vectors in one row, and of anything else apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from optix_bus.agents.images import FEATURES, check_sizes, is_image
from optix_bus.agents.tensorflow.images import build_cnn
from optix_bus.agents.tensorflow.joined_critic import JoinedCritic
from optix_bus.agents.tensorflow.networks import OneHot, build_relu_mlp
from optix_bus.types import SpaceSpec


def beside(observations: Any, actions: Any) -> Any:
    """What a critic is called with: ``[observation | action]``, or both where observations are no vectors."""
    if len(observations.shape) == 2:
        return tf.concat([observations, actions], 1)
    return [observations, actions]


def build_critic(
    spaces: SpaceSpec, hidden_sizes: Sequence[int], dim: int, *, rng: np.random.Generator
) -> Any:
    """A ReLU network, behind convolutions where observations are images.

    Args:
        spaces: of the environment.
        hidden_sizes: of the network that sees actions; for images it has `FEATURES` units once.
        dim: numbers in an action.
        rng: draws all weights.
    """
    seen = spaces.observation
    if is_image(seen):
        behind = [keras.layers.ReLU()]
        features = build_cnn(seen.shape, FEATURES, output_gain=math.sqrt(2.0), rng=rng, behind=behind)
        return JoinedCritic(features, build_relu_mlp(FEATURES + dim, (FEATURES,), 1, rng=rng))
    if seen.kind == "discrete":
        features = keras.Sequential([keras.Input(shape=()), OneHot(seen.n)])
        return JoinedCritic(features, build_relu_mlp(seen.n + dim, hidden_sizes, 1, rng=rng))
    return build_relu_mlp(seen.shape[0] + dim, hidden_sizes, 1, rng=rng)


def build_actor(
    spaces: SpaceSpec, hidden_sizes: Sequence[int], outputs: int, *, rng: np.random.Generator
) -> Any:
    """A ReLU network, or convolutions where observations are images, whose first outputs are near 0."""
    seen = spaces.observation
    if is_image(seen):
        return build_cnn(seen.shape, outputs, output_gain=0.01, rng=rng)
    one_hot = seen.kind == "discrete"
    return build_relu_mlp(
        seen.n if one_hot else seen.shape[0], hidden_sizes, outputs, rng=rng, one_hot=one_hot
    )


def actor_and_critics(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    default: Sequence[int],
    outputs: int,
    *,
    rng: np.random.Generator,
) -> list[Any]:
    """Three separate networks.

    Args:
        spaces: of the environment.
        hidden_sizes: of all three; None takes ``default``.
        default: of vectors and discrete observations.
        outputs: numbers that the actor puts out.
        rng: draws all weights.

    Raises:
        ConfigurationError: hidden sizes were asked for, and observations are images.
    """
    if is_image(spaces.observation):
        check_sizes(spaces, hidden_sizes)
    sizes, dim = default if hidden_sizes is None else hidden_sizes, math.prod(spaces.action.shape)
    actor = build_actor(spaces, sizes, outputs, rng=rng)
    return [actor, *(build_critic(spaces, sizes, dim, rng=rng) for _ in range(2))]
