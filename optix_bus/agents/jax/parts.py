"""Everything that learning changes in an agent in JAX, as named arrays and back: all of it or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optix_bus.agents.jax.networks import network_arrays, network_weights
from optix_bus.agents.jax.ppo_update import JaxPPO
from optix_bus.agents.learner import Statistics
from optix_bus.errors import CheckpointError

Array = np.ndarray[Any, Any]


class FlaxParts:
    """Weights and moments of an update, and normalisers by name; see `optix_bus.agents.learner.Parts`."""

    def __init__(self, way: JaxPPO, statistics: Mapping[str, Statistics]) -> None:
        self._way = way
        self._statistics = statistics

    @property
    def prefixes(self) -> tuple[str, ...]:
        """See `optix_bus.agents.learner.Parts`."""
        return tuple(f"{name}." for name in (*self._way.modules, *self._statistics))

    def arrays(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Copies of all arrays. Moments are named by their path in the state of the optimizer."""
        arrays: dict[str, Array] = {}
        for name, module in self._way.modules.items():
            arrays.update(network_arrays(name, module, self._way.weights[name]))
        for name, statistics in self._statistics.items():
            arrays.update({f"{name}.{key}": np.array(array) for key, array in statistics.state().items()})
        moments = {name: np.array(leaf) for name, leaf in _named(self._way.moments)}
        arrays.update(moments)
        return arrays, {"optimizer": {"arrays": sorted(moments)}}

    def load(self, arrays: Mapping[str, Array], descriptions: Mapping[str, Any] | None) -> None:
        """Put arrays into force; without the descriptions of the optimizers their moments start anew.

        Raises:
            CheckpointError: something is missing or has another shape; nothing has changed then.
        """
        weights = {
            name: network_weights(name, module, self._way.weights[name], arrays)
            for name, module in self._way.modules.items()
        }
        moments = None if descriptions is None else self._saved_moments(arrays, descriptions)
        before = {name: statistics.state() for name, statistics in self._statistics.items()}
        try:
            for name, statistics in self._statistics.items():
                statistics.load_state(_under(arrays, f"{name}."))
        except (CheckpointError, KeyError, ValueError) as error:
            for name, statistics in self._statistics.items():
                statistics.load_state(before[name])
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"the saved weights do not fit this agent: {error}") from error
        self._way.replace(weights, moments)

    def perturb(self, noise_scale: float, rng: np.random.Generator) -> None:
        """Multiply every weight by ``1 + noise_scale * N(0, 1)``; moments stay."""

        def noisy(leaf: Any) -> Any:
            noise = rng.standard_normal(leaf.shape) * noise_scale + 1.0
            return jnp.asarray(np.asarray(leaf, np.float64) * noise, leaf.dtype)

        self._way.replace(jax.tree.map(noisy, self._way.weights), self._way.moments)

    def _saved_moments(self, arrays: Mapping[str, Array], descriptions: Mapping[str, Any]) -> Any:
        expected = dict(_named(self._way.moments))
        found = descriptions.get("optimizer", {}).get("arrays")
        if found != sorted(expected):
            raise CheckpointError(
                "the saved optimizer is not the one of this agent: found "
                f"{'no names of moments' if not found else f'{len(found)} moments, the first {found[0]}'}, "
                f"expected {len(expected)}, the first {min(expected)}"
            )
        leaves = []
        for name, leaf in expected.items():
            array = np.asarray(arrays[name]) if name in arrays else np.zeros(0)
            if array.shape != leaf.shape:
                raise CheckpointError(
                    f"the saved weights have {name} of shape {list(array.shape)}, this agent "
                    f"{list(leaf.shape)}: build it with the sizes it was saved with"
                )
            leaves.append(jnp.asarray(np.array(array), leaf.dtype))
        return jax.tree.unflatten(jax.tree.structure(self._way.moments), leaves)


def _named(moments: Any) -> list[tuple[str, Any]]:
    paths, _ = jax.tree_util.tree_flatten_with_path(moments)
    return [
        (f"optimizer.{jax.tree_util.keystr(path, simple=True, separator='.')}", leaf) for path, leaf in paths
    ]


def _under(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    found = {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
    if not found:
        raise CheckpointError(f"the saved weights lack {prefix}*; they were saved by an agent without it")
    return found
