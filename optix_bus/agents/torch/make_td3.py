"""TD3 with the networks of the public benchmark tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from optix_bus.agents.cards.td3 import TD3
from optix_bus.agents.torch.critics import actor_and_critics
from optix_bus.agents.torch.td3 import TorchTD3Agent
from optix_bus.agents.tunable import complete
from optix_bus.types import HyperparamSet, SpaceSpec


def make_td3(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None,
    device: str,
    seed: int | None,
) -> TorchTD3Agent:
    """Three separate ReLU networks, 400 x 300 by default or convolutions for images; Adam for each role."""
    params = complete(TD3, hyperparams)
    if seed is None:
        seed = int(torch.randint(2**62, ()))
    generator = torch.Generator().manual_seed(seed)
    dim = math.prod(spaces.action.shape)
    networks = actor_and_critics(spaces, hidden_sizes, (400, 300), dim, generator=generator)
    actor, critic1, critic2 = networks

    def adam(parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=params.params["learning_rate"], fused=True)

    return TorchTD3Agent(
        actor,
        critic1,
        critic2,
        dim,
        adam([*actor.parameters()]),
        adam([*critic1.parameters(), *critic2.parameters()]),
        params,
        device,
        spaces=spaces,
        seed=seed,
    )
