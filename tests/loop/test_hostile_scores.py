"""Scores as they come in life: without evidence, constant, tiny, huge, negative. Each has its outcome."""

from __future__ import annotations

import math

import numpy as np
import pytest

from optix_bus.loop import Evaluation, LoopMachine, LoopSettings

RNG = np.random.default_rng(4)
#: A rise, a plateau of 45 evaluations, and a fall to a third; noise 1.
CURVE = np.concatenate([np.linspace(0.0, 100.0, 20), np.full(45, 100.0), np.full(6, 30.0)])
CURVE = CURVE + RNG.normal(size=len(CURVE))
SPREAD, EPISODES = 4.5, 20


def verdicts(scores, scale=1.0, **settings):
    machine = LoopMachine(LoopSettings(**settings))
    found = []
    for index, score in enumerate(np.asarray(scores, float) * scale):
        seen = Evaluation(
            index, index, 0, float(score), EPISODES, scale * 1.0, scale * SPREAD, 1000 * (index + 1)
        )
        found.append(machine.judge(seen).verdict)
    return found, machine


@pytest.mark.parametrize("scale", [1e12, 1e3, 1e-3, 1e-12, 1e150, 1e-150])
def test_the_unit_of_the_score_decides_nothing(scale):
    expected, machine = verdicts(CURVE, min_degradation_drop=0.0)
    assert expected.count("dormant") == 1
    assert "degraded" in verdicts(CURVE, min_degradation_drop=0.0, dormant_threshold=1000)[0]
    found, scaled = verdicts(CURVE, scale, min_degradation_drop=0.0)
    assert found == expected
    assert scaled.best_score == pytest.approx(scale * machine.best_score, rel=1e-9)


def test_below_the_smallest_drop_nothing_is_a_degradation_and_everything_else_is_decided_alike():
    expected, _ = verdicts(CURVE, dormant_threshold=1000, min_degradation_drop=0.0)
    found, _ = verdicts(CURVE, 1e-12, dormant_threshold=1000)
    assert "degraded" in expected
    assert "degraded" not in found
    first = expected.index("degraded")
    assert found[:first] == expected[:first]


@pytest.mark.parametrize("below", [100.0, 1000.0, 1e6])
def test_negative_scores_are_called_done_when_others_are(below):
    expected, _ = verdicts(CURVE[:65])
    found, machine = verdicts(CURVE[:65] - below)
    assert found.index("dormant") == expected.index("dormant")
    assert machine.best_score < 0.0 or below == 100.0


def test_a_fall_of_a_negative_score_is_measured_by_its_size():
    scores = np.concatenate([np.linspace(-300.0, -100.0, 20), np.full(10, -100.0), np.full(5, -104.0)])
    assert "degraded" not in verdicts(scores, noise_k=0.0)[0]
    scores[-5:] = -106.0
    assert "degraded" in verdicts(scores, noise_k=0.0)[0]


def test_at_a_best_of_zero_noise_and_the_smallest_drop_decide():
    scores = np.concatenate([np.linspace(-20.0, 0.0, 21), np.zeros(10), np.full(5, -0.5)])
    assert "degraded" in verdicts(scores, noise_k=0.0)[0]
    assert "degraded" not in verdicts(scores, noise_k=0.0, min_degradation_drop=1.0)[0]


@pytest.mark.parametrize("level", [0.0, 500.0, -200.0, 1e-12, 1e12])
def test_a_constant_score_is_not_called_done_without_a_floor_and_the_report_says_why(level):
    found, machine = verdicts(np.full(300, level))
    assert "dormant" not in found
    assert machine.scheduler.current_interval == 100
    assert any("set score_floor or target_score" in line for line in machine.report_lines())
    done, _ = verdicts(np.full(60, level), score_floor=level)
    assert "dormant" in done


@pytest.mark.parametrize("nothing", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_no_evidence_wherever_it_comes(nothing):
    expected, machine = verdicts(CURVE[:65])
    scores = np.insert(CURVE[:65], [0, 3, 30, 50], nothing)
    found, other = verdicts(scores)
    assert found.count("unscored") == 4
    assert [verdict for verdict in found if verdict != "unscored"] == expected
    assert other.best_score == machine.best_score


def test_a_run_of_nothing_but_nan_has_no_best_and_says_that_there_was_no_evidence():
    found, machine = verdicts(np.full(30, math.nan))
    assert set(found) == {"unscored"}
    assert machine.best is None
    assert machine.report_lines() == ["convergence: not converged; no evaluation held evidence"]


def test_an_episode_spread_that_is_no_number_is_taken_from_the_scores():
    machine = LoopMachine(LoopSettings())
    found = [machine.judge(Evaluation(i, i, 0, float(s))).verdict for i, s in enumerate(CURVE[:65])]
    assert "dormant" in found
