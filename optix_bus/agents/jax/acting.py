"""Acting from Flax weights that learn: in NumPy where the network is known, in JAX where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from optix_bus.agents.acting.live import LiveActing
from optix_bus.agents.jax.networks import describe, network_arrays
from optix_bus.agents.jax.ppo_update import JaxPPO
from optix_bus.rl import ObsNormalizer

Array = np.ndarray[Any, Any]


class FlaxForward:
    """Outputs ``[B, out]`` of an actor that NumPy cannot run, by ``outputs``."""

    def __init__(self, outputs: Callable[[Array], Array], normalizer: ObsNormalizer | None) -> None:
        self._outputs = outputs
        self._normalizer = normalizer

    def __call__(self, observations: Array) -> tuple[Array, int]:
        """Outputs, a fresh array, and their number of rows."""
        scaled = observations if self._normalizer is None else self._normalizer.normalize(observations)
        outputs = np.array(self._outputs(np.asarray(scaled, np.float32)))
        return outputs, len(outputs)


class FlaxActing(LiveActing):
    """Acting with the weights of an update.

    Args:
        way: holds the actor's weights.
        normalizer, rng, head: see `LiveActing`.
    """

    def __init__(
        self,
        way: JaxPPO,
        normalizer: ObsNormalizer | None,
        rng: np.random.Generator,
        head: Callable[[], Mapping[str, Any]],
    ) -> None:
        super().__init__(normalizer, rng, head)
        self._way = way
        self._layers = describe(way.modules["actor"], "actor")

    def forget(self) -> None:
        """Look at the weights anew before the next action."""
        self._policy = None

    def _arrays(self) -> dict[str, Array]:
        return network_arrays("actor", self._way.modules["actor"], self._way.weights["actor"])

    def _forward(self, normalizer: ObsNormalizer | None, *, share: bool) -> FlaxForward:
        if share:
            return FlaxForward(self._way.outputs, normalizer)
        weights = self._way.weights["actor"]  # JAX arrays never change
        return FlaxForward(lambda observations: self._way.outputs(observations, weights), normalizer)

    def _weights_mark(self) -> tuple[Any, ...]:
        return (self._way.changes,)
