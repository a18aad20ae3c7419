"""Hindsight experience replay: what was reached stands in for what was wanted.

Andrychowicz et al. 2017, "Hindsight Experience Replay", https://arxiv.org/abs/1707.01495, algorithm 1 and
section 4.5 (the strategies).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from optix_bus.errors import CheckpointError, ConfigurationError
from optix_bus.rl.goals import STRATEGIES, choose_goals, judge
from optix_bus.rl.sum_tree import SumTree
from optix_bus.types import NamedArrays

Array = np.ndarray[Any, Any]
Indices = npt.NDArray[np.int64]
_EPSILON = 1e-6


class HindsightSample(NamedTuple):
    """Sampled transitions, in the order of the published tuple.

    Attributes:
        obs, next: ``[B, obs]`` float32; the last ``goal_dim`` numbers are the goal.
        act: ``[B]`` or ``[B, act_dim]``.
        rew: ``[B]`` float32, under the goal that stands in ``obs``.
        done: ``[B]`` float32, 1 where the episode was terminated.
        weights: ``[B]`` float32, importance weights; 1 where all are drawn alike.
        idx: ``[B]`` for `HERBuffer.update_priorities`.
        n: ``[B]`` number of steps of each transition: always 1.
    """

    obs: npt.NDArray[np.float32]
    act: Array
    rew: npt.NDArray[np.float32]
    next: npt.NDArray[np.float32]
    done: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    idx: Indices
    n: Indices


class HERBuffer:
    """The newest episodes of a goal-conditioned task, each step also seen with ``k`` other goals.

    Steps are stored once; a relabelled transition is a reference to the step whose achieved goal it takes,
    with its own reward. Drawing costs the same however much is stored, with priorities the logarithm of it.

    Args:
        obs_dim: length of an observation, with or without the goal at its end.
        act_dim: length of an action; of no meaning for discrete actions, which are single numbers.
        goal_dim: length of a goal.
        strategy: ``future`` takes goals achieved from this step on, ``episode`` anywhere in the episode,
            ``final`` at its end.
        k: relabelled transitions for each real one. ``final`` has one goal, so that k only says how often it
            is drawn.
        capacity: steps; whole episodes leave when another one needs their place.
        alpha: how much priorities count: 0 draws alike, 1 in proportion.
        beta: how much the weights correct for that.
        seed: of the goals and the draws, unless a generator is passed with the call.

    Raises:
        ConfigurationError: an unknown strategy, or a number out of range.
    """

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        goal_dim: int,
        strategy: str = "future",
        k: int = 4,
        capacity: int = 100_000,
        alpha: float = 0.0,
        beta: float = 0.4,
        seed: int | None = None,
    ) -> None:
        if strategy not in STRATEGIES:
            raise ConfigurationError(
                f"unknown strategy {strategy!r}, expected one of {', '.join(STRATEGIES)}"
            )
        for name, found, low in (
            ("obs_dim", obs_dim, 1),
            ("act_dim", act_dim, 1),
            ("goal_dim", goal_dim, 1),
            ("k", k, 0),
            ("capacity", capacity, 1),
        ):
            if found < low:
                raise ConfigurationError(f"{name} of HERBuffer is {found}, expected at least {low}")
        for name, share in (("alpha", alpha), ("beta", beta)):
            if not 0.0 <= share <= 1.0:
                raise ConfigurationError(f"{name} of HERBuffer is {share}, expected 0 to 1")
        self.obs_dim, self.act_dim, self.goal_dim = int(obs_dim), int(act_dim), int(goal_dim)
        self.strategy, self.k, self.capacity = strategy, int(k), int(capacity)
        self.alpha, self.beta = float(alpha), float(beta)
        self._rng = np.random.default_rng(seed)
        self._columns: dict[str, Array] = {}
        self._lengths: deque[int] = deque()  # of the episodes, oldest first
        self._oldest = 0
        self._steps = 0
        self._greatest = 1.0
        self._tree = SumTree(self.capacity * self._copies) if self.alpha > 0.0 else None

    def __len__(self) -> int:
        """Transitions to draw from, relabelled ones included."""
        return self._steps * self._copies

    @property
    def _copies(self) -> int:
        return self.k + 1

    def store_episode(
        self,
        obs_list: Any,
        act_list: Any,
        rew_list: Any,
        next_obs_list: Any,
        done_list: Any,
        achieved_goals: Any,
        compute_reward: Callable[..., Any],
        *,
        desired_goals: Any = None,
        compute_done: Callable[..., Any] | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        """Take in one episode of T steps.

        Args:
            obs_list: ``[T, obs]``, ending with the goal that was pursued unless ``desired_goals`` are given.
            act_list: ``[T]`` or ``[T, act_dim]``.
            rew_list: ``[T]``, rewards that were given.
            next_obs_list: like ``obs_list``, what each step led to.
            done_list: ``[T]``, 1 where the episode was terminated; a truncation is none.
            achieved_goals: ``[T, goal_dim]``, reached by each step; with ``T + 1`` rows the first is that of
                the start.
            compute_reward: ``fn(achieved, goal)`` to a reward; one with three arguments is given an empty
                dict as well, as environments of gymnasium-robotics expect. It is called once for many rows
                ``[N, goal_dim]`` where it can take them, and row by row otherwise.
            desired_goals: ``[goal_dim]`` or ``[T, goal_dim]``, put at the end of the observations.
            compute_done: as ``compute_reward``, whether a relabelled transition ends its episode; without it
                the real one decides.
            rng: chooses the goals; the buffer's own otherwise.

        Raises:
            ConfigurationError: lengths or shapes do not fit, the episode is longer than the buffer, or
                something in it is not finite; nothing has been stored then.
        """
        rows = self._read(
            obs_list, act_list, rew_list, next_obs_list, done_list, achieved_goals, desired_goals
        )
        steps = len(rows["obs"])
        sources = choose_goals(self.strategy, steps, self.k, self._rng if rng is None else rng)
        achieved = np.repeat(rows["achieved"], self.k, axis=0)
        goals = rows["achieved"][sources.reshape(-1)]
        rewards = judge(compute_reward, achieved, goals, "compute_reward").reshape(steps, self.k)
        done = np.repeat(rows["done"][:, None], self.k, axis=1)
        if compute_done is not None:
            done = judge(compute_done, achieved, goals, "compute_done").reshape(steps, self.k) != 0.0
        rows["rew"] = np.concatenate([rows["rew"][:, None], rewards], axis=1).astype(np.float32)
        rows["done"] = np.concatenate([rows["done"][:, None], done], axis=1).astype(bool)

        places = self._make_room(steps)
        rows["source"] = places[sources]
        self._fit_columns(rows)
        for name, array in rows.items():
            self._columns[name][places] = array
        self._lengths.append(steps)
        self._steps += steps
        if self._tree is not None:
            new = self._numbers(places)
            self._tree.set(new, np.full(len(new), self._greatest**self.alpha))

    def sample(self, batch_size: int, rng: np.random.Generator | None = None) -> HindsightSample:
        """Draw transitions with replacement: one real for every ``k`` relabelled ones, on average.

        Raises:
            ConfigurationError: there is nothing to draw from.
        """
        if self._steps == 0:
            raise ConfigurationError("HERBuffer is empty: nothing to sample; store an episode first")
        draws = self._rng if rng is None else rng
        weights = np.ones(batch_size, np.float32)
        if self._tree is None:
            drawn = draws.integers(0, len(self), batch_size) + self._oldest * self._copies
            numbers = drawn % (self.capacity * self._copies)
        else:
            parts = np.arange(batch_size) + draws.random(batch_size)
            numbers = self._tree.find(parts * (self._tree.total / batch_size))
            priorities = self._tree[numbers]
            weights = ((priorities / priorities.min()) ** -self.beta).astype(np.float32)
        row, copy = np.divmod(numbers, self._copies)
        observations, following = self._columns["obs"][row], self._columns["next_obs"][row]
        relabelled = np.flatnonzero(copy)
        goals = self._columns["achieved"][self._columns["source"][row[relabelled], copy[relabelled] - 1]]
        observations[relabelled, -self.goal_dim :] = goals
        following[relabelled, -self.goal_dim :] = goals
        return HindsightSample(
            observations,
            self._columns["act"][row],
            self._columns["rew"][row, copy],
            following,
            self._columns["done"][row, copy].astype(np.float32),
            weights,
            numbers,
            np.ones(batch_size, np.int64),
        )

    def update_priorities(self, indices: npt.ArrayLike, errors: npt.ArrayLike) -> None:
        """Give transitions ``[B]`` the priority ``|error| + 1e-6``; those that have left are passed over.

        Raises:
            ConfigurationError: the buffer draws all alike (``alpha=0``), so that priorities would do nothing.
        """
        if self._tree is None:
            raise ConfigurationError("HERBuffer has alpha=0 and no priorities; give it alpha above 0")
        numbers = np.asarray(indices, np.int64)
        found = np.abs(np.asarray(errors, np.float64)) + _EPSILON
        present = (numbers // self._copies - self._oldest) % self.capacity < self._steps
        self._greatest = max(self._greatest, float(found[present].max(initial=0.0)))
        self._tree.set(numbers[present], found[present] ** self.alpha)

    def reseed(self, rng: np.random.Generator) -> None:
        """Choose goals and draw from this generator from now on."""
        self._rng = rng

    def state(self) -> NamedArrays:
        """Everything that is stored, oldest first, with the generator's state."""
        places = self._places(self._oldest, self._steps)
        arrays = {name: column[places] for name, column in self._columns.items()}
        if self._tree is not None:
            arrays["priorities"] = self._tree[self._numbers(places)].copy()
        facts = {
            **self._form(),
            "lengths": list(self._lengths),
            "oldest": self._oldest,
            "greatest": self._greatest,
            "rng": self._rng.bit_generator.state,
        }
        return NamedArrays(arrays, {"hindsight": facts})

    def load_state(self, state: NamedArrays) -> None:
        """Go on from what `state` returned.

        Raises:
            CheckpointError: it is the state of another kind of buffer; nothing has changed then.
        """
        facts = state.metadata.get("hindsight")
        found = {key: facts.get(key) for key in self._form()} if isinstance(facts, Mapping) else None
        if found != self._form() or facts is None:
            raise CheckpointError(f"found the state of a buffer with {found}, expected {self._form()}")
        arrays = dict(state.arrays)
        priorities = arrays.pop("priorities", None)
        self._lengths = deque(int(length) for length in facts["lengths"])
        self._oldest, self._steps = int(facts["oldest"]), sum(self._lengths)
        self._greatest = float(facts["greatest"])
        self._rng.bit_generator.state = facts["rng"]
        self._columns = {}
        places = self._places(self._oldest, self._steps)
        self._fit_columns(arrays)
        for name, array in arrays.items():
            self._columns[name][places] = array
        if self._tree is not None and priorities is not None:
            self._tree.fill(np.zeros(0))
            self._tree.set(self._numbers(places), priorities)

    def _form(self) -> dict[str, Any]:
        names = ("obs_dim", "act_dim", "goal_dim", "strategy", "k", "capacity", "alpha")
        return {name: getattr(self, name) for name in names}

    def _read(
        self, obs: Any, act: Any, rew: Any, next_obs: Any, done: Any, achieved: Any, desired: Any
    ) -> dict[str, Array]:
        rows = {
            "obs": np.asarray(obs, np.float32),
            "next_obs": np.asarray(next_obs, np.float32),
            "act": np.asarray(act),
            "rew": np.asarray(rew, np.float64),
            "done": np.asarray(done, bool),
            "achieved": np.asarray(achieved, np.float32),
        }
        steps = len(rows["rew"]) if rows["rew"].ndim == 1 else 0
        if not 0 < steps <= self.capacity:
            raise ConfigurationError(
                f"found rewards of shape {rows['rew'].shape}, expected [T] with 1 to {self.capacity} steps "
                "(the capacity)"
            )
        if len(rows["achieved"]) == steps + 1:
            rows["achieved"] = rows["achieved"][1:]
        if desired is not None:
            goals = np.broadcast_to(np.asarray(desired, np.float32), (steps, self.goal_dim))
            for name in ("obs", "next_obs"):
                rows[name] = np.concatenate([rows[name], goals], axis=1)
        width = self._columns["obs"].shape[1] if self._columns else None
        widths = (self.obs_dim, self.obs_dim + self.goal_dim) if width is None else (width,)
        fits = {
            "obs": [(steps, size) for size in widths],
            "next_obs": [rows["obs"].shape],
            "act": [(steps,), (steps, self.act_dim)],
            "done": [(steps,)],
            "achieved": [(steps, self.goal_dim)],
        }
        for name, shapes in fits.items():
            if rows[name].shape not in shapes:
                expected = " or ".join(str(list(shape)) for shape in shapes)
                raise ConfigurationError(
                    f"{name} of an episode of {steps} steps have shape {rows[name].shape}, "
                    f"expected {expected}"
                )
            if rows[name].dtype.kind == "f" and not math.isfinite(
                float(np.sum(rows[name], dtype=np.float64))
            ):
                raise ConfigurationError(f"{name} of the episode hold numbers that are not finite")
        return rows

    def _make_room(self, steps: int) -> Indices:
        """Places for so many steps, after the oldest episodes have left."""
        while self._steps + steps > self.capacity:
            gone = self._lengths.popleft()
            if self._tree is not None:
                numbers = self._numbers(self._places(self._oldest, gone))
                self._tree.set(numbers, np.zeros(len(numbers)))
            self._oldest = (self._oldest + gone) % self.capacity
            self._steps -= gone
        return self._places(self._oldest + self._steps, steps)

    def _places(self, first: int, count: int) -> Indices:
        return (first + np.arange(count)) % self.capacity

    def _numbers(self, places: Indices) -> Indices:
        """Of all copies of these steps, as `update_priorities` and the tree know them."""
        return (places[:, None] * self._copies + np.arange(self._copies)).reshape(-1)

    def _fit_columns(self, rows: Mapping[str, Array]) -> None:
        if not self._columns:
            self._columns = {
                name: np.zeros((self.capacity, *array.shape[1:]), array.dtype) for name, array in rows.items()
            }
