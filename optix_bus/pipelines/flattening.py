"""Observations of several parts (``Dict``, ``Tuple``) as one vector, in Gymnasium's order.

Parts stand one behind the other: those of a Dict in the order of the space's keys, which Gymnasium sorts
where they were given as a plain dict; a Box is raveled, a Discrete a row of the unit matrix, a MultiDiscrete
one for each of its numbers, and parts of parts likewise. It is `gymnasium.spaces.flatten` in float32, for
one observation or a batch, so a policy and its normaliser see plain vectors everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from optix_bus.errors import Unsuitable

Array = np.ndarray[Any, Any]
Float32 = npt.NDArray[np.float32]


def flat_space(space: Any, environment: str) -> Any:
    """The space of flattened observations; a space that needs no flattening as it is.

    Raises:
        Unsuitable: a part has no vector of a fixed length.
    """
    from gymnasium import spaces

    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return space
    try:
        return spaces.Box(-np.inf, np.inf, (int(spaces.flatdim(space)),), np.float32)
    except (ValueError, NotImplementedError) as error:
        raise Unsuitable(
            f"environment {environment} has observations of {space}, which cannot be one vector: {error}"
        ) from error


def flattener(space: Any) -> Callable[[Any], Any]:
    """A function from observations ``[...]`` or batches ``[B, ...]`` of a space to what is stored of them."""
    from gymnasium import spaces

    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return lambda observation: observation
    return lambda observation: np.concatenate(_parts(space, observation), axis=-1)


def flatten_observation(space: Any, observation: Any) -> Any:
    """One observation of a ``Dict`` or ``Tuple`` space as the vector that pipelines give to agents.

    For scripts that step an environment themselves: ``agent.act(flatten_observation(space, observation))``.
    """
    return flattener(space)(observation)


def _parts(space: Any, observation: Any) -> list[Float32]:
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return [part for key, inner in space.items() for part in _parts(inner, observation[key])]
    if isinstance(space, spaces.Tuple):
        return [part for number, inner in enumerate(space) for part in _parts(inner, observation[number])]
    array = np.asarray(observation)
    if isinstance(space, spaces.Discrete):
        return [_one_hot(array - space.start, int(space.n))]
    if isinstance(space, spaces.MultiDiscrete):
        numbers = (array - space.start).reshape(*array.shape[: array.ndim - len(space.shape)], -1)
        return [_one_hot(numbers[..., k], int(n)) for k, n in enumerate(np.ravel(space.nvec))]
    leading = array.shape[: array.ndim - len(space.shape)]
    return [array.reshape(*leading, -1).astype(np.float32)]


def _one_hot(numbers: Array, n: int) -> Float32:
    return np.asarray(numbers[..., None] == np.arange(n), np.float32)
