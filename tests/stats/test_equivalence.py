from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optix_bus.stats import classical_test, equivalence_test, required_window, resolvable_margin
from optix_bus.stats.equivalence import filling
from tests.oracles.slope import slope_test
from tests.stats.curves import noise


def white(seed: int, length: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=length)


def test_the_bound_is_the_upper_end_of_slope_times_window():
    scores = white(1).tolist()
    report = equivalence_test(scores, 2.0)
    assert report.bound == pytest.approx(slope_test(scores)["bound"], rel=0.01)
    assert report.not_excluded == max(report.bound, 0.0)
    assert (report.window, report.method) == (60, "equivalence")


def test_a_plateau_takes_three_looks_running():
    flat = white(2)
    looks = 0
    verdicts = []
    for _ in range(3):
        report = equivalence_test(flat, 5.0, looks_before=looks)
        looks = report.looks
        verdicts.append(report.verdict)
    assert verdicts == ["passed", "passed", "plateau"]


def test_one_look_that_fails_starts_the_count_again():
    assert equivalence_test(white(3) + 0.2 * np.arange(60), 5.0, looks_before=2).looks == 0


def test_a_noiseless_plateau_passes_at_any_margin_and_a_noiseless_rise_at_none_below_it():
    assert equivalence_test([500.0] * 20, 0.0, looks_before=2).verdict == "plateau"
    rise = [10.0 * i for i in range(20)]
    assert equivalence_test(rise, 199.0).verdict == "rising"
    assert equivalence_test(rise, 201.0).verdict == "passed"


def test_a_falling_curve_is_no_plateau():
    report = equivalence_test(white(4) - 0.5 * np.arange(60), 5.0, looks_before=2)
    assert report.verdict == "falling"
    assert report.looks == 0


def test_less_data_makes_the_equivalence_test_wait_and_the_classical_test_stop():
    rising = white(5, 200) + 0.1 * np.arange(200)
    few, many = rising[:8], rising
    assert classical_test(few).verdict == "plateau"
    assert classical_test(many).verdict == "rising"
    assert equivalence_test(few, 0.4).looks == 0
    assert equivalence_test(many, 0.4).looks == 0


def test_more_episodes_sharpen_the_test_instead_of_moving_it():
    coarse = equivalence_test(white(6), 2.0)
    fine = equivalence_test(white(6) / 3.0, 2.0)
    assert fine.margin == coarse.margin
    assert fine.bound - fine.rise == pytest.approx((coarse.bound - coarse.rise) / 3.0, rel=1e-6)


@pytest.mark.parametrize("r", [0.0, 0.3, 0.6])
def test_a_rise_of_exactly_the_margin_passes_in_at_most_one_look_of_twenty(r):
    passed = 0
    for seed in range(400):
        scores = noise(np.random.default_rng(seed), 80, r) + 3.0 * np.arange(80) / 80
        passed += equivalence_test(scores, 3.0).looks
    assert passed / 400 <= 0.075


@pytest.mark.parametrize("r", [0.0, 0.3, 0.6])
def test_the_power_formula_gives_windows_that_see_a_plateau(r):
    margin = 1.2
    window = int(required_window(1.0, margin, r))
    seen = sum(
        equivalence_test(noise(np.random.default_rng(seed), window, r), margin).looks for seed in range(300)
    )
    assert seen / 300 >= 0.85


def test_the_power_formula_is_the_one_of_the_specification():
    assert required_window(2.0, 1.0, 0.5) == math.ceil(12 * 3 * (2.93 * 2.0) ** 2)
    assert required_window(0.1, 100.0, 0.0) == 20
    assert required_window(0.0, 0.0, 0.0) == 20
    assert math.isinf(required_window(1.0, 0.0, 0.0))


@given(st.floats(0.01, 100.0), st.integers(20, 500), st.floats(0.0, 0.9))
def test_what_a_window_resolves_shrinks_with_its_length_and_grows_with_noise(sd, window, r):
    margin = resolvable_margin(sd, window, r)
    assert resolvable_margin(sd, 4 * window, r) == pytest.approx(margin / 2.0)
    assert resolvable_margin(2 * sd, window, r) == pytest.approx(2 * margin)
    assert required_window(sd, margin, r) >= window


def test_a_report_can_be_sent_as_json():
    report = filling("equivalence", 15, 1.0, 3)
    assert math.isinf(report.bound)
    found = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert found["bound"] is None
    assert found["window"] == 15


def test_the_uncorrected_classical_test_is_fooled_by_correlation():
    stopped = {True: 0, False: 0}
    for seed in range(200):
        wandering = noise(np.random.default_rng(seed), 20, 0.6)
        for corrected in stopped:
            stopped[corrected] += classical_test(wandering, corrected=corrected).verdict == "rising"
    assert stopped[False] > 2 * stopped[True]


def test_a_process_that_runs_the_test_stays_small():
    code = (
        "import psutil; from optix_bus.loop import LoopMachine, LoopSettings, Evaluation\n"
        "machine = LoopMachine(LoopSettings())\n"
        "[machine.judge(Evaluation(i, i, 0, min(50.0 * i, 500.0) + i % 3, 20, .2, 1.)) for i in range(40)]\n"
        "import sys; assert 'scipy.special' in sys.modules\n"
        "assert 'scipy.stats' not in sys.modules and 'torch' not in sys.modules\n"
        "print(psutil.Process().memory_info().rss)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 70 * 2**20
