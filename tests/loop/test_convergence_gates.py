"""Seeded simulations: how often the test stops a curve that still rises, and how soon it sees a plateau.

The full table is `python -m tests.benchmarks.table_convergence`.
"""

from __future__ import annotations

import numpy as np
import pytest

from optix_bus.loop import ConvergenceWatch, LoopSettings
from tests.benchmarks.convergence_curves import EPISODES, Curve, noise
from tests.benchmarks.table_convergence import classical, equivalence, simulate, window_for

RUNS = 40

#: Four of forty is what a rate of 5 % exceeds once in twenty times.
ALLOWED = 4


@pytest.mark.parametrize("kind", ["exponential", "ramp", "square root"])
@pytest.mark.parametrize("r", [0.0, 0.3, 0.6])
@pytest.mark.parametrize(("amplitude", "ratio"), [(20.0, 1.0), (100.0, 0.5)])
def test_a_rise_is_rarely_stopped_before_95_percent_and_its_plateau_is_found(kind, r, amplitude, ratio):
    window = window_for(amplitude, r)
    curve = Curve(kind, amplitude, ratio * window)
    runs = RUNS if amplitude > 20.0 or r == 0.0 else 20
    # At the smallest window 20 evaluations do not tell correlation from a trend: where in doubt it waits.
    patience = 3 * window if amplitude == 100.0 and r > 0.0 else window
    early, found, _ = simulate(equivalence, curve, r, patience, runs)
    assert early <= ALLOWED * runs / RUNS
    assert found >= 0.9 * runs


def test_a_curve_that_rises_one_and_a_half_margins_per_window_is_kept_going():
    margin, stopped = 2.0, 0
    for run in range(60):
        rng = np.random.default_rng([5, run])
        watch = ConvergenceWatch(LoopSettings(convergence_margin=margin))
        window = 29
        scores = 1.5 * margin / window * np.arange(4 * window) + noise(rng, 4 * window, 0.0)
        for score in scores:
            watch.record(float(score), std=EPISODES**0.5, n=EPISODES)
            if watch.converged:
                stopped += 1
                break
    assert stopped <= 1


def test_the_classical_test_stops_most_of_the_same_curves():
    window = window_for(20.0, 0.0)
    early, _, _ = simulate(classical, Curve("exponential", 20.0, float(window)), 0.0, window, RUNS)
    assert early >= 0.7 * RUNS


def test_a_window_that_looks_calm_by_luck_is_not_taken_for_long_enough():
    """With correlated noise a short window underestimates both noise and correlation."""
    windows = []
    for run in range(20):
        watch = ConvergenceWatch(LoopSettings(convergence_margin=2.0))
        for score in noise(np.random.default_rng([7, run]), 200, 0.6):
            watch.record(float(score), std=EPISODES**0.5, n=EPISODES)
            if watch.converged:
                windows.append(watch.window)
                break
    assert not windows or np.median(windows) >= 60


def test_the_plateau_is_judged_without_the_rise_before_it():
    watch = ConvergenceWatch(LoopSettings())
    rng = np.random.default_rng(0)
    for index in range(60):
        score = min(500.0, 15.0 * index) + float(rng.normal())
        watch.record(score, std=4.5, n=20)
    assert watch.converged
    assert watch.window == 20
    assert watch.report is not None
    assert watch.report.noise < 2.0


def test_one_freak_evaluation_at_the_start_does_not_set_the_scale():
    def margin(first: float) -> float:
        watch = ConvergenceWatch(LoopSettings())
        for index in range(40):
            watch.record(first if index == 0 else min(100.0, 5.0 * index), std=0.0, n=20)
        assert watch.report is not None
        return watch.report.margin

    assert margin(-10_000.0) == pytest.approx(margin(0.0), rel=0.2)
