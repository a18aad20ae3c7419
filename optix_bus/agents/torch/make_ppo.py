"""PPO with the networks of the public benchmark tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from optix_bus.agents.cards.ppo import PPO
from optix_bus.agents.torch.networks import build_mlp
from optix_bus.agents.torch.ppo import TorchPPOAgent
from optix_bus.agents.tunable import complete
from optix_bus.types import HyperparamSet, SpaceSpec


def make_ppo(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None,
    device: str,
    seed: int | None,
) -> TorchPPOAgent:
    """Separate tanh networks, 2 x 64 by default; orthogonal, gain sqrt 2, .01 at the policy, 1 at the value."""
    params = complete(PPO, hyperparams)
    if seed is None:
        seed = int(torch.randint(2**62, ()))
    generator = torch.Generator().manual_seed(seed)
    sizes = (64, 64) if hidden_sizes is None else hidden_sizes
    one_hot = spaces.observation.kind == "discrete"
    inputs = spaces.observation.n if one_hot else math.prod(spaces.observation.shape)
    actor, critic = (
        build_mlp(inputs, sizes, outputs, output_gain=gain, generator=generator, one_hot=one_hot)
        for outputs, gain in ((spaces.action.n, 0.01), (1, 1.0))
    )
    parameters = [*actor.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=params.params["learning_rate"], eps=1e-5, fused=True)
    return TorchPPOAgent(actor, critic, optimizer, params, device, seed=seed, spaces=spaces)
