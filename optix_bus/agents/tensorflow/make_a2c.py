"""A2C with the networks of the public benchmark tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from optix_bus.agents.cards.a2c import A2C
from optix_bus.agents.heads import Gaussian, head_for
from optix_bus.agents.tensorflow.device import resolve_device
from optix_bus.agents.tensorflow.generic import TFAgent
from optix_bus.agents.tensorflow.make_ppo import draw_seed, policy_and_value
from optix_bus.agents.tensorflow.rmsprop import PlainRMSprop
from optix_bus.agents.tunable import complete
from optix_bus.types import HyperparamSet, SpaceSpec


def make_a2c(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None,
    device: str,
    seed: int | None,
) -> TFAgent:
    """Networks as those of PPO, 2 x 64 by default or convolutions, and RMSProp.

    A standard deviation is a parameter.
    """
    params, seed = complete(A2C, hyperparams), draw_seed(seed)
    head = head_for(spaces.action)
    outputs, log_std = int(head.outputs or 0), tuple[float, ...]()
    if isinstance(head, Gaussian):
        outputs, log_std = head.dim, (math.log(0.5),) * head.dim
    with tf.device(resolve_device(device)):
        model, critic = policy_and_value(spaces, hidden_sizes, outputs, seed, log_std)
        optimizer = PlainRMSprop(params.params["learning_rate"], rho=0.99, epsilon=1e-5)
        return TFAgent(model, optimizer, params, critic=critic, seed=seed, spaces=spaces)
