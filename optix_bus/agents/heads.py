"""What becomes of an actor's outputs: kinds of stochastic policies on paper, the same for every framework.

A head says how many numbers the actor puts out, what acting needs to know about them, and how the actions of
a window are read. The densities themselves stand beside the mathematics of each framework.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from optix_bus.errors import Unsuitable
from optix_bus.types import ArraySpec, SpaceSpec

Array = np.ndarray[Any, Any]
Bools = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
#: Stands for the logit of what a mask forbids: its probability is 0, and all numbers stay finite.
FORBIDDEN = -1e9
_WIDEST = float(np.finfo(np.float32).max)


class Head(Protocol):
    """A kind of policy; see `optix_bus.agents.acting.load.HEADS` for those that act."""

    def __hash__(self) -> int:
        """Equal heads share compiled programs."""
        ...

    @property
    def outputs(self) -> int | None:
        """Numbers that the actor puts out for one observation; None where any number will do."""
        ...

    def description(self) -> dict[str, Any]:
        """The part of an acting description that is about this head, JSON-able."""
        ...

    def read(self, actions: Array) -> Array:
        """Actions ``[N, numbers]`` of a window as the update takes them.

        Raises:
            Unsuitable: the actor cannot have chosen them.
        """
        ...

    def chosen(self, actions: Array, entries: int) -> Bools | None:
        """The entries ``[N, entries]`` of an action mask that actions, as `read`, make use of; None where
        masks of so many entries, or of any, do not fit."""
        ...


@dataclass(frozen=True)
class Categorical:
    """One of ``n`` actions, from as many logits; read as int64 ``[N]``."""

    n: int | None = None

    @property
    def outputs(self) -> int | None:
        """One logit an action."""
        return self.n

    def description(self) -> dict[str, Any]:
        """The name alone."""
        return {"head": "categorical"}

    def read(self, actions: Array) -> npt.NDArray[np.int64]:
        """See `Head.read`."""
        if actions.shape[1] != 1:
            raise Unsuitable(
                f"found actions of {actions.shape[1]} numbers in the window, expected one: this agent is for "
                "discrete actions"
            )
        chosen = actions[:, 0].astype(np.int64)
        low, high = int(chosen.min()), int(chosen.max())
        if low < 0 or (self.n is not None and high >= self.n):
            outputs = "" if self.n is None else f", but the actor has {self.n} outputs"
            raise Unsuitable(
                f"found actions from {low} to {high} in the window{outputs}; the actor needs one output for "
                "each action, counted from 0"
            )
        return chosen

    def chosen(self, actions: Array, entries: int) -> Bools | None:
        """See `Head.chosen`."""
        if self.n not in (None, entries) or int(actions.max(initial=0)) >= entries:
            return None
        return np.asarray(actions[:, None] == np.arange(entries))


@dataclass(frozen=True)
class MultiCategorical:
    """Several choices at once, independent of each other; read as int64 ``[N, numbers]``.

    Attributes:
        shape: of one action.
        nvec: number of choices of each of its numbers, flattened; their logits stand side by side.
    """

    shape: tuple[int, ...]
    nvec: tuple[int, ...]

    @property
    def outputs(self) -> int:
        """One logit for each choice of each number."""
        return sum(self.nvec)

    def description(self) -> dict[str, Any]:
        """Name, shape and numbers of choices."""
        return {"head": "multi_categorical", "shape": list(self.shape), "nvec": list(self.nvec)}

    def read(self, actions: Array) -> npt.NDArray[np.int64]:
        """See `Head.read`."""
        _same_size(actions, len(self.nvec))
        chosen = actions.astype(np.int64)
        if (chosen < 0).any() or (chosen >= np.array(self.nvec)).any():
            raise Unsuitable(
                f"found actions from {chosen.min(axis=0).tolist()} to {chosen.max(axis=0).tolist()} in the "
                f"window, expected numbers from 0 and below {list(self.nvec)}"
            )
        return chosen

    def chosen(self, actions: Array, entries: int) -> Bools | None:
        """See `Head.chosen`."""
        if entries != sum(self.nvec):
            return None
        parts = [actions[:, k, None] == np.arange(n) for k, n in enumerate(self.nvec)]
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class Bernoulli:
    """Independent yes or no, one logit each; read as float32 ``[N, numbers]`` of 0 and 1."""

    shape: tuple[int, ...]

    @property
    def outputs(self) -> int:
        """One logit for each number."""
        return math.prod(self.shape)

    def description(self) -> dict[str, Any]:
        """Name and shape."""
        return {"head": "bernoulli", "shape": list(self.shape)}

    def read(self, actions: Array) -> Float32:
        """See `Head.read`."""
        _same_size(actions, self.outputs)
        numbers = actions.astype(np.float32)
        if not np.isin(numbers, (0.0, 1.0)).all():
            raise Unsuitable(
                f"found actions from {numbers.min()} to {numbers.max()} in the window, expected 0 and 1"
            )
        return numbers

    def chosen(self, actions: Array, entries: int) -> None:
        """Nothing can be masked: there is always the other answer."""


@dataclass(frozen=True)
class Gaussian:
    """Independent normal numbers from ``[mean | log_std]``; read as float32 ``[N, dim]``.

    Where the space is bounded on all sides, a mean of 0 is its centre and -1 and 1 are its bounds; otherwise
    the outputs are in the units of the environment. The action is the sample itself, in those units and
    whatever the bounds: its density counts; pipelines clip only what the environment is sent.

    Attributes:
        shape: of one action.
        low, high: bounds of the space, flattened, or empty.
    """

    shape: tuple[int, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.low and not all(a < b for a, b in zip(self.low, self.high, strict=True)):
            raise Unsuitable(
                f"found action bounds {list(self.low)} to {list(self.high)}, expected low < high"
            )

    @property
    def dim(self) -> int:
        """Numbers in one action."""
        return math.prod(self.shape)

    @property
    def outputs(self) -> int:
        """A mean and a logarithm of the standard deviation for each number."""
        return 2 * self.dim

    @property
    def centre(self) -> Float32:
        """``[dim]``, what a mean of 0 stands for."""
        if not self.low:
            return np.zeros(self.dim, np.float32)
        low, high = bounds_of(self)
        return np.float32(0.5) * (low + high)

    @property
    def reach(self) -> Float32:
        """``[dim]``, how far from the centre a mean of 1 lies."""
        if not self.low:
            return np.ones(self.dim, np.float32)
        low, high = bounds_of(self)
        return np.float32(0.5) * (high - low)

    def description(self) -> dict[str, Any]:
        """Name, shape and bounds."""
        bounds = {"low": list(self.low), "high": list(self.high)}
        return {"head": "gaussian", "shape": list(self.shape), **bounds}

    def read(self, actions: Array) -> Float32:
        """See `Head.read`."""
        _same_size(actions, self.dim)
        numbers = actions.astype(np.float32)
        if not np.isfinite(numbers).all():
            bad = int(numbers.size - np.isfinite(numbers).sum())
            raise Unsuitable(
                f"found {bad} of {numbers.size} numbers in the window's actions that are not finite"
            )
        return numbers

    def chosen(self, actions: Array, entries: int) -> None:
        """There is nothing to mask."""


def head_for(action: ArraySpec) -> Head:
    """The head for a space of actions.

    Raises:
        Unsuitable: there is none.
    """
    if action.kind == "discrete":
        return Categorical(action.n)
    if action.kind == "multi_discrete":
        return MultiCategorical(action.shape, action.nvec)
    if action.kind == "multi_binary":
        return Bernoulli(action.shape)
    if action.kind == "box" and np.dtype(action.dtype).kind == "f":
        # Some spaces write "no bounds" as the largest number that there is.
        bounded = all(b - a < _WIDEST for a, b in zip(action.low, action.high, strict=True))
        return Gaussian(action.shape, *((action.low, action.high) if bounded else ((), ())))
    raise Unsuitable(
        f"no policy of ours has actions of {action.kind} {action.dtype}, shape {list(action.shape)}"
    )


def bounds_of(head: Gaussian) -> tuple[Float32, Float32]:
    """Lower and upper bounds ``[dim]``; infinite where the space has none."""
    if not head.low:
        return np.full(head.dim, -np.inf, np.float32), np.full(head.dim, np.inf, np.float32)
    return np.asarray(head.low, np.float32), np.asarray(head.high, np.float32)


def _same_size(actions: Array, expected: int) -> None:
    if actions.shape[1] != expected:
        raise Unsuitable(
            f"found actions of {actions.shape[1]} numbers in the window, expected {expected}: the actor was "
            "made for another space"
        )


def gaussian_head(action_dim: int, spaces: SpaceSpec | None) -> Gaussian:
    """The head for ``action_dim`` real numbers, with the bounds of the spaces where there are any.

    Raises:
        Unsuitable: the spaces have other actions.
    """
    if spaces is None:
        return Gaussian((action_dim,))
    head = head_for(spaces.action)
    if not isinstance(head, Gaussian) or head.dim != action_dim:
        raise Unsuitable(
            f"action_dim is {action_dim}, but actions of {spaces.environment} are {spaces.action.kind} of "
            f"shape {list(spaces.action.shape)}"
        )
    return head
