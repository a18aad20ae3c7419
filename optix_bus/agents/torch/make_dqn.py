"""Deep Q-learning with the networks of the public benchmark tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from optix_bus.agents.cards.dqn import DQN
from optix_bus.agents.images import is_image
from optix_bus.agents.torch.dqn import TorchDQNAgent
from optix_bus.agents.torch.images import images_network
from optix_bus.agents.torch.q_networks import build_q_network
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
) -> TorchDQNAgent:
    """Two hidden layers of 256 rectified linear units by default, or convolutions for images, and Adam."""
    params = complete(DQN, hyperparams)
    seed = int(torch.randint(2**62, ())) if seed is None else seed
    generator = torch.Generator().manual_seed(seed)
    if is_image(spaces.observation):
        network = images_network(spaces, hidden_sizes, spaces.action.n, output_gain=1.0, generator=generator)
    else:
        one_hot = spaces.observation.kind == "discrete"
        network = build_q_network(
            spaces.observation.n if one_hot else math.prod(spaces.observation.shape),
            HIDDEN if hidden_sizes is None else hidden_sizes,
            spaces.action.n,
            generator=generator,
            one_hot=one_hot,
        )
    optimizer = torch.optim.Adam(network.parameters(), lr=params.params["learning_rate"], fused=True)
    return TorchDQNAgent(network, spaces.action.n, optimizer, params, device, seed=seed, spaces=spaces)
