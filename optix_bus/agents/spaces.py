"""What an environment shows and takes, read off a gymnasium space."""

from __future__ import annotations

from typing import Any

import numpy as np

from optix_bus.errors import Unsuitable
from optix_bus.types import ArraySpec, SpaceSpec


def space_spec(env: Any) -> SpaceSpec:
    """The spaces of a gymnasium environment, of one environment of a vector, or a `SpaceSpec` as it is.

    Spaces that no agent of ours takes are described by their kind, so that the agent can refuse them by name.

    Raises:
        Unsuitable: there are no spaces on it, or actions that are not counted from 0.
    """
    if isinstance(env, SpaceSpec):
        return env
    observation = getattr(env, "single_observation_space", getattr(env, "observation_space", None))
    action = getattr(env, "single_action_space", getattr(env, "action_space", None))
    if observation is None or action is None:
        raise Unsuitable(
            f"found {type(env).__name__} without observation_space and action_space, expected a gymnasium "
            "environment, a vector of them, or a SpaceSpec"
        )
    return SpaceSpec(_name(env), _array_spec(observation), _array_spec(action))


def _name(env: Any) -> str:
    spec = getattr(env, "spec", None)
    return str(getattr(spec, "id", None) or type(getattr(env, "unwrapped", env)).__name__)


def _array_spec(space: Any) -> ArraySpec:
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        _counted_from_0(space, [int(space.start)])
        return ArraySpec("discrete", (), str(space.dtype), n=int(space.n))
    if isinstance(space, spaces.Box):
        low, high = np.ravel(space.low).astype(float), np.ravel(space.high).astype(float)
        bounded = bool(np.isfinite(low).all() and np.isfinite(high).all())
        return ArraySpec(
            "box",
            tuple(int(size) for size in space.shape),
            str(space.dtype),
            low=tuple(low.tolist()) if bounded else (),
            high=tuple(high.tolist()) if bounded else (),
        )
    shape = tuple(int(size) for size in (space.shape or ()))
    if isinstance(space, spaces.MultiDiscrete):
        _counted_from_0(space, np.ravel(space.start).tolist())
        nvec = tuple(int(n) for n in np.ravel(space.nvec))
        return ArraySpec("multi_discrete", shape, str(space.dtype), nvec=nvec)
    if isinstance(space, spaces.Dict | spaces.Tuple):
        try:
            return ArraySpec("dict", (int(spaces.flatdim(space)),), "float32")
        except (ValueError, NotImplementedError) as error:
            raise Unsuitable(f"found {space}, which cannot be one vector: {error}") from error
    kind = "multi_binary" if isinstance(space, spaces.MultiBinary) else type(space).__name__.lower()
    return ArraySpec(kind, shape, str(space.dtype))


def _counted_from_0(space: Any, starts: list[int]) -> None:
    if any(starts):
        raise Unsuitable(
            f"found {space}, expected numbers from 0; shift them with gymnasium.wrappers.TransformAction "
            "or TransformObservation"
        )
