from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from optix_bus.stats import bootstrap_interval, interquartile_mean, mean

SCORES = st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=20)


@given(SCORES)
def test_the_interquartile_mean_is_the_trimmed_mean_of_a_quarter_on_each_side(scores):
    expected = scipy_stats.trim_mean(scores, 0.25)
    assert float(interquartile_mean(scores)) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_one_failed_run_of_five_moves_the_mean_and_not_the_interquartile_mean():
    good, failed = [480.0, 490.0, 500.0, 500.0, 500.0], [9.0, 490.0, 500.0, 500.0, 500.0]
    assert float(interquartile_mean(failed)) == float(interquartile_mean(good))
    assert float(mean(failed)) < float(mean(good)) - 90.0


@given(SCORES)
def test_the_same_scores_always_give_the_same_interval_and_it_lies_between_the_extremes(scores):
    found = bootstrap_interval(scores, resamples=200)
    assert found == bootstrap_interval(scores, resamples=200)
    assert min(scores) - 1e-6 <= found.low <= found.high <= max(scores) + 1e-6
    assert found.n == len(scores)


@pytest.mark.parametrize("statistic", [interquartile_mean, mean])
def test_the_interval_of_twenty_seeds_holds_the_true_value_about_as_often_as_it_says(statistic):
    runs = 300
    inside = 0
    for seed in range(runs):
        found = bootstrap_interval(
            np.random.default_rng(seed).normal(3.0, 1.0, 20), statistic, resamples=1000, seed=seed
        )
        inside += found.low <= 3.0 <= found.high
    # With 20 values the percentile interval holds about 92 %; 88 to 97 is what 300 runs tell from that.
    assert 0.88 <= inside / runs <= 0.975


def test_a_single_run_has_no_interval():
    found = bootstrap_interval([7.0])
    assert (found.estimate, found.n) == (7.0, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize("wrong", [[], [1.0, math.nan], [[1.0, 2.0]]])
def test_scores_that_are_no_scores_are_refused(wrong):
    with pytest.raises(ValueError, match="one finite number for each seed"):
        bootstrap_interval(wrong)


def test_what_is_no_confidence_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        bootstrap_interval([1.0, 2.0], confidence=95)
    with pytest.raises(ValueError, match="at least one"):
        interquartile_mean([])
