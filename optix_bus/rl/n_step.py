"""From windows of single steps to n-step transitions, over the borders of windows but never of episodes.

Sutton 1988, Learning to predict by the methods of temporal differences; as in Hessel et al. 2018, Rainbow,
https://arxiv.org/abs/1710.02298, equation 2: ``sum_{i<k} gamma^i r_{t+i}`` and the bootstrap ``gamma^k``,
where k is n, or less where the episode ends before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = np.ndarray[Any, Any]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Steps:
    """Single steps of B environments side by side; all arrays are ``[T, B, ...]``.

    Attributes:
        observations: before each step.
        actions: what was done.
        rewards: what it brought.
        next_observations: what it led to, before any reset; ignored where ``terminated``.
        terminated: the episode ended, nothing follows.
        goes_on: the next row is the next step of the same episode; of the last row: it may come yet.
        waiting: a transition that starts here is still due.
        next_masks: ``[T, B, entries]`` which actions are allowed where each step led to, or None.
    """

    observations: Array
    actions: Array
    rewards: Array
    next_observations: Array
    terminated: Bools
    goes_on: Bools
    waiting: Bools
    next_masks: Bools | None = None

    def arrays(self) -> dict[str, Array]:
        """All that there are by name."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: array for name, array in found.items() if array is not None}


@dataclass(frozen=True)
class NStepTransitions:
    """Transitions ``[M]`` of up to n steps, in the order of their first steps.

    Attributes:
        observations: ``[M, *obs_shape]`` where they start.
        actions: ``[M, *action_shape]`` of the first step.
        rewards: ``[M, n]`` of each step, 0 beyond the last one.
        next_observations: ``[M, *obs_shape]`` where they end.
        terminated: ``[M]``: nothing follows, the bootstrap is 0.
        steps: ``[M]`` how many there are, 1..n.
        next_masks: ``[M, entries]`` which actions are allowed where they end, or None.
    """

    observations: Array
    actions: Array
    rewards: Array
    next_observations: Array
    terminated: Bools
    steps: npt.NDArray[np.int64]
    next_masks: Bools | None = None


class NStepWindows:
    """Makes transitions of the windows that it is given, and keeps the steps whose ends are not known yet.

    What an environment did goes on in the next window if that begins with the observation with which the
    last one ended; otherwise, and where the number of environments changes, the open transitions end there,
    with as many steps as they have.

    Args:
        n: steps of a transition.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._open: Steps | None = None

    def take(self, steps: Steps) -> list[NStepTransitions]:
        """The transitions whose ends are known with this window."""
        found = []
        if self._open is not None and self._open.rewards.shape[1] != steps.rewards.shape[1]:
            found += self.flush()
        block = steps if self._open is None else _joined(self._open, steps)
        starts, reach, last_known = self._reach(block)
        found.append(_transitions(block, starts & last_known, reach, self.n))
        keep = self.n - 1
        if keep:
            rest = {name: array[-keep:].copy() for name, array in block.arrays().items()}
            rest["waiting"] = (starts & ~last_known)[-keep:]
            self._open = Steps(**rest)
        return [each for each in found if len(each.steps)]

    def flush(self) -> list[NStepTransitions]:
        """End all open transitions where they are, with as many steps as they have."""
        block, self._open = self._open, None
        if block is None or not block.waiting.any():
            return []
        block.goes_on[-1] = False
        starts, reach, _ = self._reach(block)
        return [_transitions(block, starts, reach, self.n)]

    def state(self) -> dict[str, Array]:
        """The open ends, by name; empty where there are none."""
        return {} if self._open is None else {name: a.copy() for name, a in self._open.arrays().items()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Go on from what `state` returned."""
        self._open = Steps(**{name: np.array(array) for name, array in state.items()}) if state else None

    def _reach(self, block: Steps) -> tuple[Bools, npt.NDArray[np.int64], Bools]:
        """Where transitions start, how many steps each has, and whether that is all it will ever have."""
        rows = len(block.rewards)
        starts = block.waiting
        alive = starts.copy()
        reach = starts.astype(np.int64)
        known = np.ones(starts.shape, bool)
        for step in range(1, min(self.n, rows + 1)):
            # What has come as far as row t + step - 1 goes on with that row, or ends there. The last row of
            # all that goes on leads to what is not known yet.
            alive[: rows - step + 1] &= block.goes_on[step - 1 :]
            known[rows - step] = ~alive[rows - step]
            alive[rows - step :] = False
            reach += alive
        return starts, reach, known


def _joined(before: Steps, after: Steps) -> Steps:
    """Both, one after the other, linked where the second begins with what the first ended with."""
    same = before.next_observations[-1] == after.observations[0]
    same = same.reshape(len(same), -1).all(axis=1)
    joined = {name: np.concatenate([array, getattr(after, name)]) for name, array in before.arrays().items()}
    joined["goes_on"][len(before.rewards) - 1] &= same & after.waiting[0]
    return Steps(**joined)


def _transitions(block: Steps, chosen: Bools, reach: npt.NDArray[np.int64], n: int) -> NStepTransitions:
    width = block.rewards.shape[1]
    first = np.flatnonzero(chosen)
    steps = reach.reshape(-1)[first]
    last = first + (steps - 1) * width

    def rows(array: Array, at: npt.NDArray[np.int64]) -> Array:
        return array.reshape(-1, *array.shape[2:])[at]

    flat = block.rewards.reshape(-1)
    rewards = np.zeros((len(first), n), block.rewards.dtype)
    rewards[:, 0] = flat[first]
    for step in range(1, n):
        more = steps > step
        rewards[more, step] = flat[first[more] + step * width]
    return NStepTransitions(
        rows(block.observations, first),
        rows(block.actions, first),
        rewards,
        rows(block.next_observations, last),
        rows(block.terminated, last),
        steps,
        None if block.next_masks is None else rows(block.next_masks, last),
    )
