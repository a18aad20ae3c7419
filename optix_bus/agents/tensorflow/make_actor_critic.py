"""SAC and TD3 with the networks of the public benchmark tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from optix_bus.agents.cards.sac import SAC
from optix_bus.agents.cards.td3 import TD3
from optix_bus.agents.tensorflow.adam import PaperAdam
from optix_bus.agents.tensorflow.critics import actor_and_critics
from optix_bus.agents.tensorflow.device import resolve_device
from optix_bus.agents.tensorflow.make_ppo import draw_seed
from optix_bus.agents.tensorflow.sac import TFSACAgent
from optix_bus.agents.tensorflow.td3 import TFTDDAgent
from optix_bus.agents.tunable import complete
from optix_bus.types import HyperparamSet, SpaceSpec


def make_sac(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None,
    device: str,
    seed: int | None,
) -> TFSACAgent:
    """Three separate ReLU networks, 2 x 256 by default or convolutions for images; Adam for each role."""
    params, seed = complete(SAC, hyperparams), draw_seed(seed)
    dim = math.prod(spaces.action.shape)
    with tf.device(resolve_device(device)):
        rng = np.random.default_rng([seed, 1])
        actor, critic1, critic2 = actor_and_critics(spaces, hidden_sizes, (256, 256), 2 * dim, rng=rng)
        roles = {f"{role}_optimizer": _adam(params) for role in ("actor", "critic", "alpha")}
        options: dict[str, Any] = {"hyperparams": params, "spaces": spaces, "seed": seed, **roles}
        return TFSACAgent(actor, critic1, critic2, dim, **options)


def make_td3(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None,
    device: str,
    seed: int | None,
) -> TFTDDAgent:
    """Three separate ReLU networks, 400 x 300 by default or convolutions for images; Adam for each role."""
    params, seed = complete(TD3, hyperparams), draw_seed(seed)
    dim = math.prod(spaces.action.shape)
    with tf.device(resolve_device(device)):
        rng = np.random.default_rng([seed, 1])
        actor, critic1, critic2 = actor_and_critics(spaces, hidden_sizes, (400, 300), dim, rng=rng)
        roles = {f"{role}_optimizer": _adam(params) for role in ("actor", "critic")}
        options: dict[str, Any] = {"hyperparams": params, "spaces": spaces, "seed": seed, **roles}
        return TFTDDAgent(actor, critic1, critic2, dim, **options)


def _adam(params: HyperparamSet) -> PaperAdam:
    return PaperAdam(params.params["learning_rate"], epsilon=1e-8)
