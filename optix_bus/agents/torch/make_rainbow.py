"""Rainbow with a small network of noisy streams."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from optix_bus.agents.cards.rainbow import RAINBOW
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
    """A trunk of 128 rectified linear units by default and streams as wide as its last layer; Adam."""
    params = complete(RAINBOW, hyperparams)
    seed = int(torch.randint(2**62, ())) if seed is None else seed
    one_hot = spaces.observation.kind == "discrete"
    inputs = spaces.observation.n if one_hot else math.prod(spaces.observation.shape)
    *front, last = hidden_sizes if hidden_sizes else HIDDEN
    network = RainbowQNetwork(
        inputs,
        spaces.action.n,
        last,
        params.params["n_atoms"],
        trunk_sizes=front,
        one_hot=one_hot,
        generator=torch.Generator().manual_seed(seed),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=params.params["learning_rate"], fused=True)
    return TorchRainbowDQNAgent(
        network, spaces.action.n, inputs, optimizer, params, device, seed=seed, spaces=spaces
    )
