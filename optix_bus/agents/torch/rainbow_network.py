"""A network of distributions of returns: a common trunk, and two streams of noisy layers.

Wang et al. 2016, Dueling network architectures, https://arxiv.org/abs/1511.06581, equation 9, on logits of
atoms as in Hessel et al. 2018, Rainbow, https://arxiv.org/abs/1710.02298, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from optix_bus.agents.torch.images import describe_front
from optix_bus.agents.torch.networks import OneHot
from optix_bus.agents.torch.noisy import NoisyLinear
from optix_bus.errors import ConfigurationError


class RainbowQNetwork(nn.Module):
    """Observations ``[B, obs_dim]`` to logits of atoms ``[B, n_actions, n_atoms]``.

    Args:
        obs_dim: numbers in an observation, or how many there are of discrete ones; those that the ``trunk``
            puts out, where there is one.
        n_actions: how many actions there are.
        hidden_size: units of the last layer of the trunk and of the hidden layer of each stream.
        n_atoms: atoms of the distribution.
        trunk_sizes: units of further layers in front.
        sigma_0: see `NoisyLinear`.
        one_hot: observations are numbers below ``obs_dim``.
        generator: of the initial weights; by default torch's own.
        trunk: observations to ``[B, obs_dim]``, instead of linear layers; the streams stand right behind it.

    Raises:
        ConfigurationError: a trunk, and ``trunk_sizes`` or ``one_hot`` of another.
    """

    def __init__(
        self,
        obs_dim: int,
        n_actions: int,
        hidden_size: int = 128,
        n_atoms: int = 51,
        *,
        trunk_sizes: Sequence[int] = (),
        sigma_0: float = 0.5,
        one_hot: bool = False,
        generator: torch.Generator | None = None,
        trunk: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.n_actions, self.n_atoms = n_actions, n_atoms
        if trunk is not None and (trunk_sizes or one_hot):
            raise ConfigurationError(
                f"found a trunk with trunk_sizes {list(trunk_sizes)} and one_hot {one_hot}, which are of the "
                "trunk that is built where none is given; leave them out"
            )
        layers: list[nn.Module] = [OneHot(obs_dim)] if one_hot else []
        width = obs_dim
        for units in () if trunk is not None else (*trunk_sizes, hidden_size):
            # Without its own initialisation: that would draw from the global generator.
            linear = nn.utils.skip_init(nn.Linear, width, units)  # type: ignore[no-untyped-call]
            bound = 1.0 / math.sqrt(width)
            for tensor in (linear.weight, linear.bias):
                nn.init.uniform_(tensor, -bound, bound, generator=generator)
            layers += [linear, nn.ReLU()]
            width = units
        self.trunk = nn.Sequential(*layers) if trunk is None else trunk
        self.value, self.advantage = (
            nn.Sequential(
                NoisyLinear(width, hidden_size, sigma_0, generator=generator),
                nn.ReLU(),
                NoisyLinear(hidden_size, outputs * n_atoms, sigma_0, generator=generator),
            )
            for outputs in (1, n_actions)
        )

    @staticmethod
    def build(obs_dim: int, n_actions: int, hidden_size: int = 128, n_atoms: int = 51) -> RainbowQNetwork:
        """The same by the name that the documents show."""
        return RainbowQNetwork(obs_dim, n_actions, hidden_size, n_atoms)

    def reset_noise(self, generator: torch.Generator | None = None) -> None:
        """Draw new noise for every layer."""
        for stream in (self.value, self.advantage):
            for layer in stream:
                if isinstance(layer, NoisyLinear):
                    layer.reset_noise(generator)

    def forward(self, x: Tensor) -> Tensor:
        """``Z(a) = V + A(a) - mean A``, on logits."""
        features = self.trunk(x)
        value = self.value(features).view(-1, 1, self.n_atoms)
        advantage = self.advantage(features).view(-1, self.n_actions, self.n_atoms)
        logits: Tensor = value + advantage - advantage.mean(dim=1, keepdim=True)
        return logits


def describe_rainbow(network: nn.Module, prefix: str) -> dict[str, Any] | None:
    """The layers for `optix_bus.agents.acting.noisy_dueling`, or None where it is another network.

    Args:
        network: exactly a `RainbowQNetwork`, with layers as they were built and without hooks.
        prefix: of its parameters' names.
    """
    if type(network) is not RainbowQNetwork or network._forward_hooks or network._forward_pre_hooks:
        return None
    trunk = describe_front(network.trunk, f"{prefix}.trunk")
    streams = {name: _stream(getattr(network, name), f"{prefix}.{name}") for name in ("value", "advantage")}
    if trunk is None or None in streams.values():
        return None
    return {"layers": trunk, "streams": streams, "n_actions": network.n_actions, "n_atoms": network.n_atoms}


def _stream(stream: nn.Module, prefix: str) -> list[str] | None:
    """Prefixes of the two noisy layers around rectified linear units."""
    layers = list(stream.children())
    kinds = [type(layer) for layer in layers]
    if type(stream) is not nn.Sequential or kinds != [NoisyLinear, nn.ReLU, NoisyLinear]:
        return None
    if any(layer._forward_hooks or layer._forward_pre_hooks for layer in (stream, *layers)):
        return None
    if any(parameter.dtype is not torch.float32 for parameter in stream.parameters()):
        return None
    return [f"{prefix}.0", f"{prefix}.2"]
