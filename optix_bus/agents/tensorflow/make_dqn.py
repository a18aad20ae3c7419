"""Deep Q-learning with the networks of the public benchmark tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from optix_bus.agents.cards.dqn import DQN
from optix_bus.agents.images import check_sizes, is_image
from optix_bus.agents.tensorflow.adam import PaperAdam
from optix_bus.agents.tensorflow.device import resolve_device
from optix_bus.agents.tensorflow.dqn import TFDQNAgent
from optix_bus.agents.tensorflow.images import build_cnn
from optix_bus.agents.tensorflow.make_ppo import draw_seed
from optix_bus.agents.tensorflow.networks import build_relu_mlp
from optix_bus.agents.tunable import complete
from optix_bus.types import HyperparamSet, SpaceSpec

#: Units of the public benchmark tables.
HIDDEN = (256, 256)


def make_dqn(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None,
    device: str,
    seed: int | None,
) -> TFDQNAgent:
    """Two hidden layers of 256 rectified linear units by default, or convolutions for images, and Adam."""
    params = complete(DQN, hyperparams)
    seed = draw_seed(seed)
    shape, outputs = spaces.observation.shape, spaces.action.n
    with tf.device(resolve_device(device)):
        rng = np.random.default_rng([seed, 1])
        if is_image(spaces.observation):
            check_sizes(spaces, hidden_sizes)
            network = build_cnn(shape, outputs, output_gain=1.0, rng=rng)
        else:
            one_hot = spaces.observation.kind == "discrete"
            inputs = spaces.observation.n if one_hot else math.prod(shape)
            sizes = HIDDEN if hidden_sizes is None else hidden_sizes
            network = build_relu_mlp(inputs, sizes, outputs, rng=rng, one_hot=one_hot)
        optimizer = PaperAdam(params.params["learning_rate"], epsilon=1e-8)
        return TFDQNAgent(network, outputs, optimizer, params, seed=seed, spaces=spaces)
