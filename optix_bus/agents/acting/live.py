"""Acting from a network that learns: in NumPy where it is known, in its framework where it is not."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from optix_bus.agents.acting.load import FORMAT, load_policy, make_policy
from optix_bus.rl import ObsNormalizer
from optix_bus.types import NamedArrays

Array = np.ndarray[Any, Any]


class LiveActing(ABC):
    """The acting policy of an agent, always with its present weights, also after a user has changed them.

    Args:
        normalizer: of observations.
        rng: the acting stream.
        head: gives the part of the description that says what becomes of the outputs: its ``head``, one of
            `optix_bus.agents.acting.load.HEADS`, and what that needs, as JSON. Asked before each use.
        prefix: of the names of the actor's arrays.
    """

    def __init__(
        self,
        normalizer: ObsNormalizer | None,
        rng: np.random.Generator,
        head: Callable[[], Mapping[str, Any]],
        prefix: str = "actor",
    ) -> None:
        self._head = head
        self._prefix = prefix
        self._normalizer = normalizer
        self._rng = rng
        self._layers: list[dict[str, Any]] | None = None
        self._seen: tuple[Any, ...] = ()
        self._policy: Any = None
        self._steady = False

    @abstractmethod
    def _arrays(self) -> dict[str, Array]:
        """The actor's arrays by name, as the description names them."""

    @abstractmethod
    def _forward(self, normalizer: ObsNormalizer | None, *, share: bool) -> Any:
        """A forward pass in the framework, see `optix_bus.agents.acting.categorical.Logits`.

        ``share``: it may follow later changes of the weights.
        """

    @abstractmethod
    def _weights_mark(self) -> tuple[Any, ...]:
        """Something that differs whenever weights do that NumPy has copies of."""

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
        if self._policy is None or (not self._steady and self._seen != self._mark()):
            self._policy = self.snapshot(share=True)
            self._seen = self._mark()
        return self._policy

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Within it weights change only through the agent: those of others are looked for once, on entry.

        Looking for them takes as long as a small network's forward pass, and in TensorFlow five times that.
        """
        self.policy()
        before, self._steady = self._steady, True
        try:
            yield
        finally:
            self._steady = before

    def snapshot(self, share: bool = False) -> Any:
        """A policy with copies of the weights; it draws from the agent's stream until it is reseeded."""
        if self._layers is None:
            normalizer = self._normalizer if share else copy.deepcopy(self._normalizer)
            return make_policy(self._forward(normalizer, share=share), self.description, self._rng)
        arrays = self._arrays()
        if self._normalizer is not None:
            arrays.update({f"obs_normalizer.{key}": array for key, array in self._normalizer.state().items()})
        return load_policy(NamedArrays(arrays, {"policy": self.description}), self._rng)

    def reseed(self, rng: np.random.Generator) -> None:
        """Act with this stream from now on."""
        self._rng = rng
        if self._policy is not None:
            self._policy.reseed(rng)

    def _mark(self) -> tuple[Any, ...]:
        """Something that differs whenever weights, statistics or the head do."""
        count = 0.0 if self._normalizer is None else self._normalizer.count
        statistics = (count, repr(self._head()))
        return (statistics,) if self._layers is None else (statistics, *self._weights_mark())
