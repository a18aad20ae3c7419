from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optix_bus.loop import BackoffScheduler
from optix_bus.types import LoopState


def step(scheduler: BackoffScheduler, score: float) -> str:
    scheduler.record_score(score)
    if scheduler.has_improved:
        scheduler.record_improvement(scheduler.smoothed)
        return "improved"
    scheduler.record_non_improvement()
    return "not improved"


def rise_then_flat(scheduler: BackoffScheduler, flat: int, noise: float = 0.0, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for index in range(20 + flat):
        step(scheduler, min(100.0, 5.0 * index) + noise * float(rng.normal()))


def test_it_starts_active_at_the_base_interval():
    scheduler = BackoffScheduler(base_interval=3)
    assert scheduler.current_state is LoopState.ACTIVE
    assert scheduler.current_interval == 3
    assert scheduler.best_score == -float("inf")
    assert scheduler.total_episodes == 0


def test_the_first_score_is_an_improvement():
    assert step(BackoffScheduler(), -1e6) == "improved"


def test_it_cools_down_after_the_plateau_threshold():
    scheduler = BackoffScheduler(plateau_threshold=4)
    step(scheduler, 1.0)
    for _ in range(3):
        step(scheduler, 1.0)
    assert scheduler.current_state is LoopState.ACTIVE
    step(scheduler, 1.0)
    assert scheduler.current_state is LoopState.COOLING
    assert scheduler.consecutive_non_improvements == 4


def test_the_interval_stays_at_the_base_until_the_convergence_window_is_full_and_backs_off_only_then():
    scheduler = BackoffScheduler(backoff_factor=2.0, max_interval_episodes=10)
    seen = []
    for _ in range(37):
        step(scheduler, 1.0)  # flat from the start: the guard keeps it from going to sleep
        seen.append(scheduler.current_interval)
    assert seen[:31] == [1] * 31
    assert seen[31:] == [2, 4, 8, 10, 10, 10]
    assert scheduler.current_state is LoopState.COOLING


def test_an_improvement_resets_interval_and_state():
    scheduler = BackoffScheduler()
    for _ in range(40):
        step(scheduler, 1.0)
    assert scheduler.current_interval > 1
    step(scheduler, 50.0)
    assert scheduler.current_state is LoopState.ACTIVE
    assert scheduler.current_interval == 1


def test_a_noiseless_plateau_after_a_rise_is_converged_within_thirty_scores():
    scheduler = BackoffScheduler()
    rise_then_flat(scheduler, 30)
    assert scheduler.is_converged()
    assert scheduler.current_state is LoopState.DORMANT


def test_flat_noisy_scores_after_a_rise_become_dormant_and_the_interval_does_not_blind_it():
    scheduler = BackoffScheduler()
    rng = np.random.default_rng(0)
    windows = 0
    while scheduler.current_state is not LoopState.DORMANT and windows < 1000:
        if scheduler.should_adapt(windows):
            step(scheduler, min(100.0, 3.0 * windows) + 5.0 * float(rng.normal()))
        windows += 1
    assert windows < 300


def test_dormant_threshold_counts_scores_before_the_test_is_consulted():
    scheduler = BackoffScheduler(dormant_threshold=60)
    rise_then_flat(scheduler, 55)
    assert scheduler.is_converged()
    assert scheduler.current_state is LoopState.COOLING
    rise_then_flat(BackoffScheduler(dormant_threshold=60), 65)


def test_min_episodes_before_dormant_is_a_further_condition():
    scheduler = BackoffScheduler(min_episodes_before_dormant=90)
    rise_then_flat(scheduler, 60)
    assert scheduler.current_state is LoopState.COOLING
    for _ in range(15):
        step(scheduler, 100.0)
    assert scheduler.current_state is LoopState.DORMANT


def test_dormant_is_reversible():
    scheduler = BackoffScheduler()
    rise_then_flat(scheduler, 30)
    scheduler.start_watching()
    assert scheduler.current_state is LoopState.WATCHDOG
    step(scheduler, 200.0)
    step(scheduler, 200.0)
    assert scheduler.current_state is LoopState.ACTIVE
    assert scheduler.current_interval == 1


def test_the_margin_is_the_larger_of_the_users_and_the_noise():
    scheduler = BackoffScheduler(noise_k=2.0, improvement_margin=0.5)
    for index in range(20):
        scheduler.record_score(float(index % 2))
    assert scheduler.margin == pytest.approx(2.0 * scheduler.noise)
    assert scheduler.noise == pytest.approx(0.527, abs=0.01)
    quiet = BackoffScheduler(improvement_margin=0.5)
    for _ in range(5):
        quiet.record_score(1.0)
    assert quiet.margin == 0.5


def test_the_noise_leaves_the_trend_out():
    scheduler = BackoffScheduler()
    for index in range(20):
        scheduler.record_score(100.0 * index)
    assert scheduler.noise == pytest.approx(0.0, abs=1e-6)


def test_scores_are_smoothed_before_they_are_compared():
    scheduler = BackoffScheduler(score_smoothing=4)
    for score in (0.0, 0.0, 0.0, 8.0):
        scheduler.record_score(score)
    assert scheduler.smoothed == 2.0


def test_only_the_score_window_makes_the_noise():
    scheduler = BackoffScheduler(score_window=6)
    for score in [100.0, -100.0, 50.0] + [1.0] * 6:
        scheduler.record_score(score)
    assert scheduler.noise == 0.0


def test_a_degradation_is_a_drop_below_the_share_of_the_best():
    scheduler = BackoffScheduler(min_episodes_before_degradation=5, degradation_threshold=0.95)
    for _ in range(4):
        step(scheduler, 100.0)
    assert not scheduler.check_degradation(0.0)  # too early
    step(scheduler, 100.0)
    assert scheduler.check_degradation(94.9)
    assert not scheduler.check_degradation(95.1)


def test_a_negative_best_degrades_downwards():
    scheduler = BackoffScheduler(min_episodes_before_degradation=0)
    step(scheduler, -100.0)
    assert scheduler.check_degradation(-106.0)
    assert not scheduler.check_degradation(-104.0)
    assert not scheduler.check_degradation(-50.0)


def test_a_best_of_zero_needs_the_smallest_drop():
    scheduler = BackoffScheduler(min_episodes_before_degradation=0, min_degradation_drop=0.5)
    step(scheduler, 0.0)
    assert not scheduler.check_degradation(-0.4)
    assert scheduler.check_degradation(-0.6)


def test_noise_is_no_degradation():
    scheduler = BackoffScheduler()
    rng = np.random.default_rng(3)
    for _ in range(30):
        step(scheduler, 100.0 + 10.0 * float(rng.normal()))
    assert not scheduler.check_degradation(scheduler.best_score - 6.0)
    assert scheduler.check_degradation(scheduler.best_score - 40.0)


def test_a_degradation_and_a_restart_make_it_active_again():
    for name in ("record_degradation", "record_restart"):
        scheduler = BackoffScheduler()
        rise_then_flat(scheduler, 30)
        getattr(scheduler, name)()
        assert scheduler.current_state is LoopState.ACTIVE
        assert scheduler.consecutive_non_improvements == 0
        assert scheduler.current_interval == 1


def test_should_adapt_says_yes_once_an_interval():
    scheduler = BackoffScheduler(base_interval=3)
    assert [n for n in range(10) if scheduler.should_adapt(n)] == [0, 3, 6, 9]


def test_trends_are_tested_over_the_trend_window():
    scheduler = BackoffScheduler(trend_window=8)
    rng = np.random.default_rng(1)
    for index in range(8):
        assert not scheduler.is_improving()
        scheduler.record_score(index + 0.1 * float(rng.normal()))
    assert scheduler.is_improving()
    assert not scheduler.is_degrading()
    for index in range(8):
        scheduler.record_score(-index + 0.1 * float(rng.normal()))
    assert scheduler.is_degrading()


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60), st.integers(0, 59))
@settings(max_examples=40, deadline=None)
def test_a_scheduler_that_was_written_and_read_back_goes_on_identically(scores, cut):
    whole, first = BackoffScheduler(), BackoffScheduler()
    for score in scores[:cut]:
        step(whole, score)
        step(first, score)
    second = BackoffScheduler()
    second.load_state(json.loads(json.dumps(first.state(), allow_nan=False)))
    for score in scores[cut:]:
        assert step(whole, score) == step(second, score)
    assert whole.state() == second.state()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80))
@settings(max_examples=40, deadline=None)
def test_the_interval_never_leaves_its_bounds(scores):
    scheduler = BackoffScheduler(base_interval=2, max_interval_episodes=7)
    for score in scores:
        step(scheduler, score)
        assert 2 <= scheduler.current_interval <= 7
