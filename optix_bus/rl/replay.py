"""Experience replay: uniform, or in proportion to priorities; n-step; in memory or in mapped files.

Lin 1992, Self-improving reactive agents; priorities from Schaul et al. 2016, Prioritized Experience Replay,
https://arxiv.org/abs/1511.05952.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from optix_bus.errors import CheckpointError, ConfigurationError
from optix_bus.rl.n_step import NStepTransitions, NStepWindows, Steps
from optix_bus.rl.ring import Ring, oldest_first
from optix_bus.rl.sum_tree import SumTree
from optix_bus.rl.window_steps import Window, steps_of
from optix_bus.types import NamedArrays

Array = np.ndarray[Any, Any]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: Added to each |error|, so that no transition can never be drawn again.
EPSILON = 1e-6
_MASKS = "next_masks"


@dataclass(frozen=True, slots=True)
class Transitions:
    """Sampled transitions.

    Attributes:
        observations: ``[B, *obs_shape]``.
        actions: ``[B, *action_shape]``.
        rewards: ``[B]`` float32, discounted sum of the rewards of up to n steps.
        next_observations: ``[B, *obs_shape]``; of no meaning where the discount is 0.
        discounts: ``[B]`` float32, what the value of ``next_observations`` is worth: gamma to the power of
            the number of steps, 0 where the episode was terminated.
        weights: ``[B]`` float32, ``(N P)^-beta`` divided by the greatest of the batch; 1 where all are alike.
        indices: ``[B]`` for `ReplayBuffer.update_priorities`.
        terminated: ``[B]`` bool.
        steps: ``[B]`` number of steps of each transition, 1..n.
        next_masks: ``[B, entries]`` which actions are allowed in ``next_observations``, None where all are.
    """

    observations: Array
    actions: Array
    rewards: Float32
    next_observations: Array
    discounts: Float32
    weights: Float32
    indices: Indices
    terminated: npt.NDArray[np.bool_]
    steps: npt.NDArray[np.int64]
    next_masks: npt.NDArray[np.bool_] | None = None


class ReplayBuffer:
    """The newest ``capacity`` transitions.

    Rewards are stored step by step, so that a discount changed at run time holds for all that is stored.

    Args:
        capacity: transitions.
        observation: shape and dtype of one observation.
        action: shape and dtype of one action.
        n_step: steps of a transition.
        gamma: discount.
        alpha: how much priorities count: 0 is uniform, 1 proportional. May be changed at any time.
        path: folder of mapped files instead of memory; without one, above `optix_bus.rl.ring.IN_MEMORY`
            bytes, a temporary file.
        epsilon: added to each |error| that becomes a priority.
        mask_entries: of an action mask; 0 keeps none, and everything is allowed.

    Raises:
        ConfigurationError: a number is out of range.
    """

    def __init__(
        self,
        capacity: int,
        observation: tuple[tuple[int, ...], npt.DTypeLike],
        action: tuple[tuple[int, ...], npt.DTypeLike],
        n_step: int = 1,
        gamma: float = 0.99,
        alpha: float = 0.0,
        path: str | os.PathLike[str] | None = None,
        epsilon: float = EPSILON,
        mask_entries: int = 0,
    ) -> None:
        for name, found, low in (("capacity", capacity, 1), ("n_step", n_step, 1)):
            if found < low:
                raise ConfigurationError(f"{name} of a replay is {found}, expected at least {low}")
        self.n_step = int(n_step)
        self.gamma = float(gamma)
        self.epsilon = float(epsilon)
        self.mask_entries = int(mask_entries)
        masks = {_MASKS: ((self.mask_entries,), np.bool_)} if self.mask_entries else {}
        self._ring = Ring(
            capacity,
            {
                "observations": observation,
                "actions": action,
                "rewards": ((self.n_step,), np.float32),
                "next_observations": observation,
                "terminated": ((), np.bool_),
                "steps": ((), np.int64),
                **masks,
                # Before the exponent: alpha may change, and the content stays.
                "priorities": ((), np.float64),
            },
            path,
        )
        self._windows = NStepWindows(self.n_step)
        self._tree: SumTree | None = None
        self._greatest = 1.0
        self._alpha = 0.0
        self.alpha = alpha

    def __len__(self) -> int:
        return len(self._ring)

    @property
    def capacity(self) -> int:
        """How many transitions fit."""
        return self._ring.capacity

    @property
    def added(self) -> int:
        """Transitions that were ever added."""
        return self._ring.written

    @property
    def row_bytes(self) -> int:
        """Bytes of one transition."""
        return self._ring.row_bytes

    @property
    def is_mapped(self) -> bool:
        """Whether the content lies in files rather than in memory."""
        return self._ring.mapped

    @property
    def alpha(self) -> float:
        """Exponent of priorities."""
        return self._alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        if not 0.0 <= value <= 1.0:
            raise ConfigurationError(
                f"alpha of a replay is {value}, expected 0 (uniform) to 1 (proportional)"
            )
        if value == self._alpha:
            return
        self._alpha = float(value)
        self._plant()

    def add(self, window: Window) -> int:
        """Take in a window ``[T, B, ...]``; returns how many transitions were stored.

        Rows that are not valid are left out. A transition of several steps never goes over the end of an
        episode; one whose end is not known yet waits for the next window.
        """
        columns = self._ring.columns
        return self.add_steps(steps_of(window, columns["observations"].dtype, columns["actions"].dtype))

    def add_steps(self, steps: Steps) -> int:
        """Take in single steps that say themselves where they lead; returns how many were stored.

        Raises:
            ConfigurationError: they have action masks of another size than this replay keeps.
        """
        if self.mask_entries and steps.next_masks is None:
            shape = (*steps.rewards.shape, self.mask_entries)
            steps = dataclasses.replace(steps, next_masks=np.ones(shape, bool))
        found = 0 if steps.next_masks is None else steps.next_masks.shape[-1]
        if found != self.mask_entries:
            raise ConfigurationError(
                f"found action masks of {found} entries for a replay that keeps {self.mask_entries}"
            )
        return self._store(self._windows.take(steps))

    def flush(self) -> int:
        """End all transitions that wait for the next window here; returns how many were stored."""
        return self._store(self._windows.flush())

    def sample(self, batch_size: int, rng: np.random.Generator, beta: float = 0.4) -> Transitions:
        """Draw transitions with replacement.

        With priorities, the sum of priorities is cut into ``batch_size`` equal parts and one transition is
        drawn from each (Schaul et al., appendix B.2.1).

        Args:
            batch_size: how many.
            rng: of the draws.
            beta: how much the weights correct for what is drawn too often; 1 entirely.

        Raises:
            ConfigurationError: there is nothing to draw from.
        """
        size = len(self._ring)
        if size == 0:
            raise ConfigurationError("the replay is empty: nothing to sample; add a window first")
        tree = self._tree
        if tree is None:
            indices = rng.integers(0, size, batch_size)
            weights = np.ones(batch_size, np.float32)
        else:
            parts = np.arange(batch_size) + rng.random(batch_size)
            indices = tree.find(parts * (tree.total / batch_size))
            scaled = (size / tree.total) * tree[indices]
            exact = (scaled / scaled.min()) ** -beta  # the greatest weight is that of the least probability
            weights = exact.astype(np.float32)
        return self.at(indices, weights)

    def at(self, indices: Indices, weights: Float32) -> Transitions:
        """The transitions at these places."""
        columns = self._ring.columns
        steps = columns["steps"][indices]
        terminated = columns["terminated"][indices]
        rewards = columns["rewards"][indices]
        if self.n_step == 1:
            discounts = np.float32(self.gamma) * ~terminated
        else:
            powers = self.gamma ** np.arange(self.n_step + 1)
            rewards = (rewards @ powers[: self.n_step]).astype(np.float32)
            discounts = (powers[steps] * ~terminated).astype(np.float32)
        return Transitions(
            columns["observations"][indices],
            columns["actions"][indices],
            rewards.reshape(-1),
            columns["next_observations"][indices],
            discounts,
            weights,
            indices,
            terminated,
            steps,
            columns[_MASKS][indices] if self.mask_entries else None,
        )

    def update_priorities(self, indices: npt.ArrayLike, errors: npt.ArrayLike) -> None:
        """Give transitions ``[B]`` the priority ``|error| + epsilon`` of their errors ``[B]``."""
        places = np.asarray(indices, np.int64)
        found: Float64 = np.abs(np.asarray(errors, np.float64)) + self.epsilon
        self._greatest = max(self._greatest, float(found.max(initial=0.0)))
        self._ring.columns["priorities"][places] = found
        if self._tree is not None:
            self._tree.set(places, found**self._alpha)

    def probabilities(self) -> Float64:
        """With which probability each stored transition is drawn, ``[len]``."""
        size = len(self._ring)
        if self._tree is None:
            return np.full(size, 1.0 / max(size, 1))
        return self._tree[:size] / self._tree.total

    def state(self) -> NamedArrays:
        """Everything that is stored, priorities and open ends included, as copies."""
        arrays = self._ring.state()
        arrays.update({f"open.{name}": array for name, array in self._windows.state().items()})
        numbers = {
            "written": self._ring.written,
            "capacity": self._ring.capacity,
            "n_step": self.n_step,
            "greatest": self._greatest,
        }
        return NamedArrays(arrays, {"replay": numbers})

    def load_state(self, state: NamedArrays) -> None:
        """Go on from what `state` returned. A replay of another capacity takes the newest that fit; where
        only this one keeps action masks, everything was allowed.

        Raises:
            CheckpointError: it is the state of a replay of other observations, actions or n; nothing has
                changed then.
        """
        numbers = state.metadata.get("replay")
        if not isinstance(numbers, dict):
            raise CheckpointError(
                f"found no replay in the state (metadata: {', '.join(state.metadata) or 'empty'}), expected "
                "what state() of a replay returned"
            )
        if numbers["n_step"] != self.n_step:
            raise CheckpointError(
                f"found a replay of {numbers['n_step']}-step transitions, expected {self.n_step}: set n_step "
                "to that, or begin with an empty replay"
            )
        arrays = _masked(state.arrays, self.mask_entries) if self.mask_entries else state.arrays
        try:
            self._ring.load_state(arrays, int(numbers["written"]), int(numbers["capacity"]))
        except ValueError as error:
            raise CheckpointError(f"the saved replay belongs to another agent: {error}") from error
        front = "open."
        self._windows.load_state(
            {name.removeprefix(front): a for name, a in arrays.items() if name.startswith(front)}
        )
        self._greatest = float(numbers["greatest"])
        self._plant()

    def resized(
        self, capacity: int, n_step: int | None = None, mask_entries: int | None = None
    ) -> ReplayBuffer:
        """A replay in memory with the newest content of this one and another capacity or n, or with masks.

        With another n, transitions keep the steps they have (at most the new n are possible for later ones);
        open ends are ended first, and where n shrinks, longer transitions are left out.
        """
        columns, n = self._ring.columns, self.n_step if n_step is None else n_step
        new = ReplayBuffer(
            capacity,
            (columns["observations"].shape[1:], columns["observations"].dtype),
            (columns["actions"].shape[1:], columns["actions"].dtype),
            n,
            self.gamma,
            self._alpha,
            epsilon=self.epsilon,
            mask_entries=self.mask_entries if mask_entries is None else mask_entries,
        )
        if n == self.n_step:
            new.load_state(self.state())
            return new
        self.flush()
        order = oldest_first(self._ring.written, self._ring.capacity)
        order = order[columns["steps"][order] <= n]
        rows = {name: column[order] for name, column in columns.items()}
        rewards = np.zeros((len(order), n), np.float32)
        rewards[:, : self.n_step] = rows["rewards"][:, :n]
        rows = _masked(rows, new.mask_entries) if new.mask_entries else rows
        new._ring.add({**rows, "rewards": rewards})
        new._greatest = self._greatest
        new._plant()
        return new

    def _store(self, found: list[NStepTransitions]) -> int:
        stored = 0
        for each in found:
            count = len(each.steps)
            rows = {name: getattr(each, name) for name in each.__dataclass_fields__}
            rows = rows if self.mask_entries else {n: a for n, a in rows.items() if n != _MASKS}
            places = self._ring.add({**rows, "priorities": np.full(count, self._greatest)})
            if self._tree is not None:
                self._tree.set(places, np.full(len(places), self._greatest**self._alpha))
            stored += count
        return stored

    def _plant(self) -> None:
        """The tree anew from the priorities that are stored; none for uniform draws."""
        if self._alpha == 0.0:
            self._tree = None
            return
        self._tree = SumTree(self._ring.capacity)
        self._tree.fill(self._ring.columns["priorities"][: len(self._ring)] ** self._alpha)


def _masked(arrays: Mapping[str, Array], entries: int) -> dict[str, Array]:
    """Columns and open ends with masks that allow everything, where there were none."""
    found = dict(arrays)
    for front, like in (("", "steps"), ("open.", "rewards")):  # both have nothing behind the rows
        if f"{front}{like}" in found:
            shape = (*found[f"{front}{like}"].shape, entries)
            found.setdefault(f"{front}{_MASKS}", np.ones(shape, bool))
    return found
