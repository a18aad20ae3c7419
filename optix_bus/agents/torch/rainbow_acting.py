"""Acting from a live noisy network of distributions: in NumPy where it is Rainbow's own, or in PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from optix_bus.agents.torch.acting import TorchActing
from optix_bus.agents.torch.networks import floating_type
from optix_bus.agents.torch.noisy import noisy_layers
from optix_bus.agents.torch.rainbow_network import describe_rainbow
from optix_bus.rl import ObsNormalizer

Array = np.ndarray[Any, Any]


class TorchNoisyForward:
    """`optix_bus.agents.acting.noisy_greedy.NoisyValues` of any module; under noise, row by row."""

    def __init__(
        self,
        network: nn.Module,
        normalizer: ObsNormalizer | None,
        device: torch.device,
        support: Callable[[], Array],
        n_actions: int,
    ) -> None:
        self._network, self._normalizer, self._device = network, normalizer, device
        self._support, self._n_actions = support, n_actions
        self._noise: npt.NDArray[np.float32] | None = None
        self.noise_size = sum(layer.in_features + layer.out_features for layer in noisy_layers(network))

    def set_noise(self, noise: npt.NDArray[np.float32] | None) -> None:
        """Use this noise ``[B, noise_size]`` in the next pass, or none."""
        self._noise = noise

    def __call__(self, observations: Array) -> tuple[Array, int]:
        """Action values and their number of rows."""
        scaled = observations if self._normalizer is None else self._normalizer.normalize(observations)
        dtype = floating_type(self._network)
        x = torch.from_numpy(np.array(scaled, np.float32)).to(self._device, dtype)
        support = torch.from_numpy(self._support()).to(self._device, dtype)
        training, layers = self._network.training, noisy_layers(self._network)
        self._network.eval()
        parts = [x] if self._noise is None else list(torch.split(x, 1))
        outputs = []
        with torch.no_grad():
            for row, part in enumerate(parts):
                if self._noise is not None:
                    noise = torch.from_numpy(self._noise[row]).to(self._device, dtype)
                    sizes = [layer.in_features + layer.out_features for layer in layers]
                    for layer, own in zip(layers, torch.split(noise, sizes), strict=True):
                        layer.train()
                        layer.set_noise(own)
                logits = self._network(part).reshape(len(part), self._n_actions, -1)
                outputs.append(torch.softmax(logits, dim=2) @ support)
        self._network.train(training)
        values = torch.cat(outputs).float().cpu().numpy().copy()
        return values, len(values)


class RainbowActing(TorchActing):
    """As `TorchActing`, for networks whose outputs are logits of atoms.

    Args:
        support: gives the atoms ``[n_atoms]`` of this moment.
        n_actions: how many actions there are.
    """

    def __init__(
        self,
        actor: nn.Module,
        normalizer: ObsNormalizer | None,
        device: torch.device,
        rng: np.random.Generator,
        head: Callable[[], Mapping[str, Any]],
        prefix: str,
        support: Callable[[], Array],
        n_actions: int,
    ) -> None:
        self._support, self._n_actions = support, n_actions
        super().__init__(actor, normalizer, device, rng, head, prefix)

    @property
    def description(self) -> dict[str, Any]:
        """What `optix_bus.agents.acting.load_policy` needs to know beside the arrays."""
        description = super().description
        if self._streams is None:
            return description
        return {**description, **self._streams, "kind": "noisy_dueling"}

    def forget(self, actor: nn.Module, device: torch.device) -> None:
        """Look at this actor anew before the next action."""
        super().forget(actor, device)
        self._streams = describe_rainbow(actor, self._prefix)
        self._layers = None if self._streams is None else self._streams["layers"]

    def _forward(self, normalizer: ObsNormalizer | None, *, share: bool) -> Any:
        actor = self._actor if share else copy.deepcopy(self._actor)
        return TorchNoisyForward(actor, normalizer, self._device, self._support, self._n_actions)
