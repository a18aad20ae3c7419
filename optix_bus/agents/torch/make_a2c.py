"""A2C with the networks of the public benchmark tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from optix_bus.agents.cards.a2c import A2C
from optix_bus.agents.heads import Gaussian, head_for
from optix_bus.agents.torch.generic import TorchAgent
from optix_bus.agents.torch.make_ppo import policy_and_value
from optix_bus.agents.torch.networks import AppendConstant
from optix_bus.agents.tunable import complete
from optix_bus.types import HyperparamSet, SpaceSpec


def make_a2c(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None,
    device: str,
    seed: int | None,
) -> TorchAgent:
    """Networks as those of PPO, 2 x 64 by default or convolutions, and RMSProp.

    A standard deviation is a parameter.
    """
    params = complete(A2C, hyperparams)
    if seed is None:
        seed = int(torch.randint(2**62, ()))
    head = head_for(spaces.action)
    outputs = head.dim if isinstance(head, Gaussian) else int(head.outputs or 0)
    model, critic = policy_and_value(spaces, hidden_sizes, outputs, seed)
    if isinstance(head, Gaussian):
        model.append(AppendConstant(torch.full((head.dim,), math.log(0.5))))
    optimizer = torch.optim.RMSprop(
        [*model.parameters(), *critic.parameters()],
        lr=params.params["learning_rate"],
        alpha=0.99,
        eps=1e-5,
    )
    return TorchAgent(model, optimizer, params, device=device, critic=critic, seed=seed, spaces=spaces)
