"""Agents: cards on paper, acting in NumPy, learning in a framework. Loaded lazily: no framework by itself."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "CategoricalPolicy": "optix_bus.agents.acting",
    "FlaxPPOAgent": "optix_bus.agents.jax.ppo",
    "NoisyLinear": "optix_bus.agents.torch.noisy",
    "RainbowQNetwork": "optix_bus.agents.torch.rainbow_network",
    "TorchAgent": "optix_bus.agents.torch.generic",
    "TorchDQNAgent": "optix_bus.agents.torch.dqn",
    "TorchRainbowDQNAgent": "optix_bus.agents.torch.rainbow",
    "TFAgent": "optix_bus.agents.tensorflow.generic",
    "TFDQNAgent": "optix_bus.agents.tensorflow.dqn",
    "TFGaussianPPOAgent": "optix_bus.agents.tensorflow.gaussian_ppo",
    "TFPPOAgent": "optix_bus.agents.tensorflow.ppo",
    "TFSACAgent": "optix_bus.agents.tensorflow.sac",
    "TFTD3Agent": "optix_bus.agents.tensorflow.td3",
    "TFTDDAgent": "optix_bus.agents.tensorflow.td3",
    "TorchGaussianPPOAgent": "optix_bus.agents.torch.gaussian_ppo",
    "TorchPPOAgent": "optix_bus.agents.torch.ppo",
    "TorchRecurrentPPOAgent": "optix_bus.agents.torch.recurrent_ppo",
    "TorchSACAgent": "optix_bus.agents.torch.sac",
    "TorchTD3Agent": "optix_bus.agents.torch.td3",
    "algorithms": "optix_bus.agents.cards",
    "card": "optix_bus.agents.cards",
    "load_policy": "optix_bus.agents.acting",
    "make_agent": "optix_bus.agents.factory",
    "space_spec": "optix_bus.agents.spaces",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
