"""Generalised advantage estimation.

Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized Advantage Estimation",
https://arxiv.org/abs/1506.02438, equations 11 and 16.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from optix_bus.rl.following import Floats, sum_backwards, what_follows


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
    window = what_follows(
        rewards,
        values,
        dones=dones,
        last_value=last_value,
        terminated=terminated,
        truncated=truncated,
        final_values=final_values,
        valid=valid,
    )
    r, v = window.rewards, window.values
    if r.shape[0] == 0:
        return r.copy(), v.copy()
    errors = np.where(window.valid, r + gamma * window.following - v, 0.0)
    carry = np.where(window.goes_on, gamma * gae_lambda, 0.0)
    advantages = sum_backwards(errors, carry)
    return advantages, advantages + v
