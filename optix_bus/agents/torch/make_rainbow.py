"""Rainbow with a small network of noisy streams, or with that of the paper for images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from optix_bus.agents.cards.rainbow import RAINBOW
from optix_bus.agents.images import UNITS, check_sizes, flat_size, is_image
from optix_bus.agents.torch.images import build_convolutions
from optix_bus.agents.torch.rainbow import TorchRainbowDQNAgent
from optix_bus.agents.torch.rainbow_network import RainbowQNetwork
from optix_bus.agents.tunable import complete
from optix_bus.types import HyperparamSet, SpaceSpec

#: Units of the trunk; its last number is also that of the streams.
HIDDEN = (128,)


def make_rainbow(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None,
    device: str,
    seed: int | None,
) -> TorchRainbowDQNAgent:
    """A trunk of 128 rectified linear units by default and streams as wide as its last layer; Adam.

    For images the trunk are the convolutions alone, and each stream has a hidden layer of 512 units.
    """
    params = complete(RAINBOW, hyperparams)
    seed = int(torch.randint(2**62, ())) if seed is None else seed
    generator = torch.Generator().manual_seed(seed)
    seen, actions, n_atoms = spaces.observation, spaces.action.n, params.params["n_atoms"]
    if is_image(seen):
        check_sizes(spaces, hidden_sizes)
        trunk = build_convolutions(seen.shape, generator=generator)
        inputs = flat_size(seen.shape)
        network = RainbowQNetwork(inputs, actions, UNITS, n_atoms, generator=generator, trunk=trunk)
    else:
        one_hot = seen.kind == "discrete"
        inputs = seen.n if one_hot else math.prod(seen.shape)
        *front, last = hidden_sizes if hidden_sizes else HIDDEN
        network = RainbowQNetwork(
            inputs, actions, last, n_atoms, trunk_sizes=front, one_hot=one_hot, generator=generator
        )
    optimizer = torch.optim.Adam(network.parameters(), lr=params.params["learning_rate"], fused=True)
    return TorchRainbowDQNAgent(network, actions, None, optimizer, params, device, seed=seed, spaces=spaces)
