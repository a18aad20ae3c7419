from __future__ import annotations

import json

import numpy as np
import pytest

from optix_bus.errors import ConfigurationError
from optix_bus.optimizers import AdaptiveOptimizer
from optix_bus.optimizers.routing import read
from tests.optimizers.worlds import Loop, centre, tuner


def correlated(r: float, n: int = 400) -> list[float]:
    """An AR(1) series around 10."""
    rng, value, found = np.random.default_rng(3), 0.0, []
    for _ in range(n):
        value = r * value + float(rng.normal())
        found.append(10.0 + value)
    return found


@pytest.mark.parametrize(("r", "route"), [(0.0, "spsa"), (0.8, "momentum"), (-0.8, "backoff")])
def test_the_noise_of_the_scores_decides(r, route):
    scores = correlated(r)
    routes = [reading.route for end in range(60, 400, 20) if (reading := read(scores[:end], gap=10.0))]
    assert routes.count(route) >= 0.8 * len(routes)


def test_a_trend_is_no_correlation():
    reading = read([3.0 * i + (i % 3) for i in range(40)])
    assert reading is not None
    assert abs(reading.autocorrelation) < 0.7
    assert reading.rank > 0.9


def test_scores_far_below_the_best_call_for_pbt_and_scores_a_little_below_do_not():
    collapse = [*np.linspace(10.0, 100.0, 20), 9.0, 8.0, 9.0]
    reading = read(collapse)
    assert reading is not None
    assert (reading.route, reading.reason) == ("pbt", "the newest scores lie 91% below the best")
    dip = [100.0, 101.0] * 10 + [99.0, 99.5, 99.0]
    assert read(dip).route != "pbt"  # type: ignore[union-attr]
    assert read([-5.0] * 20 + [-50.0] * 3).route == "pbt"  # type: ignore[union-attr]


def test_too_few_scores_say_nothing():
    assert read([1.0] * 9) is None
    assert read([1.0] * 10) is not None


def test_a_change_waits_for_confirmation_and_for_the_end_of_an_experiment():
    found = AdaptiveOptimizer({"p0": (0.0, 1.0)}, switch_confirmation=3, min_history=10)
    loop, script = Loop(lambda x: 0.0, [0.5]), iter([50.0] * 15 + [5.0] * 15)
    loop.objective = lambda x: next(script)
    switches = []
    for window in range(30):
        resting = found.active_optimizer.is_resting
        loop.run(found, 1, 0)
        if found.switched is not None:
            switches.append((window, found.switched))
        assert resting or found.active_optimizer is not None
    assert [switch.new for _, switch in switches][:1] == ["pbt"]
    window, switch = switches[0]
    assert window >= 17
    assert switch.old == "spsa"
    assert found.active == switches[-1][1].new


def test_who_takes_over_goes_on_from_the_same_centre():
    found = AdaptiveOptimizer({"p0": (0.0, 1.0)})
    rng = np.random.default_rng(0)
    loop, value = Loop(lambda x: 0.0, [0.5]), [0.0]

    def swinging(x: np.ndarray) -> float:
        value[0] = -0.9 * value[0] + float(rng.normal())
        return value[0]

    loop.objective = swinging
    before, changes = 0.5, 0
    for _ in range(200):
        loop.run(found, 1, 0)
        if found.switched is not None:
            changes += 1
            assert centre(found)[0] == pytest.approx(before, abs=0.21)
        before = centre(found)[0]
    assert changes >= 1


def test_a_state_in_the_middle_of_a_change_is_whole():
    def world() -> Loop:
        loop = Loop(lambda x: -float((x[0] - 0.8) ** 2), [0.2], noise=0.02)
        plain = loop.objective
        loop.objective = lambda x: plain(x) - (5.0 if 30 <= len(loop.made_by) <= 45 else 0.0)
        return loop

    whole, expected = tuner("adaptive"), world()
    expected.run(whole, 80, 2)
    for cut in (29, 36, 41, 52):
        first, again = tuner("adaptive"), world()
        again.run(first, cut, 2)
        second = tuner("adaptive", seed=9)
        second.load_state(json.loads(json.dumps(first.state())))
        again.run(second, 80 - cut, 2)
        assert again.seen == expected.seen


def test_the_population_of_pbt_knows_what_the_others_have_tried():
    found, loop = tuner("adaptive"), Loop(lambda x: -float((x[0] - 0.8) ** 2), [0.7])
    loop.run(found, 25, 0)  # the first score is of parameters that nobody has proposed
    assert len(found.active_optimizer.archive) == 24


@pytest.mark.parametrize(("dimensions", "first"), [(1, 0.45), (5, 0.45 / 5**0.5)])
def test_probes_begin_wide_and_end_as_narrow_as_those_of_spsa_alone(dimensions, first):
    found, loop = tuner("adaptive", dimensions), Loop(lambda x: 0.0, [0.5] * dimensions)
    loop.run(found, 1, 0)
    assert abs(loop.params.params["p0"] - 0.5) == pytest.approx(first)
    loop.run(found, 200, 0)
    widths = [abs(seen["p0"] - 0.5) for seen in loop.seen]
    assert max(widths[-6:]) == pytest.approx(0.1)


def test_a_size_that_was_asked_for_holds_from_the_first_probe_to_the_last():
    found = tuner("adaptive", 2, spsa_perturbation_scale=0.03)
    loop = Loop(lambda x: 0.0, [0.5, 0.5])
    loop.run(found, 100, 0)
    widths = {round(abs(seen["p0"] - 0.5), 6) for seen in loop.seen}
    assert widths == {0.0, 0.03}
    with pytest.raises(ConfigurationError, match=r"found perturbation_scale=0\.0"):
        tuner("adaptive", spsa_perturbation_scale=0.0)


def test_a_rate_that_is_ten_times_too_small_is_left_behind_within_the_first_experiments():
    """A score that grows by what each window taught, as a policy does that learns too slowly."""
    moved = []
    for seed in range(10):
        found = AdaptiveOptimizer({"p0": (1e-4, 3e-3)}, ["p0"], seed=seed)
        loop = Loop(lambda x: float(x[0]) * 1e4, [3e-4], noise=3.0, seed=seed)
        loop.run(found, 24, 2, integrate=True)
        moved.append(centre(found)[0])
    assert np.median(moved) > np.log(10.0) / np.log(30.0)
