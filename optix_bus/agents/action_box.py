"""Bounded actions: between the units of the environment and the cube ``[-1, 1]`` that networks live in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from optix_bus.errors import Unsuitable
from optix_bus.types import ArraySpec

Array = np.ndarray[Any, Any]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ActionBox:
    """Shape and finite bounds of the actions of an environment.

    Attributes:
        shape: of one action.
        low, high: bounds of its numbers, flattened; they need not lie around 0.
        dtype: of the actions as the environment takes them.

    Raises:
        Unsuitable: bounds of another length than the shape asks for, or that are not finite and in order.
    """

    shape: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        bounds = np.array([self.low, self.high]) if len(self.low) == len(self.high) else np.zeros((2, 0))
        ordered = bool((bounds[0] < bounds[1]).all()) and bool(np.isfinite(bounds).all())
        if bounds.shape != (2, self.dim) or not ordered:
            raise Unsuitable(
                f"found action bounds {list(self.low)} to {list(self.high)}, expected {self.dim} finite "
                "numbers each, low below high; gymnasium.wrappers.RescaleAction gives an environment bounds"
            )

    @classmethod
    def cube(cls, dim: int) -> ActionBox:
        """``dim`` numbers from -1 to 1: the units of the networks themselves."""
        return cls((dim,), (-1.0,) * dim, (1.0,) * dim)

    @classmethod
    def of(cls, action: ArraySpec) -> ActionBox:
        """The box of an action space.

        Raises:
            Unsuitable: it is no bounded box of real numbers.
        """
        if action.kind != "box" or np.dtype(action.dtype).kind != "f":
            raise Unsuitable(f"found actions of {action.kind} {action.dtype}, expected a box of real numbers")
        return cls(action.shape, action.low, action.high, action.dtype)

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> ActionBox:
        """From what `description` gave."""
        shape, low, high = (tuple(description[key]) for key in ("shape", "low", "high"))
        return cls(shape, low, high, str(description["dtype"]))

    def description(self) -> dict[str, Any]:
        """Plain data for the description of a policy."""
        return {
            "shape": list(self.shape),
            "low": list(self.low),
            "high": list(self.high),
            "dtype": self.dtype,
        }

    @property
    def dim(self) -> int:
        """Numbers in one action."""
        return math.prod(self.shape)

    @cached_property
    def bounds(self) -> tuple[Float32, Float32]:
        """Lower and upper bounds, ``[dim]`` each."""
        return np.array(self.low, np.float32), np.array(self.high, np.float32)

    @cached_property
    def centre(self) -> Float32:
        """``[dim]``, what 0 stands for."""
        return np.asarray(np.float32(0.5) * (self.bounds[0] + self.bounds[1]), np.float32)

    @cached_property
    def reach(self) -> Float32:
        """``[dim]``, how far the bounds lie from the centre."""
        return np.asarray(np.float32(0.5) * (self.bounds[1] - self.bounds[0]), np.float32)

    @cached_property
    def log_volume(self) -> float:
        """Sum of ``log reach``: what a log-density on the cube loses in the units of the environment."""
        return float(np.log(self.reach.astype(np.float64)).sum())

    def to_units(self, unit: Array) -> Array:
        """``[N, dim]`` in ``[-1, 1]`` as actions ``[N, *shape]``, never outside the bounds."""
        actions = unit * self.reach
        actions += self.centre
        # Not only for what is outside: the sum itself may round over a bound.
        np.minimum(np.maximum(actions, self.bounds[0], out=actions), self.bounds[1], out=actions)
        return actions.reshape(len(unit), *self.shape).astype(self.dtype, copy=False)

    def to_unit(self, actions: Array) -> Float32:
        """Actions ``[N, *shape]`` of a window as ``[N, dim]``, -1 and 1 at the bounds.

        Raises:
            Unsuitable: they have another number of numbers, or some are not finite.
        """
        numbers = np.asarray(actions, np.float32).reshape(len(actions), -1)
        if numbers.shape[1] != self.dim:
            raise Unsuitable(
                f"found actions of {numbers.shape[1]} numbers in the window, expected {self.dim}: the agent "
                "was made for another space"
            )
        if not np.isfinite(numbers).all():
            bad = int(numbers.size - np.isfinite(numbers).sum())
            raise Unsuitable(f"found {bad} of {numbers.size} numbers in the window's actions not finite")
        return np.asarray((numbers - self.centre) / self.reach, np.float32)

    def draw(self, rng: np.random.Generator, count: int) -> Float32:
        """Uniform draws in the cube, ``[count, dim]``."""
        unit = rng.random((count, self.dim), np.float32)
        unit *= 2.0
        unit -= 1.0
        return unit
