"""Recurrent PPO with small networks: one memory, and a head each for policy and value."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from optix_bus.agents.cards.recurrent_ppo import RECURRENT_PPO
from optix_bus.agents.images import UNITS, is_image
from optix_bus.agents.torch.images import build_encoder
from optix_bus.agents.torch.networks import build_mlp
from optix_bus.agents.torch.recurrent_ppo import TorchRecurrentPPOAgent
from optix_bus.agents.tunable import complete
from optix_bus.errors import ConfigurationError
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import HyperparamSet, SpaceSpec

_KINDS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


def make_recurrent_ppo(
    spaces: SpaceSpec,
    hidden_sizes: Sequence[int] | None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None,
    device: str,
    seed: int | None,
    rnn: str = "gru",
) -> TorchRecurrentPPOAgent:
    """A memory of ``hidden_sizes[0]`` units (64), and heads of the other sizes (64).

    Images pass the convolutions and the 512 rectified units of Mnih et al. 2015 before the memory.

    Weights are orthogonal, gate by gate in the memory; an LSTM begins with open forget gates (bias 1; Gers et
    al. 2000, https://doi.org/10.1162/089976600300015015).

    Raises:
        ConfigurationError: ``rnn`` is neither ``gru`` nor ``lstm``.
    """
    if rnn not in _KINDS:
        raise ConfigurationError(f"found rnn {rnn!r}, expected one of {', '.join(_KINDS)}")
    params = complete(RECURRENT_PPO, hyperparams)
    if seed is None:
        seed = int(torch.randint(2**62, ()))
    generator = torch.Generator().manual_seed(seed)
    seen = spaces.observation
    inputs = seen.n if seen.kind == "discrete" else math.prod(seen.shape)
    encoder: nn.Sequential | None = None
    if is_image(seen):
        encoder, inputs = build_encoder(seen.shape, generator=generator), UNITS
    units, *above = (64, 64) if hidden_sizes is None else hidden_sizes
    memory = _memory(_KINDS[rnn], inputs, units, generator)
    actor_head, critic_head = (
        build_mlp(units, above, outputs, output_gain=gain, generator=generator)
        for outputs, gain in ((spaces.action.n, 0.01), (1, 1.0))
    )
    modules = [memory, actor_head, critic_head, *([] if encoder is None else [encoder])]
    parameters = list(itertools.chain(*(module.parameters() for module in modules)))
    optimizer = torch.optim.Adam(parameters, lr=params.params["learning_rate"], eps=1e-5, fused=True)
    # A memory tells small numbers apart badly: how far a pole falls in one step is a hundredth of a radian.
    normalizer = ObsNormalizer(seen.shape) if seen.kind == "box" and encoder is None else None
    return TorchRecurrentPPOAgent(
        memory,
        actor_head,
        critic_head,
        optimizer,
        params,
        device,
        reward_normalizer=RewardNormalizer(params.params["gamma"]),
        obs_normalizer=normalizer,
        seed=seed,
        spaces=spaces,
        encoder=encoder,
    )


def _memory(
    kind: type[nn.GRU] | type[nn.LSTM], inputs: int, units: int, generator: torch.Generator
) -> nn.GRU | nn.LSTM:
    # Without its own initialisation: that would draw from the global generator.
    memory: nn.GRU | nn.LSTM = kind(inputs, units, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in memory.named_parameters():
            if name.startswith("weight"):
                for gate in torch.split(parameter, units):
                    nn.init.orthogonal_(gate, 1.0, generator=generator)
            else:
                nn.init.zeros_(parameter)
                if kind is nn.LSTM and name.startswith("bias_ih"):
                    parameter[units : 2 * units] = 1.0
    return memory
