"""Acting from a live module: in NumPy where the network is known, in PyTorch where it is not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import xxhash
from torch import nn

from optix_bus.agents.acting.live import LiveActing
from optix_bus.agents.torch.arrays import module_arrays
from optix_bus.agents.torch.images import describe_images
from optix_bus.agents.torch.networks import describe, floating_type
from optix_bus.rl import ObsNormalizer

Array = np.ndarray[Any, Any]


class TorchForward:
    """Outputs ``[B, out]`` of a module that NumPy cannot run."""

    def __init__(self, actor: nn.Module, normalizer: ObsNormalizer | None, device: torch.device) -> None:
        self._actor = actor
        self._normalizer = normalizer
        self._device = device

    def __call__(self, observations: Array) -> tuple[Array, int]:
        """Outputs, a fresh array, and their number of rows."""
        scaled = observations if self._normalizer is None else self._normalizer.normalize(observations)
        x = torch.from_numpy(np.array(scaled, np.float32)).to(self._device, floating_type(self._actor))
        training = self._actor.training
        self._actor.eval()
        with torch.no_grad():
            outputs = self._actor(x).float().cpu().numpy().copy()
        self._actor.train(training)
        return outputs, len(outputs)


class TorchActing(LiveActing):
    """Acting from a live module.

    Args:
        actor: maps observations to what the head makes actions of, e.g. logits.
        normalizer: of observations.
        device: where the actor lives.
        rng: the acting stream.
        head, prefix: see `LiveActing`.
    """

    def __init__(
        self,
        actor: nn.Module,
        normalizer: ObsNormalizer | None,
        device: torch.device,
        rng: np.random.Generator,
        head: Callable[[], Mapping[str, Any]],
        prefix: str = "actor",
    ) -> None:
        super().__init__(normalizer, rng, head, prefix)
        self.forget(actor, device)

    def forget(self, actor: nn.Module, device: torch.device) -> None:
        """Look at this actor anew before the next action."""
        self._actor = actor
        self._device = device
        self._layers = describe(actor, self._prefix) or describe_images(actor, self._prefix)
        self._parameters = list(actor.parameters())
        self._views: list[Array] = []
        self._viewed: tuple[int, ...] = ()
        self._policy = None

    def _arrays(self) -> dict[str, Array]:
        return module_arrays(self._prefix, self._actor)

    def _forward(self, normalizer: ObsNormalizer | None, *, share: bool) -> TorchForward:
        return TorchForward(self._actor if share else copy.deepcopy(self._actor), normalizer, self._device)

    def _weights_mark(self) -> tuple[Any, ...]:
        """On the CPU the weights themselves are hashed, 2 µs for 2x64: version counters miss changes through
        ``parameter.data``. Elsewhere the counters have to do.
        """
        places = tuple(p.data_ptr() for p in self._parameters)
        if self._device.type != "cpu":
            return (places, tuple(p._version for p in self._parameters))
        if not self._views or self._viewed != places:
            self._views, self._viewed = [p.detach().numpy() for p in self._parameters], places
        digests = tuple(xxhash.xxh3_64_intdigest(np.ascontiguousarray(view).data) for view in self._views)
        return (places, digests)
