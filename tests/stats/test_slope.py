from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optix_bus.stats import fit_slope, t_quantile
from tests.oracles.slope import slope_test
from tests.stats.curves import noise

SERIES = st.lists(st.floats(-1e4, 1e4).map(lambda value: round(value, 3)), min_size=6, max_size=60)


@given(SERIES)
@settings(max_examples=150, deadline=None)
def test_every_number_of_the_fit_equals_the_formula(scores):
    fit = fit_slope(scores)
    if fit.residual_sd == 0.0:
        return
    expected = slope_test(scores)
    assert fit.slope == pytest.approx(expected["slope"], rel=1e-6, abs=1e-6)
    assert fit.r == pytest.approx(expected["r"], rel=1e-5, abs=1e-5)
    assert fit.n_eff == pytest.approx(expected["n_eff"], rel=1e-4)
    assert fit.residual_sd == pytest.approx(expected["residual_sd"], rel=1e-6)
    if fit.n_eff > 2.5:
        assert fit.standard_error == pytest.approx(expected["standard_error"], rel=1e-3)
    if fit.n_eff > 4.0:  # below, the quantile is so steep that its rounding shows
        width = expected["bound"] - expected["slope"] * len(scores)
        assert fit.half_width == pytest.approx(width, rel=0.01, abs=1e-2)


@given(SERIES, st.floats(-1e3, 1e3), st.floats(0.1, 100.0))
@settings(max_examples=80, deadline=None)
def test_the_fit_follows_shift_and_scale_of_the_scores(scores, shift, scale):
    fit = fit_slope(scores)
    moved = fit_slope([scale * score + shift for score in scores])
    if fit.residual_sd > 1e-3:
        assert moved.slope == pytest.approx(scale * fit.slope, rel=1e-6, abs=1e-6)
        assert moved.residual_sd == pytest.approx(scale * fit.residual_sd, rel=1e-6)
        assert moved.r_corrected == pytest.approx(fit.r_corrected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("level", [500.0, 0.0, -1e9, 0.1])
def test_a_noiseless_plateau_has_exactly_no_slope_and_no_uncertainty(level):
    fit = fit_slope([level] * 20)
    assert (fit.slope, fit.residual_sd, fit.standard_error, fit.half_width) == (0.0, 0.0, 0.0, 0.0)


def test_a_noiseless_line_has_its_slope_and_no_uncertainty():
    fit = fit_slope([100.0 + 0.1 * i for i in range(30)])
    assert fit.slope == pytest.approx(0.1)
    assert fit.standard_error == 0.0


def test_negative_correlation_is_not_taken_for_more_evidence_than_there_are_scores():
    fit = fit_slope([float(i % 2) for i in range(40)])
    assert fit.r < -0.9
    assert fit.n_eff == 40.0


def test_scores_that_wander_together_say_nothing():
    fit = fit_slope(np.concatenate([np.full(5, 0.0), np.full(5, 1.0), np.full(5, 0.0)]))
    assert fit.n_eff < 6
    assert fit.half_width > 1.0 or math.isinf(fit.half_width)


def estimates(n, r, runs=300):
    fits = [fit_slope(noise(np.random.default_rng(seed), n, r)) for seed in range(runs)]
    return np.array([fit.r for fit in fits]), np.array([fit.r_corrected for fit in fits])


def test_the_correction_takes_the_bias_away_where_the_correlation_is_the_usual_one():
    raw, corrected = estimates(40, 0.3)
    assert raw.mean() < 0.26
    assert abs(corrected.mean() - 0.3) < 0.03


def test_few_scores_are_drawn_towards_the_usual_correlation_and_many_speak_for_themselves():
    few_raw, few = estimates(20, 0.6)
    assert few.std() < 0.8 * few_raw.std()
    _, many = estimates(400, 0.6, 60)
    assert abs(many.mean() - 0.6) < 0.03


@pytest.mark.parametrize("r", [0.0, 0.3, 0.6])
def test_the_interval_covers_the_true_slope_as_often_as_it_says(r):
    inside = 0
    for seed in range(400):
        fit = fit_slope(noise(np.random.default_rng(seed), 60, r) + 0.02 * np.arange(60))
        inside += fit.rise + fit.half_width >= 0.02 * 60
    assert inside / 400 >= 0.92


@pytest.mark.parametrize("scores", [[1.0, 2.0], [1.0, math.nan, 2.0, 3.0], [[1.0, 2.0, 3.0]]])
def test_too_few_or_unusable_scores_are_refused(scores):
    with pytest.raises(ValueError, match="three finite numbers"):
        fit_slope(scores)


def test_the_quantile_is_that_of_student():
    assert t_quantile(0.95, 10.0) == pytest.approx(1.8125, abs=1e-4)
    assert t_quantile(0.95, 1e4) == pytest.approx(1.6450, abs=1e-3)
