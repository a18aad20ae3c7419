from __future__ import annotations

import pytest

from optix_bus.types import EvalMetrics
from tests.optimizers.worlds import Loop, centre, tuner


def test_the_parameters_take_turns_and_only_one_is_tried_at_a_time():
    found, loop = tuner("backoff", 2), Loop(lambda x: 0.0, [0.5, 0.5])
    loop.run(found, 20, 0)
    tried = [{name for name, value in seen.items() if value != 0.5} for seen in loop.seen]
    assert all(len(names) <= 1 for names in tried)
    assert [tried[0], tried[5], tried[10]] == [{"p0"}, {"p1"}, {"p0"}]


def test_only_the_sign_of_a_difference_counts():
    places = []
    for scale in (1.0, 1000.0):
        found = tuner("backoff")
        Loop(lambda x, scale=scale: scale * float(x[0]), [0.2]).run(found, 30, 0)
        places.append(centre(found)[0])
    assert places[0] == places[1] > 0.2


def test_a_difference_that_noise_explains_is_not_accepted():
    moved = 0
    for seed in range(30):
        found = tuner("backoff", seed=seed)
        Loop(lambda x: 0.0, [0.5], noise=1.0, seed=seed).run(found, 50, 0)
        moved += found.centre["p0"] != 0.5
    # Ten comparisons in each of 30 runs, of which one in twenty may be believed by mistake.
    assert moved <= 18


def test_steps_grow_without_a_finding_and_on_a_plateau_and_shrink_after_a_reversal_and_an_improvement():
    found = tuner("backoff")
    Loop(lambda x: 0.0, [0.5]).run(found, 6, 0)
    grown = found.deltas["p0"]
    assert grown == pytest.approx(0.05 * 1.3)
    found.on_plateau([])
    assert found.deltas["p0"] == pytest.approx(grown * 1.5)
    found.on_improvement(EvalMetrics(1.0))
    assert found.deltas["p0"] == pytest.approx(grown * 1.5 * 0.9)
    for _ in range(20):
        found.on_improvement(EvalMetrics(1.0))
    assert found.deltas["p0"] == pytest.approx(0.05)
    for _ in range(20):
        found.on_plateau([])
    assert found.deltas["p0"] == pytest.approx(0.2)
    turning = tuner("backoff")
    Loop(lambda x: -abs(float(x[0]) - 0.51), [0.5]).run(turning, 150, 0)
    assert turning.deltas["p0"] < 0.05


def test_the_centre_never_moves_further_than_the_step_that_was_asked_for():
    found, loop = tuner("backoff"), Loop(lambda x: float(x[0]), [0.2])
    before = 0.2
    for _ in range(60):
        found.on_plateau([])
        loop.run(found, 1, 0)
        assert abs(centre(found)[0] - before) <= 0.05 + 1e-9
        before = centre(found)[0]
    assert before > 0.5
