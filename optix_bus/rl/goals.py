"""Which goals stand in for the one that was pursued, and what a step is worth under them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from optix_bus.errors import ConfigurationError

Array = np.ndarray[Any, Any]

#: Where hindsight looks for goals, Andrychowicz et al. 2017, section 4.5.
STRATEGIES = ("future", "final", "episode")


def choose_goals(strategy: str, steps: int, k: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """For each step of an episode the steps whose achieved goals it takes: ``[T, k]``.

    What a step itself achieves counts as its future, so that the last step has one.
    """
    if strategy == "final":
        return np.full((steps, k), steps - 1, np.int64)
    first = np.zeros(steps, np.int64) if strategy == "episode" else np.arange(steps)
    found: npt.NDArray[np.int64] = rng.integers(first[:, None], steps, (steps, k))
    return found


def judge(function: Callable[..., Any], achieved: Array, goals: Array, name: str) -> Array:
    """``function(achieved, goal)`` for rows ``[N, goal_dim]``, as ``[N]`` float64.

    Raises:
        ConfigurationError: it gives something else than one finite number for each row.
    """
    rows = len(achieved)
    extra: tuple[Any, ...] = ({},) if _arguments(function) >= 3 else ()
    if rows == 0:
        return np.zeros(0)
    first, last = (_number(function(achieved[i], goals[i], *extra), name) for i in (0, rows - 1))
    try:
        at_once = np.asarray(function(achieved, goals, *extra), np.float64)
    except Exception:  # one that takes single rows may do anything with many; it is then called row by row
        at_once = np.zeros(())
    # A function of single rows may answer many rows with something of the same length; it then differs.
    if at_once.shape != (rows,) or at_once[0] != first or at_once[-1] != last:
        at_once = np.array(
            [_number(function(a, g, *extra), name) for a, g in zip(achieved, goals, strict=True)]
        )
    if not np.isfinite(at_once).all():
        raise ConfigurationError(f"{name} gave numbers that are not finite")
    return at_once


def _number(value: Any, name: str) -> float:
    found = np.asarray(value)
    if found.size != 1:
        raise ConfigurationError(
            f"{name} gave an array of shape {found.shape} for one goal, expected one number"
        )
    return float(found.reshape(()))


def _arguments(function: Callable[..., Any]) -> int:
    """How many arguments have to be given."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return 2
    return sum(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters
    )
