"""The noise of a variant follows its three signals, each against the formula written out."""

from __future__ import annotations

import numpy as np
import pytest

from optix_bus.evolution.noise import variant_noise
from tests.evolution.histories import scored, validated


def by_hand(val, train, low, high, max_slope):
    """The formula of the documents, step by step."""
    v, t = np.array(val, float), np.array(train, float)
    trend = np.clip(np.polyfit(np.arange(len(v)), v, 1)[0] / max_slope, 0, 1)
    gap = np.clip(np.mean(t - v) / abs(np.mean(v)), 0, 1)
    corr = np.clip(1 - np.corrcoef(t, v)[0, 1], 0, 1)
    effective = trend * (1 - 0.5 * gap) * (1 - 0.5 * corr)
    return high - effective * (high - low)


@pytest.mark.parametrize("seed", range(20))
def test_the_three_signals_make_the_noise_that_the_formula_says(seed):
    rng = np.random.default_rng(seed)
    val = 10 + np.cumsum(rng.normal(0.3, 1.0, 10))
    train = val + rng.normal(1.0, 1.0, 10)
    found = variant_noise(validated(val, train), 0.001, 0.1, 10, max_slope=0.7)
    assert found.scale == pytest.approx(by_hand(val, train, 0.001, 0.1, 0.7))


def test_only_the_latest_evaluations_count():
    val, train = [500.0] * 30 + list(range(10, 20)), [0.0] * 30 + list(range(11, 21))
    assert variant_noise(validated(val, train)) == variant_noise(validated(val[30:], train[30:]))


def test_what_improves_steadily_and_together_is_hardly_moved_and_a_plateau_is_moved_most():
    rising = [10.0 * n for n in range(1, 11)]
    assert variant_noise(validated(rising, rising)).scale == pytest.approx(0.001)
    flat = variant_noise(validated([5.0] * 10, [5.0] * 10))
    assert (flat.scale, flat.trend) == (0.1, 0.0)


@pytest.mark.parametrize("shift", [2.0, 8.0])
def test_a_gap_and_a_lost_correlation_each_raise_the_noise_by_at_most_half(shift):
    rising = np.arange(10.0) + 20.0
    healthy = variant_noise(validated(rising, rising), max_slope=1.0)
    gap = variant_noise(validated(rising, rising + shift), max_slope=1.0)
    moved = variant_noise(validated(rising, rising[::-1]), max_slope=1.0)
    assert healthy.scale < gap.scale < 0.06
    assert gap.gap_penalty == pytest.approx(shift / rising.mean())
    assert (moved.correlation_penalty, moved.scale) == (1.0, pytest.approx(0.1 - 0.5 * 0.099))


def test_without_validation_the_noise_is_the_base_over_one_plus_the_improvement():
    assert variant_noise(scored(10.0, 12.0, 15.0)).scale == pytest.approx(0.1 / 1.5)
    assert variant_noise(scored(15.0, 12.0, 10.0)).scale == 0.1


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_unit_of_the_score_and_its_sign_leave_the_noise_in_its_bounds(scale, sign):
    val = sign * scale * np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0])
    found = variant_noise(validated(val, val * 1.1))
    assert 0.001 <= found.scale <= 0.1
    plain = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0]) * sign
    assert found.scale == pytest.approx(variant_noise(validated(plain, plain * 1.1)).scale)


def test_no_evidence_means_the_most_noise():
    nan = float("nan")
    assert variant_noise([]).scale == 0.1
    assert variant_noise(scored(nan, nan, 1.0)).scale == 0.1
    assert variant_noise(validated([1.0, 2.0, nan], [1.0, nan, 3.0])).scale <= 0.1
