"""PPO in JAX with the networks of the public benchmark tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optix_bus.agents.heads import head_for
from optix_bus.agents.images import check_sizes, is_image
from optix_bus.agents.jax.ppo import FlaxPPOAgent
from optix_bus.types import HyperparamSet, SpaceSpec


def make_ppo(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None,
    device: str,
    seed: int | None,
) -> FlaxPPOAgent:
    """Separate networks with orthogonal weights: tanh, 2 x 64 by default, or convolutions for images."""
    if is_image(spaces.observation):
        check_sizes(spaces, hidden_sizes)
    sizes = (64, 64) if hidden_sizes is None else hidden_sizes
    shape = spaces.observation.shape
    outputs = int(head_for(spaces.action).outputs or 0)
    return FlaxPPOAgent(shape, outputs, hyperparams, sizes, seed, device=device, spaces=spaces)
