"""Regimes are told apart by what is left without the trend."""

from __future__ import annotations

import numpy as np
import pytest

from optix_bus import RegimeDetector
from tests.evolution.histories import scored


def line(slope, noise, level=100.0, n=10):
    """A line with noise that swings evenly around it."""
    return [level + slope * (k - (n - 1) / 2) + noise * (-1) ** k for k in range(n)]


@pytest.mark.parametrize(
    ("scores", "regime"),
    [
        (line(0.0, 1.0), "ranging"),
        (line(6.0, 1.0), "trending"),
        (line(-6.0, 1.0), "trending"),
        (line(0.0, 25.0), "volatile"),
        (line(6.0, 25.0), "volatile"),
        ([5.0] * 10, "ranging"),
        ([0.0] * 10, "ranging"),
        ([1.0, 900.0], "ranging"),
        ([], "ranging"),
    ],
)
def test_trending_ranging_volatile(scores, regime):
    assert RegimeDetector().detect(scored(*scores)) == regime


def test_a_steady_rise_is_no_volatility_however_far_it_goes():
    scores = line(18.0, 0.5)
    assert np.std(scores) / np.mean(scores) > 0.2
    assert RegimeDetector().detect(scored(*scores)) == "trending"


def test_only_the_window_counts_and_the_unit_does_not():
    detector = RegimeDetector(window=5)
    assert detector.detect(scored(0, 900, 0, 900, *[50.0] * 5)) == "ranging"
    for unit in (1e-9, 1.0, 1e9):
        assert detector.detect(scored(*[unit * s for s in line(6.0, 1.0)])) == "trending"


def test_thresholds_are_the_users():
    assert RegimeDetector(volatility_threshold=0.001).detect(scored(*line(0.0, 1.0))) == "volatile"
    assert RegimeDetector(trend_threshold=0.5).detect(scored(*line(6.0, 1.0))) == "ranging"


def test_a_subclass_decides_by_signals_of_its_own():
    class Market(RegimeDetector):
        def detect(self, metrics_history):
            return "volatile" if len(metrics_history) > 3 else super().detect(metrics_history)

    assert Market().detect(scored(1, 1, 1)) == "ranging"
    assert Market().detect(scored(1, 1, 1, 1)) == "volatile"
