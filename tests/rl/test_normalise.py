from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optix_bus.rl import ObsNormalizer, RewardNormalizer, RunningMeanStd


@settings(max_examples=40, deadline=None)
@given(
    chunks=st.lists(st.integers(0, 20), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
    shift=st.floats(-1e3, 1e3),
)
def test_moments_do_not_depend_on_how_the_data_arrive(chunks, seed, shift):
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal((n, 3)) * 5 + shift for n in chunks]
    piecewise, at_once = RunningMeanStd((3,)), RunningMeanStd((3,))
    for part in parts:
        piecewise.update(part)
    at_once.update(np.concatenate(parts))
    np.testing.assert_allclose(piecewise.mean, at_once.mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(piecewise.var, at_once.var, rtol=1e-7, atol=1e-7)


def test_many_items_outweigh_the_prior():
    data = np.random.default_rng(0).normal(50.0, 3.0, 20_000)
    moments = RunningMeanStd()
    moments.update(data)
    assert float(moments.mean) == pytest.approx(data.mean(), abs=1e-6)
    assert float(moments.var) == pytest.approx(data.var(), rel=1e-4)


def test_normalised_observations_have_mean_zero_and_are_clipped():
    normalizer = ObsNormalizer(shape=(2,), clip=2.0)
    data = np.random.default_rng(1).normal([100.0, -5.0], [10.0, 0.1], (500, 2))
    normalizer.update(data)
    scaled = normalizer.normalize(data)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(0), 0.0, atol=0.05)
    assert normalizer.normalize(np.array([1e9, -1e9])).tolist() == [2.0, -2.0]


def test_both_published_spellings_of_the_shape_work_and_one_is_needed():
    assert ObsNormalizer(obs_shape=(3,)).shape == ObsNormalizer(shape=(3,)).shape == ObsNormalizer((3,)).shape
    with pytest.raises(ValueError, match="exactly one"):
        ObsNormalizer()
    with pytest.raises(ValueError, match="exactly one"):
        ObsNormalizer(shape=(3,), obs_shape=(3,))


def test_a_frozen_normaliser_learns_nothing():
    normalizer = ObsNormalizer((1,))
    normalizer.frozen = True
    normalizer.update(np.full((10, 1), 5.0))
    assert normalizer.mean.tolist() == [0.0]


def test_items_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="expected"):
        ObsNormalizer((3,)).update(np.zeros((10, 2)))


def test_the_reward_keeps_its_sign_and_scales_by_the_std_of_the_return():
    normalizer, rng = RewardNormalizer(gamma=0.9, clip=10.0), np.random.default_rng(0)
    returns, running = [], 0.0
    for t in range(3000):
        reward = float(rng.normal(1.0, 2.0))
        running = running * 0.9 + reward
        returns.append(running)
        normalizer.step(reward)
        if t % 100 == 99:
            normalizer.reset()
            running = 0.0
    assert normalizer.std == pytest.approx(np.std(returns), rel=1e-3)
    scaled = normalizer.normalize([-4.0, 0.0, 4.0])
    assert scaled.tolist() == pytest.approx([-4.0 / normalizer.std, 0.0, 4.0 / normalizer.std])
    assert normalizer.normalize(1e9) == 10.0


def test_a_whole_window_counts_like_its_steps_for_each_environment():
    rng = np.random.default_rng(2)
    rewards, dones = rng.standard_normal((60, 3)), rng.random((60, 3)) < 0.1
    whole, stepwise = RewardNormalizer(), RewardNormalizer()
    whole.update(rewards[:25], dones[:25])
    whole.update(rewards[25:], dones[25:])
    for reward, done in zip(rewards, dones, strict=True):
        stepwise.step(reward)
        stepwise.reset(done)
    assert whole.std == pytest.approx(stepwise.std, rel=1e-6)
    np.testing.assert_allclose(whole.state()["returns"], stepwise.state()["returns"])


def test_rows_that_are_no_transitions_leave_no_trace():
    with_gap, without = RewardNormalizer(), RewardNormalizer()
    with_gap.update([1.0, 2.0, 999.0, 3.0], [False, True, False, False], [True, True, False, True])
    without.update([1.0, 2.0, 3.0], [False, True, False])
    assert with_gap.std == without.std
    assert with_gap.state()["returns"] == without.state()["returns"]


@pytest.mark.parametrize("make", [lambda: ObsNormalizer((2,)), RewardNormalizer])
def test_a_saved_normaliser_goes_on_alike(make):
    first, second = make(), make()
    data = np.random.default_rng(0).standard_normal((50, 2))
    if isinstance(first, ObsNormalizer):
        first.update(data)
    else:
        first.update(data, np.zeros(data.shape, bool))
    second.load_state(first.state())
    np.testing.assert_array_equal(first.normalize(data), second.normalize(data))
    assert {k: v.tolist() for k, v in first.state().items()} == {
        k: v.tolist() for k, v in second.state().items()
    }
