"""What follows each step of a window that may hold many episodes, and sums that stop where episodes end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Following:
    """A window, checked, with the value of what follows each of its steps; all arrays ``[T]`` or ``[T, B]``.

    Attributes:
        rewards, values: float64.
        following: float64, V of what each step led to; 0 after a termination.
        goes_on: True where the next row belongs to the same episode.
        valid: False on rows that are no transitions.
    """

    rewards: Floats
    values: Floats
    following: Floats
    goes_on: Bools
    valid: Bools


def what_follows(
    rewards: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    dones: npt.ArrayLike | None,
    last_value: npt.ArrayLike,
    terminated: npt.ArrayLike | None,
    truncated: npt.ArrayLike | None,
    final_values: npt.ArrayLike | None,
    valid: npt.ArrayLike | None,
) -> Following:
    """Check a window and settle what each step bootstraps on; the rules are those of `compute_gae`.

    Raises:
        ValueError: shapes differ, ends are given twice, or a truncated step has no value to follow.
    """
    r = np.asarray(rewards, np.float64)
    v = np.asarray(values, np.float64)
    if r.ndim not in (1, 2):
        raise ValueError(f"rewards have shape {r.shape}, expected [T] or [T, B]")
    same_shape("values", v, r)
    if dones is not None and (terminated is not None or truncated is not None):
        raise ValueError("found dones beside terminated or truncated: give one form or the other")
    ended = _mask("terminated", dones if terminated is None else terminated, r)
    cut = _mask("truncated", truncated, r) & ~ended
    real = _mask("valid", valid, r, default=True)
    goes_on = real & ~ended & ~cut
    if r.shape[0] == 0:
        return Following(r, v, v.copy(), goes_on, real)

    following = np.empty_like(v)
    following[:-1] = v[1:]
    following[-1] = np.asarray(last_value, np.float64)
    if final_values is not None:
        f = np.asarray(final_values, np.float64)
        same_shape("final_values", f, r)
        following[-1] = f[-1]
        following[cut] = f[cut]
    elif bool(np.any(cut & real)):
        first = np.argwhere(cut & real)[0].tolist()
        raise ValueError(
            f"step {first} was truncated but final_values are not given: its target is r + gamma V(final "
            "observation); pass final_values, or mark the row as not valid"
        )
    following[ended] = 0.0
    return Following(r, v, following, goes_on, real)


def sum_backwards(errors: Floats, carry: Floats) -> Floats:
    """``a[t] = errors[t] + carry[t] * a[t + 1]`` down the first axis."""
    if errors.ndim == 1 or errors.shape[1] == 1:
        # Python floats are several times faster here than NumPy scalars.
        total, out = 0.0, []
        for error, factor in zip(errors.ravel()[::-1].tolist(), carry.ravel()[::-1].tolist(), strict=True):
            total = error + factor * total
            out.append(total)
        return np.array(out[::-1]).reshape(errors.shape)
    sums = errors.copy()
    scratch = np.empty(errors.shape[1])
    for t in range(errors.shape[0] - 2, -1, -1):
        np.multiply(carry[t], sums[t + 1], out=scratch)
        sums[t] += scratch
    return sums


def same_shape(name: str, found: np.ndarray[Any, Any], like: Floats) -> None:
    """Refuse an array that has not the shape of the rewards.

    Raises:
        ValueError: names both shapes.
    """
    if found.shape != like.shape:
        raise ValueError(f"{name} have shape {found.shape}, expected that of the rewards, {like.shape}")


def _mask(name: str, given: npt.ArrayLike | None, like: Floats, *, default: bool = False) -> Bools:
    if given is None:
        return np.full(like.shape, default)
    mask = np.asarray(given, bool)
    same_shape(name, mask, like)
    return mask
