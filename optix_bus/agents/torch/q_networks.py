"""Building networks of action values, and checking those that users bring."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn

from optix_bus.agents.torch.networks import OneHot, check_network, output_size
from optix_bus.errors import Unsuitable
from optix_bus.types import SpaceSpec


def build_q_network(
    inputs: int,
    hidden_sizes: Sequence[int],
    outputs: int,
    *,
    generator: torch.Generator,
    one_hot: bool = False,
) -> nn.Sequential:
    """A network of rectified linear units whose weights and biases are uniform within 1 / sqrt(fan in)."""
    layers: list[nn.Module] = [OneHot(inputs)] if one_hot else []
    for fan_in, fan_out in itertools.pairwise([inputs, *hidden_sizes, outputs]):
        # Without its own initialisation: that would draw from the global generator.
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
        bound = 1.0 / math.sqrt(fan_in)
        for tensor in (linear.weight, linear.bias):
            nn.init.uniform_(tensor, -bound, bound, generator=generator)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def check_q_network(network: nn.Module, n_actions: int, spaces: SpaceSpec | None) -> None:
    """Raise `Unsuitable` unless the network has a value for each action, as far as that can be known."""
    found = output_size(network)
    if found is not None and found != n_actions:
        raise Unsuitable(f"the q_network has {found} outputs, expected {n_actions}, one for each action")
    if spaces is None:
        return
    if spaces.action.kind != "discrete" or spaces.action.n != n_actions:
        raise Unsuitable(
            f"{spaces.environment} has {spaces.action.n or ''} {spaces.action.kind} actions, "
            f"but n_actions is {n_actions}"
        )
    parameter = next(network.parameters())
    example = torch.zeros((2, *spaces.observation.shape), device=parameter.device)
    check_network("q_network", network, example, n_actions, spaces.environment)
