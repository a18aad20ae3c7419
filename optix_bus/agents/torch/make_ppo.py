"""PPO with the networks of the public benchmark tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from optix_bus.agents.cards.gaussian_ppo import GAUSSIAN_PPO
from optix_bus.agents.cards.ppo import PPO
from optix_bus.agents.heads import head_for
from optix_bus.agents.images import is_image
from optix_bus.agents.torch.gaussian_ppo import TorchGaussianPPOAgent
from optix_bus.agents.torch.images import images_network
from optix_bus.agents.torch.networks import AppendConstant, build_mlp
from optix_bus.agents.torch.ppo import TorchPPOAgent
from optix_bus.agents.tunable import complete
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import HyperparamSet, SpaceSpec


def make_ppo(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None,
    device: str,
    seed: int | None,
) -> TorchPPOAgent:
    """Separate tanh networks; orthogonal weights with gain sqrt 2, .01 at the policy and 1 at the value."""
    params = complete(PPO, hyperparams)
    seed = _seed(seed)
    outputs = head_for(spaces.action).outputs
    assert outputs is not None
    actor, critic = policy_and_value(spaces, hidden_sizes, outputs, seed)
    optimizer = _optimizer(params, actor, critic)
    return TorchPPOAgent(actor, critic, optimizer, params, device, seed=seed, spaces=spaces)


def make_gaussian_ppo(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None,
    device: str,
    seed: int | None,
) -> TorchGaussianPPOAgent:
    """As `make_ppo`, with normalised observations and rewards; the standard deviation is a parameter."""
    params = complete(GAUSSIAN_PPO, hyperparams)
    seed = _seed(seed)
    dim = math.prod(spaces.action.shape)
    actor, critic = policy_and_value(spaces, hidden_sizes, dim, seed)
    # Half of the reach of an action: Andrychowicz et al. 2021, https://arxiv.org/abs/2006.05990, section 3.2.
    actor.append(AppendConstant(torch.full((dim,), math.log(0.5))))
    plain = spaces.observation.kind == "discrete" or is_image(spaces.observation)
    normalizer = None if plain else ObsNormalizer(spaces.observation.shape)
    return TorchGaussianPPOAgent(
        actor,
        critic,
        _optimizer(params, actor, critic),
        dim,
        params,
        device,
        RewardNormalizer(params.params["gamma"]),
        normalizer,
        seed=seed,
        spaces=spaces,
    )


def policy_and_value(
    spaces: SpaceSpec, hidden_sizes: Sequence[int] | None, outputs: int, seed: int
) -> tuple[nn.Sequential, nn.Sequential]:
    """A policy and a value network, 2 x 64 by default or convolutions for images."""
    generator = torch.Generator().manual_seed(seed)
    if is_image(spaces.observation):
        policy, value = (
            images_network(spaces, hidden_sizes, numbers, output_gain=gain, generator=generator)
            for numbers, gain in ((outputs, 0.01), (1, 1.0))
        )
        return policy, value
    sizes = (64, 64) if hidden_sizes is None else hidden_sizes
    one_hot = spaces.observation.kind == "discrete"
    inputs = spaces.observation.n if one_hot else math.prod(spaces.observation.shape)
    actor, critic = (
        build_mlp(inputs, sizes, numbers, output_gain=gain, generator=generator, one_hot=one_hot)
        for numbers, gain in ((outputs, 0.01), (1, 1.0))
    )
    return actor, critic


def _optimizer(params: HyperparamSet, actor: nn.Module, critic: nn.Module) -> torch.optim.Adam:
    parameters = [*actor.parameters(), *critic.parameters()]
    return torch.optim.Adam(parameters, lr=params.params["learning_rate"], eps=1e-5, fused=True)


def _seed(seed: int | None) -> int:
    return int(torch.randint(2**62, ())) if seed is None else seed
