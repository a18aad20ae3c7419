"""V-trace: value targets for a policy from what an older policy did.

Espeholt et al. 2018, "IMPALA: Scalable Distributed Deep-RL with Importance Weighted Actor-Learner
Architectures", https://arxiv.org/abs/1802.01561, section 4.1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from optix_bus.rl.following import Floats, same_shape, sum_backwards, what_follows


def compute_vtrace_targets(
    rewards: npt.ArrayLike,
    values: npt.ArrayLike,
    behaviour_log_probs: npt.ArrayLike,
    current_log_probs: npt.ArrayLike,
    dones: npt.ArrayLike | None = None,
    gamma: float = 0.99,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
    *,
    last_value: npt.ArrayLike = 0.0,
    terminated: npt.ArrayLike | None = None,
    truncated: npt.ArrayLike | None = None,
    final_values: npt.ArrayLike | None = None,
    valid: npt.ArrayLike | None = None,
) -> tuple[Floats, Floats]:
    """Value targets ``v_s`` and policy-gradient advantages of a window that may hold many episodes.

    With ``ratio = pi / mu``, ``rho = min(rho_bar, ratio)`` and ``c = min(c_bar, ratio)``, equation 1 is

        delta_t = rho_t (r_t + gamma V(x_{t+1}) - V(x_t))
        v_s     = V(x_s) + delta_s + gamma c_s (v_{s+1} - V(x_{s+1}))

    and the advantage is ``rho_s (r_s + gamma v_{s+1} - V(x_s))``. On-policy, with ``c_bar >= 1``, ``v_s`` is
    the n-step return. Nothing flows across the end of an episode; what follows a step is as in `compute_gae`.

    Args:
        rewards: ``[T]`` or ``[T, B]``.
        values: V of the observation before each step under the policy that learns, like ``rewards``; with one
            row more, ``[T + 1]`` or ``[T + 1, B]``, the last row is ``last_value``.
        behaviour_log_probs: like ``rewards``, log mu(a|x) of the policy that acted.
        current_log_probs: like ``rewards``, log pi(a|x) of the policy that learns.
        dones: like ``rewards``, bool; the short form: every end is a termination. Instead of
            ``terminated`` and ``truncated``, not beside them.
        gamma: discount in [0, 1].
        rho_bar: truncation of the weights of the errors; it decides which value function is the fixed point.
        c_bar: truncation of the trace; it decides how fast that is reached.
        last_value: scalar or ``[B]``, V of the observation after the last row; 0 without one.
        terminated: like ``rewards``, bool; the future is worth nothing.
        truncated: like ``rewards``, bool; only the recording ended.
        final_values: like ``rewards``, V of the observation each step led to, before any reset; read
            only on truncated rows and on the last one.
        valid: like ``rewards``, bool; False on rows that are no transitions. Their target is their own value
            and their advantage 0.

    Returns:
        Targets ``v_s`` and advantages, float64, of the shape of ``rewards``.

    Raises:
        ValueError: shapes differ, ends are given twice, a truncated step has no value to follow, or a bound
            is not positive.
    """
    if not (rho_bar > 0.0 and c_bar > 0.0):
        raise ValueError(f"found rho_bar={rho_bar} and c_bar={c_bar}, expected both above 0")
    r = np.asarray(rewards, np.float64)
    v = np.asarray(values, np.float64)
    if r.ndim in (1, 2) and v.shape == (len(r) + 1, *r.shape[1:]):
        v, last_value = v[:-1], v[-1]
    behaviour = np.asarray(behaviour_log_probs, np.float64)
    current = np.asarray(current_log_probs, np.float64)
    window = what_follows(
        r,
        v,
        dones=dones,
        last_value=last_value,
        terminated=terminated,
        truncated=truncated,
        final_values=final_values,
        valid=valid,
    )
    same_shape("behaviour_log_probs", behaviour, r)
    same_shape("current_log_probs", current, r)
    if r.shape[0] == 0:
        return v.copy(), r.copy()
    # Rows that are no transitions may hold anything. Cut before the exponential, which could overflow.
    log_ratio = np.subtract(current, behaviour, out=np.zeros_like(r), where=window.valid)
    rho = np.exp(np.minimum(log_ratio, np.log(rho_bar)))
    c = np.exp(np.minimum(log_ratio, np.log(c_bar)))

    one_step = np.where(window.valid, r + gamma * window.following - v, 0.0)
    beyond = sum_backwards(rho * one_step, np.where(window.goes_on, gamma * c, 0.0))  # v_s - V(x_s)
    later = np.zeros_like(beyond)
    later[:-1] = np.where(window.goes_on[:-1], beyond[1:], 0.0)
    return v + beyond, rho * (one_step + gamma * later)
