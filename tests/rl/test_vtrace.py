from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optix_bus.rl import compute_gae, compute_vtrace_targets
from tests.oracles import vtrace as oracle
from tests.rl.test_gae import _window


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    steps=st.integers(1, 30),
    width=st.integers(1, 4),
    gamma=st.sampled_from([0.0, 0.9, 0.99, 1.0]),
    rho_bar=st.sampled_from([0.5, 1.0, 3.0]),
    c_bar=st.sampled_from([0.5, 1.0, 2.0]),
)
def test_targets_equal_the_definition_in_float64(seed, steps, width, gamma, rho_bar, c_bar):
    rewards, values, final, terminated, truncated, valid = _window(seed, steps, width)
    behaviour, current = np.random.default_rng(seed + 1).normal(-1.0, 0.7, (2, steps, width))
    found = compute_vtrace_targets(
        rewards, values, behaviour, current, None, gamma, rho_bar, c_bar,
        terminated=terminated, truncated=truncated, final_values=final, valid=valid,
    )  # fmt: skip
    arrays = (rewards, values, behaviour, current, terminated, truncated, final, valid)
    expected = oracle.targets(*(a.tolist() for a in arrays), gamma, rho_bar, c_bar)
    for ours, slow in zip(found, expected, strict=True):
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, slow, rtol=1e-10, atol=1e-10)


def test_on_policy_the_target_is_the_n_step_return():
    rng = np.random.default_rng(0)
    rewards, log_probs = rng.standard_normal((2, 20))
    values, gamma = rng.standard_normal(21), 0.9
    targets, advantages = compute_vtrace_targets(
        rewards, values, log_probs, log_probs, np.zeros(20, bool), gamma
    )
    for s in range(20):
        n = 20 - s
        expected = sum(gamma**k * rewards[s + k] for k in range(n)) + gamma**n * values[20]
        assert targets[s] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(advantages, targets - values[:20], atol=1e-12)


def test_on_policy_it_agrees_with_generalised_advantages_at_lambda_one():
    rewards, values, final, terminated, truncated, valid = _window(5, 40, 3)
    ends = dict(terminated=terminated, truncated=truncated, final_values=final, valid=valid)
    log_probs = np.random.default_rng(1).standard_normal((40, 3))
    targets, _ = compute_vtrace_targets(rewards, values, log_probs, log_probs, **ends)
    _, returns = compute_gae(rewards, values, gae_lambda=1.0, **ends)
    np.testing.assert_allclose(targets, returns, rtol=1e-10, atol=1e-10)


def test_an_extra_row_of_values_is_what_follows_the_window():
    rewards, log_probs = np.ones((3, 2)), np.zeros((3, 2))
    values = np.arange(8.0).reshape(4, 2)
    one = compute_vtrace_targets(rewards, values, log_probs, log_probs)
    two = compute_vtrace_targets(rewards, values[:3], log_probs, log_probs, last_value=values[3])
    np.testing.assert_array_equal(one, two)


def test_wildly_different_policies_stay_finite():
    steps = np.full(5, 1.0)
    with np.errstate(all="raise"):
        far, _ = compute_vtrace_targets(steps, steps, steps * -2000.0, steps * 0.0)
        near, advantages = compute_vtrace_targets(steps, steps, steps * 0.0, steps * -300.0)
    assert np.isfinite(far).all()
    np.testing.assert_allclose(near, steps)  # what the policy never does teaches nothing
    np.testing.assert_allclose(advantages, 0.0, atol=1e-100)


def test_what_stands_on_rows_that_are_no_transitions_has_no_influence():
    rewards, values = np.ones(4), np.zeros(4)
    log_probs = np.array([0.0, 0.0, np.nan, 0.0])
    valid, ends = np.array([True, True, False, True]), np.array([False, True, False, False])
    with np.errstate(all="raise"):
        targets, advantages = compute_vtrace_targets(
            rewards, values, log_probs, log_probs, terminated=ends, valid=valid, gamma=0.5
        )
    assert targets.tolist() == [1.5, 1.0, 0.0, 1.0]
    assert advantages.tolist() == [1.5, 1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"behaviour_log_probs": [0.0]}, "behaviour_log_probs have shape"),
        ({"current_log_probs": [0.0] * 3}, "current_log_probs have shape"),
        ({"values": [0.0] * 4}, "values have shape"),
        ({"rho_bar": 0.0}, "found rho_bar=0.0 and c_bar=1.0, expected both above 0"),
        ({"truncated": [True, False]}, "was truncated but final_values are not given"),
    ],
)
def test_arguments_that_do_not_fit_are_named(changes, message):
    fitting = {
        "rewards": [1.0, 1.0], "values": [0.0, 0.0], "behaviour_log_probs": [0.0, 0.0],
        "current_log_probs": [0.0, 0.0],
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        compute_vtrace_targets(**{**fitting, **changes})
