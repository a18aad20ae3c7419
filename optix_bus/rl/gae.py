"""Generalised advantage estimation.

Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized Advantage Estimation",
https://arxiv.org/abs/1506.02438, equations 11 and 16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def compute_gae(
    rewards: npt.ArrayLike,
    values: npt.ArrayLike,
    dones: npt.ArrayLike | None = None,
    gamma: float = 0.99,
    gae_lambda: float = 0.95,
    last_value: npt.ArrayLike = 0.0,
    *,
    terminated: npt.ArrayLike | None = None,
    truncated: npt.ArrayLike | None = None,
    final_values: npt.ArrayLike | None = None,
    valid: npt.ArrayLike | None = None,
) -> tuple[Floats, Floats]:
    """Advantages and value targets of a window that may hold many episodes.

    The value of what follows step ``t`` is 0 where the episode terminated, ``final_values[t]`` where
    it was truncated, ``values[t + 1]`` inside an episode, and at the end of the window
    ``final_values[T - 1]`` or else ``last_value``. No advantage flows across the end of an episode.

    Args:
        rewards: ``[T]`` or ``[T, B]``.
        values: like ``rewards``, V of the observation before each step.
        dones: like ``rewards``, bool; the short form: every end is a termination. Instead of
            ``terminated`` and ``truncated``, not beside them.
        gamma: discount in [0, 1].
        gae_lambda: lambda in [0, 1]; 0 is the one-step error, 1 the Monte-Carlo return.
        last_value: scalar or ``[B]``, V of the observation after the last row, used where the last row
            ends nothing and ``final_values`` is not given.
        terminated: like ``rewards``, bool; the future is worth nothing.
        truncated: like ``rewards``, bool; only the recording ended.
        final_values: like ``rewards``, V of the observation each step led to, before any reset; read
            only on truncated rows and on the last one.
        valid: like ``rewards``, bool; False on rows that are no transitions. Their advantage is 0 and
            their target is their own value; the row before, if it ended nothing, bootstraps on them.

    Returns:
        ``advantages`` and ``returns = advantages + values``, float64, of the shape of ``rewards``.

    Raises:
        ValueError: shapes differ, ends are given twice, or a truncated step has no value to follow.
    """
    r = np.asarray(rewards, np.float64)
    v = np.asarray(values, np.float64)
    if r.ndim not in (1, 2):
        raise ValueError(f"rewards have shape {r.shape}, expected [T] or [T, B]")
    _same_shape("values", v, r)
    if dones is not None and (terminated is not None or truncated is not None):
        raise ValueError("found dones beside terminated or truncated: give one form or the other")
    ended = _mask("terminated", dones if terminated is None else terminated, r)
    cut = _mask("truncated", truncated, r) & ~ended
    real = _mask("valid", valid, r, default=True)
    if r.shape[0] == 0:
        return r.copy(), v.copy()

    following = np.empty_like(v)
    following[:-1] = v[1:]
    following[-1] = np.asarray(last_value, np.float64)
    if final_values is not None:
        f = np.asarray(final_values, np.float64)
        _same_shape("final_values", f, r)
        following[-1] = f[-1]
        following[cut] = f[cut]
    elif bool(np.any(cut & real)):
        first = np.argwhere(cut & real)[0].tolist()
        raise ValueError(
            f"step {first} was truncated but final_values are not given: its target is r + gamma V(final "
            "observation); pass final_values, or mark the row as not valid"
        )
    following[ended] = 0.0

    errors = np.where(real, r + gamma * following - v, 0.0)
    carry = np.where(real & ~ended & ~cut, gamma * gae_lambda, 0.0)
    advantages = _discounted_sum(errors, carry)
    return advantages, advantages + v


def _discounted_sum(errors: Floats, carry: Floats) -> Floats:
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


def _mask(
    name: str, given: npt.ArrayLike | None, like: Floats, *, default: bool = False
) -> npt.NDArray[np.bool_]:
    if given is None:
        return np.full(like.shape, default)
    mask = np.asarray(given, bool)
    _same_shape(name, mask, like)
    return mask


def _same_shape(name: str, found: np.ndarray[Any, Any], like: Floats) -> None:
    if found.shape != like.shape:
        raise ValueError(f"{name} have shape {found.shape}, expected that of the rewards, {like.shape}")
