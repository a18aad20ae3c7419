from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optix_bus.rl import compute_gae
from tests.oracles import gae as oracle


def _window(seed, steps, width):
    rng = np.random.default_rng(seed)
    terminated = rng.random((steps, width)) < 0.15
    truncated = (rng.random((steps, width)) < 0.15) & ~terminated
    valid = np.ones((steps, width), bool)
    # The row after an episode end is no transition, as under next-step autoreset.
    valid[1:] = ~((terminated | truncated)[:-1] & (rng.random((steps - 1, width)) < 0.5))
    numbers = rng.standard_normal((3, steps, width))
    return *numbers, terminated & valid, truncated & valid, valid


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    steps=st.integers(1, 30),
    width=st.integers(1, 4),
    gamma=st.sampled_from([0.0, 0.9, 0.99, 1.0]),
    lam=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
)
def test_advantages_equal_the_brute_force_sum_with_ends_and_gaps_inside(seed, steps, width, gamma, lam):
    rewards, values, final, terminated, truncated, valid = _window(seed, steps, width)
    found, returns = compute_gae(
        rewards, values, gamma=gamma, gae_lambda=lam,
        terminated=terminated, truncated=truncated, final_values=final, valid=valid,
    )  # fmt: skip
    expected = oracle.advantages(
        *(a.tolist() for a in (rewards, values, terminated, truncated, final, valid)), gamma, lam
    )
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(returns, found + values)


def test_one_environment_gives_the_same_numbers_as_a_column_of_many():
    rewards, values, final, terminated, truncated, valid = _window(3, 40, 5)
    together, _ = compute_gae(
        rewards, values, terminated=terminated, truncated=truncated, final_values=final, valid=valid
    )
    for b in range(5):
        alone, _ = compute_gae(
            rewards[:, b], values[:, b], terminated=terminated[:, b], truncated=truncated[:, b],
            final_values=final[:, b], valid=valid[:, b],
        )  # fmt: skip
        np.testing.assert_allclose(alone, together[:, b], rtol=1e-12, atol=1e-12)


def test_a_termination_is_worth_nothing_and_a_truncation_its_final_value():
    ended, _ = compute_gae(
        [1.0], [0.0], terminated=[True], truncated=[False], final_values=[100.0], gamma=0.9
    )
    cut, _ = compute_gae([1.0], [0.0], terminated=[False], truncated=[True], final_values=[100.0], gamma=0.9)
    assert ended.tolist() == [1.0]
    assert cut.tolist() == [91.0]


def test_the_published_form_takes_dones_and_a_last_value():
    advantages, returns = compute_gae([1.0, 1.0, 1.0], [0.5, 0.5, 0.5], [False, True, False], 0.9, 1.0, 2.0)
    assert advantages.tolist() == pytest.approx([1 + 0.9 * 1.0 - 0.5, 0.5, 1 + 0.9 * 2 - 0.5])
    assert returns.tolist() == pytest.approx([1.9, 1.0, 2.8])


def test_lambda_one_gives_the_monte_carlo_return():
    rewards = np.arange(5.0)
    _, returns = compute_gae(rewards, np.full(5, 7.0), [False] * 4 + [True], 0.5, 1.0)
    assert returns[0] == pytest.approx(sum(0.5**t * t for t in range(5)))


def test_nothing_flows_across_an_episode_end():
    rewards = np.zeros(6)
    dones = [False, False, True, False, False, True]
    before, _ = compute_gae(rewards, np.zeros(6), dones)
    rewards[3:] = 1000.0
    after, _ = compute_gae(rewards, np.zeros(6), dones)
    np.testing.assert_array_equal(before[:3], after[:3])


def test_a_truncation_without_its_final_value_is_refused():
    with pytest.raises(ValueError, match="step \\[1\\] was truncated but final_values are not given"):
        compute_gae([0.0, 0.0], [0.0, 0.0], terminated=[False, False], truncated=[False, True])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(values=[0.0]), "values have shape"),
        (dict(values=[0.0, 0.0], dones=[True]), "terminated have shape"),
        (dict(values=[0.0, 0.0], dones=[True, True], truncated=[True, True]), "give one form or the other"),
    ],
)
def test_arguments_that_do_not_fit_together_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        compute_gae([0.0, 0.0], **arguments)
