"""From `EpisodeData` of any pipeline to arrays that an on-policy update can trust.

Our pipelines give arrays ``[T, ...]`` or ``[T, B, ...]`` with final observations; a user's own may give
lists of one environment and little else. What follows each step is settled here, once for all frameworks:

* inside an episode, the next row;
* at a termination, nothing;
* at a truncation and at the end of the window, the final observation: ``final_observations[t]``, or
  ``infos[t]["final_obs"]``, or for the last row ``metadata["final_obs"]``.

Where that observation is unknown the target ``r + gamma V(next)`` of the step is unknown too. The step is
then left out of the loss, and the steps before it bootstrap on V of its own observation, which is exact: the
window simply ends one step earlier there. Nothing is invented; ``without_successor`` counts such steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from optix_bus.errors import ConfigurationError, LearningFailure
from optix_bus.rl import compute_gae
from optix_bus.types import EpisodeData

Array = np.ndarray[Any, Any]
Bools = npt.NDArray[np.bool_]
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Experience:
    """A window, checked: every array is ``[T, B, ...]``.

    Attributes:
        observations: ``[T, B, *obs_shape]``.
        actions: ``[T, B, *action_shape]``.
        rewards: ``[T, B]`` float64.
        terminated, truncated: ``[T, B]`` bool.
        valid: ``[T, B]`` bool, False on rows that are no transitions or have no known successor.
        log_probs: ``[T, B]`` of the policy that acted, or None.
        after_rows: ``[K]`` flat indices of the steps that bootstrap on something else than the next row.
        after: ``[K, *obs_shape]``, what those steps led to.
        policy_version: version of the policy that acted, None where nobody said.
        learner_version: version of the policy that learns, where whoever drives the learner counts for it.
        action_masks: ``[T, B, entries]`` bool of the actions that were allowed, or None.
        next_masks: ``[T, B, entries]`` bool of those that were allowed where each step led to; None where
            ``action_masks`` are. All are where nobody said, and where the episode was terminated.
        without_successor: steps left out because their next observation is unknown.
    """

    observations: Array
    actions: Array
    rewards: Array
    terminated: Bools
    truncated: Bools
    valid: Bools
    log_probs: Array | None
    after_rows: npt.NDArray[np.int64]
    after: Array
    policy_version: int | None
    learner_version: int | None
    without_successor: int
    action_masks: Bools | None = None
    next_masks: Bools | None = None

    @property
    def dones(self) -> Bools:
        """``[T, B]``: the episode ended here, for whichever reason."""
        return self.terminated | self.truncated

    def advantages(
        self, values: Array, after_values: Array, rewards: Array, gamma: float, gae_lambda: float
    ) -> tuple[Array, Array]:
        """Advantages and returns ``[T, B]`` from V of ``observations`` ``[T, B]`` and ``after`` ``[K]``."""
        final_values = np.zeros(self.rewards.shape)
        final_values.reshape(-1)[self.after_rows] = after_values
        return compute_gae(
            rewards,
            values,
            gamma=gamma,
            gae_lambda=gae_lambda,
            terminated=self.terminated,
            truncated=self.truncated,
            final_values=final_values,
            valid=self.valid,
        )


def read_experience(data: EpisodeData) -> Experience:
    """Check a window and settle what followed each step.

    Raises:
        ConfigurationError: arrays of different lengths, or no step to learn from.
        LearningFailure: a reward, observation or log-probability is not finite.
    """
    given = np.asarray(data.rewards, np.float64)
    if given.ndim not in (1, 2) or given.size == 0:
        raise ConfigurationError(
            f"window {data.episode_id}: rewards have shape {given.shape}, expected [T] or [T, B], not empty"
        )
    single = given.ndim == 1
    shape = (*given.shape, 1) if single else given.shape

    def rows(name: str, value: Any, dtype: Any = None) -> Array:
        try:
            array = np.asarray(value, dtype)
        except ValueError as error:
            raise ConfigurationError(
                f"window {data.episode_id}: {name} are no rectangular array of numbers ({error})"
            ) from error
        if array.shape[: given.ndim] != given.shape:
            raise ConfigurationError(
                f"window {data.episode_id}: {name} have shape {array.shape}, "
                f"expected {list(given.shape)} in front, like the rewards"
            )
        return array[:, None] if single else array

    observations = rows("observations", data.observations)
    terminated = rows("terminated", data.terminated, bool)
    truncated = rows("truncated", data.truncated, bool) & ~terminated
    valid = np.ones(shape, bool) if data.valid is None else rows("valid", data.valid, bool).copy()
    log_probs = None if data.log_probs is None else rows("log_probs", data.log_probs, np.float64)
    rewards = rows("rewards", given)
    masks = None if data.action_masks is None else rows("action_masks", data.action_masks, bool)

    follows = np.zeros(shape, bool)
    follows[:-1] = ~terminated[:-1] & ~truncated[:-1] & valid[1:]
    needed = valid & ~terminated & ~follows
    known, after = _final_observations(data, needed, observations, single)
    lost = needed & ~known
    final_masks = (
        None if data.final_action_masks is None else rows("final_action_masks", data.final_action_masks, bool)
    )
    next_masks = None if masks is None else _next_masks(data, masks, final_masks, follows, terminated)
    valid &= ~lost
    truncated[:-1] |= needed[:-1]
    if not valid.any():
        raise ConfigurationError(
            f"window {data.episode_id}: none of its {rewards.size} rows is a transition with a known next "
            "observation; give final_observations, or longer windows"
        )
    flat = np.flatnonzero(needed & known)
    after = after.reshape(-1, *observations.shape[2:])[flat] if len(flat) else observations[:0, 0]

    for name, array in (("rewards", rewards), ("observations", observations), ("log_probs", log_probs)):
        if array is not None:
            _finite(data.episode_id, name, array[valid])
    _finite(data.episode_id, "final observations", after)
    return Experience(
        observations=observations,
        actions=rows("actions", data.actions),
        rewards=np.where(valid, rewards, 0.0),
        terminated=terminated,
        truncated=truncated,
        valid=valid,
        log_probs=log_probs,
        after_rows=flat,
        after=after,
        policy_version=_version(data, "policy_version"),
        learner_version=_version(data, "learner_version"),
        without_successor=int(lost.sum()),
        action_masks=masks,
        next_masks=next_masks,
    )


def _next_masks(
    data: EpisodeData, masks: Bools, final: Bools | None, follows: Bools, terminated: Bools
) -> Bools:
    """What was allowed where each step led to, ``[T, B, entries]``.

    Raises:
        ConfigurationError: masks of different sizes.
    """
    found = np.ones(masks.shape, bool) if final is None else final.copy()
    if found.shape != masks.shape:
        raise ConfigurationError(
            f"window {data.episode_id}: final_action_masks have shape {found.shape}, expected that of the "
            f"action_masks, {masks.shape}"
        )
    found[:-1][follows[:-1]] = masks[1:][follows[:-1]]
    found[terminated] = True
    return found


def _final_observations(
    data: EpisodeData, needed: Bools, observations: Array, single: bool
) -> tuple[Bools, Array]:
    """Which of the needed final observations are known, and ``[T, B, *obs_shape]`` that holds them."""
    given = data.final_observations
    if given is not None and not (isinstance(given, list | tuple) and any(item is None for item in given)):
        array = np.asarray(given)
        array = array[:, None] if single else array
        if array.shape != observations.shape:
            raise ConfigurationError(
                f"window {data.episode_id}: final_observations have shape {array.shape}, expected that of "
                f"the observations, {observations.shape}"
            )
        return np.ones(needed.shape, bool), array

    known, array = np.zeros(needed.shape, bool), np.zeros_like(observations)
    if not single:
        return known, array
    last = len(needed) - 1
    for t in np.flatnonzero(needed[:, 0]).tolist():
        found = None if given is None else given[t]
        if found is None and t < len(data.infos) and isinstance(data.infos[t], dict):
            found = data.infos[t].get("final_obs")
        if found is None and t == last:
            found = data.metadata.get("final_obs")
        if found is not None:
            known[t, 0], array[t, 0] = True, np.asarray(found)
    return known, array


def _version(data: EpisodeData, key: str) -> int | None:
    found = data.metadata.get(key)
    return None if found is None else int(found)


def _finite(window: int, name: str, array: Array) -> None:
    """What networks compute with has to be a finite float32."""
    if array.dtype.kind != "f":
        return
    with np.errstate(invalid="ignore"):
        good = np.abs(array) <= _LARGEST
    if good.all():
        return
    raise LearningFailure(
        f"window {window}: {int(array.size - good.sum())} of {array.size} numbers in {name} are not finite "
        f"as float32 ({int(np.isnan(array).sum())} NaN), the others {_range(array[good])}; nothing was "
        "learnt from it. Look at what the environment returns"
    )


def _range(finite: Array) -> str:
    return f"{finite.min():.4g} to {finite.max():.4g}" if finite.size else "none"
