"""A2C with the networks of the public benchmark tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from optix_bus.agents.cards.a2c import A2C
from optix_bus.agents.heads import Gaussian, head_for
from optix_bus.agents.torch.generic import TorchAgent
from optix_bus.agents.torch.networks import AppendConstant, build_mlp
from optix_bus.agents.tunable import complete
from optix_bus.types import HyperparamSet, SpaceSpec


def make_a2c(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None,
    device: str,
    seed: int | None,
) -> TorchAgent:
    """Separate tanh networks, 2 x 64 by default, and RMSProp; a standard deviation is a parameter."""
    params = complete(A2C, hyperparams)
    if seed is None:
        seed = int(torch.randint(2**62, ()))
    generator = torch.Generator().manual_seed(seed)
    sizes = (64, 64) if hidden_sizes is None else hidden_sizes
    head, one_hot = head_for(spaces.action), spaces.observation.kind == "discrete"
    inputs = spaces.observation.n if one_hot else math.prod(spaces.observation.shape)
    outputs = head.dim if isinstance(head, Gaussian) else int(head.outputs or 0)
    model, critic = (
        build_mlp(inputs, sizes, numbers, output_gain=gain, generator=generator, one_hot=one_hot)
        for numbers, gain in ((outputs, 0.01), (1, 1.0))
    )
    if isinstance(head, Gaussian):
        model.append(AppendConstant(torch.full((head.dim,), math.log(0.5))))
    optimizer = torch.optim.RMSprop(
        [*model.parameters(), *critic.parameters()],
        lr=params.params["learning_rate"],
        alpha=0.99,
        eps=1e-5,
    )
    return TorchAgent(model, optimizer, params, device=device, critic=critic, seed=seed, spaces=spaces)
