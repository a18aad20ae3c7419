"""PPO with the networks of the public benchmark tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from optix_bus.agents.cards.gaussian_ppo import GAUSSIAN_PPO
from optix_bus.agents.cards.ppo import PPO
from optix_bus.agents.heads import head_for
from optix_bus.agents.images import check_sizes, is_image
from optix_bus.agents.tensorflow.adam import PaperAdam
from optix_bus.agents.tensorflow.device import resolve_device
from optix_bus.agents.tensorflow.gaussian_ppo import TFGaussianPPOAgent
from optix_bus.agents.tensorflow.images import build_cnn
from optix_bus.agents.tensorflow.networks import AppendConstant, build_mlp
from optix_bus.agents.tensorflow.ppo import TFPPOAgent
from optix_bus.agents.tunable import complete
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import HyperparamSet, SpaceSpec


def make_ppo(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None,
    device: str,
    seed: int | None,
) -> TFPPOAgent:
    """Separate tanh networks; orthogonal weights with gain sqrt 2, .01 at the policy and 1 at the value."""
    params = complete(PPO, hyperparams)
    seed = draw_seed(seed)
    outputs = head_for(spaces.action).outputs
    assert outputs is not None
    with tf.device(resolve_device(device)):
        actor, critic = policy_and_value(spaces, hidden_sizes, outputs, seed)
        return TFPPOAgent(actor, critic, _optimizer(params), params, seed=seed, spaces=spaces)


def make_gaussian_ppo(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None,
    device: str,
    seed: int | None,
) -> TFGaussianPPOAgent:
    """As `make_ppo`, with normalised observations and rewards; the standard deviation is a parameter."""
    params = complete(GAUSSIAN_PPO, hyperparams)
    seed = draw_seed(seed)
    dim = math.prod(spaces.action.shape)
    plain = spaces.observation.kind == "discrete" or is_image(spaces.observation)
    normalizer = None if plain else ObsNormalizer(spaces.observation.shape)
    with tf.device(resolve_device(device)):
        # Half of the reach of an action: Andrychowicz et al. 2021, arXiv 2006.05990, section 3.2.
        log_std = (math.log(0.5),) * dim
        actor, critic = policy_and_value(spaces, hidden_sizes, dim, seed, log_std)
        return TFGaussianPPOAgent(
            actor,
            critic,
            _optimizer(params),
            dim,
            params,
            RewardNormalizer(params.params["gamma"]),
            normalizer,
            seed=seed,
            spaces=spaces,
        )


def draw_seed(seed: int | None) -> int:
    """The seed, or one from TensorFlow's generator."""
    return int(tf.random.uniform([], maxval=2**62, dtype=tf.int64)) if seed is None else seed


def policy_and_value(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    outputs: int,
    seed: int,
    log_std: Sequence[float] = (),
) -> tuple[Any, Any]:
    """A policy and a value network, 2 x 64 by default or convolutions for images.

    ``log_std``, if there is one, stands behind what the policy gives.
    """
    # A child of the seed: the seed itself draws the actions.
    rng = np.random.default_rng([seed, 1])
    wanted = ((outputs, 0.01, log_std), (1, 1.0, ()))
    if is_image(spaces.observation):
        check_sizes(spaces, hidden_sizes)
        policy, value = (
            build_cnn(
                spaces.observation.shape,
                size,
                output_gain=gain,
                rng=rng,
                behind=[AppendConstant(extra)] if extra else [],
            )
            for size, gain, extra in wanted
        )
        return policy, value
    sizes = (64, 64) if hidden_sizes is None else hidden_sizes
    one_hot = spaces.observation.kind == "discrete"
    inputs = spaces.observation.n if one_hot else math.prod(spaces.observation.shape)
    actor, critic = (
        build_mlp(inputs, sizes, size, output_gain=gain, rng=rng, one_hot=one_hot, log_std=extra)
        for size, gain, extra in wanted
    )
    return actor, critic


def _optimizer(params: HyperparamSet) -> PaperAdam:
    return PaperAdam(params.params["learning_rate"], epsilon=1e-5)
