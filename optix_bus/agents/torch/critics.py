"""Critics of observations and actions: of vectors in one row, and of anything else apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from optix_bus.agents.images import FEATURES, check_sizes, is_image
from optix_bus.agents.torch.images import build_cnn
from optix_bus.agents.torch.networks import OneHot, build_relu_mlp
from optix_bus.types import SpaceSpec


class JoinedCritic(nn.Module):
    """Values ``[B, 1]`` of observations that are no vectors, and actions ``[B, dim]``.

    Args:
        features: observations ``[B, *obs_shape]`` to ``[B, n]``.
        value: ``[features | action]``, ``[B, n + dim]``, to ``[B, 1]``.
    """

    def __init__(self, features: nn.Module, value: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.value = value

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Actions join what was made of the observations."""
        value: Tensor = self.value(torch.cat([self.features(observations), actions], 1))
        return value


def beside(observations: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
    """What a critic is called with: ``[observation | action]``, or both where observations are no vectors."""
    return (torch.cat([observations, actions], 1),) if observations.dim() == 2 else (observations, actions)


def build_critic(
    spaces: SpaceSpec, hidden_sizes: Sequence[int], dim: int, *, generator: torch.Generator
) -> nn.Module:
    """A ReLU network, behind convolutions where observations are images.

    Args:
        spaces: of the environment.
        hidden_sizes: of the network that sees actions; for images it has `FEATURES` units once.
        dim: numbers in an action.
        generator: draws all weights.
    """
    seen = spaces.observation
    if is_image(seen):
        features = build_cnn(seen.shape, FEATURES, output_gain=math.sqrt(2.0), generator=generator)
        features.append(nn.ReLU())
        return JoinedCritic(features, build_relu_mlp(FEATURES + dim, (FEATURES,), 1, generator=generator))
    if seen.kind == "discrete":
        value = build_relu_mlp(seen.n + dim, hidden_sizes, 1, generator=generator)
        return JoinedCritic(OneHot(seen.n), value)
    return build_relu_mlp(seen.shape[0] + dim, hidden_sizes, 1, generator=generator)


def build_actor(
    spaces: SpaceSpec, hidden_sizes: Sequence[int], outputs: int, *, generator: torch.Generator
) -> nn.Sequential:
    """A ReLU network, or convolutions where observations are images, whose first outputs are near 0."""
    seen = spaces.observation
    if is_image(seen):
        return build_cnn(seen.shape, outputs, output_gain=0.01, generator=generator)
    one_hot = seen.kind == "discrete"
    inputs = seen.n if one_hot else seen.shape[0]
    return build_relu_mlp(inputs, hidden_sizes, outputs, generator=generator, one_hot=one_hot)


def actor_and_critics(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    default: Sequence[int],
    outputs: int,
    *,
    generator: torch.Generator,
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Three separate networks.

    Args:
        spaces: of the environment.
        hidden_sizes: of all three; None takes ``default``.
        default: of vectors and discrete observations.
        outputs: numbers that the actor puts out.
        generator: draws all weights.

    Raises:
        ConfigurationError: hidden sizes were asked for, and observations are images.
    """
    if is_image(spaces.observation):
        check_sizes(spaces, hidden_sizes)
    sizes, dim = default if hidden_sizes is None else hidden_sizes, math.prod(spaces.action.shape)
    actor = build_actor(spaces, sizes, outputs, generator=generator)
    critic1, critic2 = (build_critic(spaces, sizes, dim, generator=generator) for _ in range(2))
    return actor, critic1, critic2
