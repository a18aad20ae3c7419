"""SAC with the networks of the public benchmark tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from optix_bus.agents.cards.sac import SAC
from optix_bus.agents.torch.critics import actor_and_critics
from optix_bus.agents.torch.sac import TorchSACAgent
from optix_bus.agents.tunable import complete
from optix_bus.types import HyperparamSet, SpaceSpec


def make_sac(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None,
    device: str,
    seed: int | None,
) -> TorchSACAgent:
    """Three separate ReLU networks, 2 x 256 by default or convolutions for images; Adam for each role."""
    params = complete(SAC, hyperparams)
    if seed is None:
        seed = int(torch.randint(2**62, ()))
    generator = torch.Generator().manual_seed(seed)
    dim = math.prod(spaces.action.shape)
    networks = actor_and_critics(spaces, hidden_sizes, (256, 256), 2 * dim, generator=generator)
    actor, critic1, critic2 = networks

    def adam(parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=params.params["learning_rate"], fused=True)

    log_alpha = nn.Parameter(torch.tensor(params.params["log_alpha_init"]))
    return TorchSACAgent(
        actor,
        critic1,
        critic2,
        dim,
        adam([*actor.parameters()]),
        adam([*critic1.parameters(), *critic2.parameters()]),
        adam([log_alpha]),
        params,
        device,
        spaces=spaces,
        seed=seed,
    )
