"""Acting from a live module: in NumPy where the network is known, in PyTorch where it is not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import xxhash
from torch import nn

from optix_bus.agents.acting.load import FORMAT, load_policy, make_policy
from optix_bus.agents.torch.arrays import module_arrays
from optix_bus.agents.torch.networks import describe, floating_type
from optix_bus.rl import ObsNormalizer
from optix_bus.types import NamedArrays

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


class LiveActing:
    """The acting policy of an agent, always with its present weights, also after a user has changed them.

    Args:
        actor: maps observations to what the head makes actions of, e.g. logits.
        normalizer: of observations.
        device: where the actor lives.
        rng: the acting stream.
        head: gives the part of the description that says what becomes of the outputs: its ``head``, one of
            `optix_bus.agents.acting.load.HEADS`, and what that needs, as JSON. Asked before each use.
        prefix: of the names of the actor's arrays.
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
        self._head = head
        self._prefix = prefix
        self._normalizer = normalizer
        self._rng = rng
        self._seen: tuple[Any, ...] = ()
        self._views: list[Array] = []
        self._policy: Any = None
        self.forget(actor, device)

    @property
    def description(self) -> dict[str, Any]:
        """What `optix_bus.agents.acting.load_policy` needs to know beside the arrays."""
        if self._layers is None:
            return {"format": FORMAT, "kind": "agent", **self._head()}
        normalizer = None
        if self._normalizer is not None:
            names = {key: f"obs_normalizer.{key}" for key in ("mean", "var")}
            normalizer = {**names, "clip": self._normalizer.clip}
        network = {"layers": self._layers, "normalizer": normalizer}
        return {"format": FORMAT, "kind": "mlp", **self._head(), **network}

    def policy(self) -> Any:
        """The policy of this moment (a `Policy`); keep it no longer than one call."""
        if self._policy is None or self._seen != self._mark():
            self._policy = self.snapshot(share_module=True)
            self._seen = self._mark()
        return self._policy

    def snapshot(self, share_module: bool = False) -> Any:
        """A policy with copies of the weights; it draws from the agent's stream until it is reseeded."""
        if self._layers is None:
            actor = self._actor if share_module else copy.deepcopy(self._actor)
            normalizer = self._normalizer if share_module else copy.deepcopy(self._normalizer)
            return make_policy(TorchForward(actor, normalizer, self._device), self.description, self._rng)
        arrays = module_arrays(self._prefix, self._actor)
        if self._normalizer is not None:
            arrays.update({f"obs_normalizer.{key}": array for key, array in self._normalizer.state().items()})
        return load_policy(NamedArrays(arrays, {"policy": self.description}), self._rng)

    def reseed(self, rng: np.random.Generator) -> None:
        """Act with this stream from now on."""
        self._rng = rng
        if self._policy is not None:
            self._policy.reseed(rng)

    def forget(self, actor: nn.Module, device: torch.device) -> None:
        """Look at this actor anew before the next action."""
        self._actor = actor
        self._device = device
        self._layers = describe(actor, self._prefix)
        self._parameters = list(actor.parameters())
        self._views = []
        self._policy = None

    def _mark(self) -> tuple[Any, ...]:
        """Something that differs whenever weights or statistics do.

        On the CPU the weights themselves are hashed, 2 µs for 2x64: version counters miss changes through
        ``parameter.data``. Elsewhere the counters have to do.
        """
        count = 0.0 if self._normalizer is None else self._normalizer.count
        statistics = (count, repr(self._head()))
        if self._layers is None:
            return (statistics,)
        places = tuple(p.data_ptr() for p in self._parameters)
        if self._device.type != "cpu":
            return (statistics, places, tuple(p._version for p in self._parameters))
        if not self._views or self._seen[1:2] != (places,):
            self._views = [p.detach().numpy() for p in self._parameters]
        digests = tuple(xxhash.xxh3_64_intdigest(np.ascontiguousarray(view).data) for view in self._views)
        return (statistics, places, digests)
