"""A checked window as single steps with what each of them led to."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from optix_bus.rl.n_step import Steps

Array = np.ndarray[Any, Any]


class Window(Protocol):
    """What is read of a window ``[T, B, ...]``; `optix_bus.agents.experience.Experience` is one."""

    @property
    def observations(self) -> Array:
        """``[T, B, *obs_shape]``."""

    @property
    def actions(self) -> Array:
        """``[T, B, *action_shape]``."""

    @property
    def rewards(self) -> Array:
        """``[T, B]``."""

    @property
    def terminated(self) -> Array:
        """``[T, B]`` bool."""

    @property
    def truncated(self) -> Array:
        """``[T, B]`` bool."""

    @property
    def valid(self) -> Array:
        """``[T, B]`` bool, False on rows that are no transitions."""

    @property
    def after_rows(self) -> Array:
        """``[K]`` flat indices of the steps that led to something else than the next row."""

    @property
    def after(self) -> Array:
        """``[K, *obs_shape]``, what those steps led to."""


def steps_of(window: Window, observation: npt.DTypeLike, action: npt.DTypeLike) -> Steps:
    """The steps of a window, in the given dtypes; ``next_observations`` of terminated ones mean nothing.

    A window may also have ``next_masks`` ``[T, B, entries]``: which actions were allowed where each step led.
    """
    observations = np.asarray(window.observations, observation)
    next_observations = np.concatenate([observations[1:], observations[-1:]])
    next_observations.reshape(-1, *observations.shape[2:])[window.after_rows] = window.after
    valid = np.asarray(window.valid, bool)
    goes_on = valid & ~window.terminated & ~window.truncated
    goes_on[:-1] &= valid[1:]
    return Steps(
        observations=observations,
        actions=np.asarray(window.actions, action),
        rewards=np.asarray(window.rewards, np.float32),
        next_observations=next_observations,
        terminated=np.asarray(window.terminated, bool),
        goes_on=goes_on,
        waiting=valid,
        next_masks=getattr(window, "next_masks", None),
    )
