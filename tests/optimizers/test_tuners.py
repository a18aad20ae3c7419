"""What holds for every tuner, whatever its method."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optix_bus.errors import ConfigurationError
from optix_bus.optimizers import TuningSettings, make_optimizer
from optix_bus.types import EvalMetrics, HyperparamSet
from tests.optimizers.worlds import TUNERS, Loop, centre, tuner

METHODS = sorted(TUNERS)
#: 0: a parameter acts at once; 2: on what the next window teaches, which is scored after that.
DELAYS = [0, 2]


def hill(x: np.ndarray) -> float:
    return -float(np.sum((x - 0.8) ** 2))


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("method", METHODS)
def test_it_walks_to_the_optimum_whenever_the_parameter_acts(method, delay):
    found = tuner(method)
    Loop(hill, [0.2]).run(found, 300, delay)
    assert centre(found)[0] == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("method", METHODS)
def test_it_gets_nearer_through_noise_in_three_dimensions(method, delay):
    left = []
    for seed in range(3):
        found = tuner(method, 3, seed)
        Loop(hill, [0.2] * 3, noise=0.03, seed=seed).run(found, 400, delay)
        left.append(hill(centre(found)) / hill(np.full(3, 0.2)))
    assert np.median(left) < 0.15


@pytest.mark.parametrize("method", METHODS)
def test_a_score_that_sums_what_each_window_taught_shows_the_right_way(method):
    found = tuner(method)
    Loop(lambda x: 1.0 + hill(x), [0.2]).run(found, 300, 2, integrate=True)
    assert centre(found)[0] > 0.35


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("slope", [7.0, -7.0])
def test_drift_alone_moves_nothing(method, slope):
    found, windows = tuner(method, 2), iter(range(10_000))
    Loop(lambda x: slope * next(windows), [0.5, 0.5]).run(found, 150, 0)
    assert centre(found) == pytest.approx([0.5, 0.5], abs=1e-6)


@pytest.mark.parametrize("level", [0.0, 5.0, -3e12, 1e-12])
@pytest.mark.parametrize("method", METHODS)
def test_a_flat_objective_moves_nothing(method, level):
    found = tuner(method, 3)
    Loop(lambda x: level, [0.5, 0.2, 0.9]).run(found, 120, 2)
    assert centre(found) == pytest.approx([0.5, 0.2, 0.9], abs=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("method", ["spsa", "momentum", "pbt"])
def test_the_scale_of_the_score_does_not_matter(method, scale):
    places = []
    for factor in (1.0, scale):
        found = tuner(method)
        Loop(lambda x, factor=factor: factor * hill(x), [0.2]).run(found, 150, 2)
        places.append(centre(found)[0])
    assert places[0] == pytest.approx(places[1], abs=1e-3)


def test_a_difference_below_its_threshold_is_none_to_backoff():
    found = tuner("backoff", gradient_threshold=1.0)
    Loop(hill, [0.2]).run(found, 100, 0)
    assert centre(found)[0] == pytest.approx(0.2)


@pytest.mark.parametrize("method", METHODS)
def test_scores_that_are_no_numbers_teach_nothing_and_do_no_harm(method):
    loop, found = Loop(hill, [0.2]), tuner(method)
    loop.objective = lambda x: float("nan") if len(loop.made_by) % 9 == 0 else hill(x)
    loop.run(found, 500, 2)
    assert centre(found)[0] == pytest.approx(0.8, abs=0.15)


@pytest.mark.parametrize("method", METHODS)
def test_parameters_set_by_somebody_else_become_the_new_centre(method):
    loop, found = Loop(lambda x: 0.0, [0.2]), tuner(method)
    loop.run(found, 6, 2)
    loop.params = HyperparamSet({"p0": 0.7})
    loop.version += 1
    loop.run(found, 1, 2)
    assert centre(found)[0] == pytest.approx(0.7)


@pytest.mark.parametrize("cut", [1, 5, 22, 47])
@pytest.mark.parametrize("method", METHODS)
def test_one_that_was_written_as_json_and_read_back_makes_the_same_suggestions(method, cut):
    def loop() -> Loop:
        return Loop(lambda x: 5.0 + hill(x), [0.2, 0.3], noise=0.1)

    whole, expected = tuner(method, 2), loop()
    expected.run(whole, 90, 2)
    first, again = tuner(method, 2), loop()
    again.run(first, cut, 2)
    second = tuner(method, 2, seed=77)
    second.load_state(json.loads(json.dumps(first.state())))
    assert second.state() == first.state()
    again.run(second, 90 - cut, 2)
    assert again.seen == expected.seen


@pytest.mark.parametrize("method", METHODS)
def test_one_that_is_restored_into_other_bounds_goes_on_from_the_parameters_in_force(method):
    loop, first = Loop(hill, [0.3, 0.4]), tuner(method, 2)
    loop.run(first, 23, 2)
    second = TUNERS[method]({"p1": (0.1, 1.0)}, seed=5)
    second.load_state(json.loads(json.dumps(first.state())))
    kept = loop.params.params["p0"]
    loop.run(second, 150, 2)
    assert all(params["p0"] == kept for params in loop.seen[23:])
    assert loop.params.params["p1"] == pytest.approx(0.8, abs=0.3)


@pytest.mark.parametrize("method", ["spsa", "pbt", "adaptive"])
def test_another_seed_goes_another_way_and_the_same_one_the_same(method):
    def run(seed: int) -> list[dict[str, Any]]:
        loop = Loop(hill, [0.2] * 4, noise=0.1)
        loop.run(tuner(method, 4, seed), 40, 2)
        return loop.seen

    assert run(1) == run(1)
    assert run(1) != run(2)


@pytest.mark.parametrize("method", METHODS)
def test_a_branch_draws_otherwise_only_after_it_was_reseeded(method):
    first, second = tuner(method, 2), tuner(method, 2)
    for found in (first, second):
        found.reseed(np.random.default_rng(5))
    loops = [Loop(hill, [0.2, 0.2], noise=0.1) for _ in range(2)]
    for loop, found in zip(loops, (first, second), strict=True):
        loop.run(found, 40, 2)
    assert loops[0].seen == loops[1].seen


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 1000), scores=st.lists(st.floats(-1e3, 1e3), min_size=5, max_size=60))
@settings(max_examples=15, deadline=None)
def test_it_never_leaves_the_bounds_and_never_touches_other_keys(method, seed, scores):
    bounds = {"learning_rate": (1e-4, 1e-2), "n_epochs": (3.0, 12.0)}
    found = TUNERS[method](bounds, log_params=["learning_rate"], seed=seed)
    params: dict[str, Any] = {"learning_rate": 1e-4, "n_epochs": 12, "gamma": 0.99, "kind": "x"}
    current, history = HyperparamSet(params), []
    for window, score in enumerate(scores):
        history.append(EvalMetrics(score, {}, window))
        if window % 7 == 3:
            found.on_improvement(history[-1])
            found.on_plateau(history)
        current = found.suggest(current, history)
        assert 1e-4 <= current.params["learning_rate"] <= 1e-2
        assert 3 <= current.params["n_epochs"] <= 12
        assert isinstance(current.params["n_epochs"], int)
        assert (current.params["gamma"], current.params["kind"]) == (0.99, "x")
        assert list(current.params) == list(params)


@pytest.mark.parametrize("method", METHODS)
def test_without_bounds_of_its_own_it_takes_those_of_the_agent(method):
    found, current = TUNERS[method](), HyperparamSet({"a": 1.0})
    assert found.suggest(current, [EvalMetrics(1.0)]).params == {"a": 1.0}
    assert not found.is_probing
    found.use_bounds({"a": (0.1, 10.0)}, ["a"])
    found.suggest(current, [EvalMetrics(1.0, {}, 1)])
    assert found.centre == {"a": pytest.approx(0.5)}
    given = tuner(method)
    given.use_bounds({"a": (0.1, 10.0)}, ["a"])
    given.suggest(HyperparamSet({"a": 1.0, "p0": 0.2}), [EvalMetrics(1.0)])
    assert set(given.centre) == {"p0"}


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_probed_during_the_warm_up(method):
    name = "spsa_warmup_episodes" if method == "adaptive" else "warmup_episodes"
    found, loop = tuner(method, **{name: 10}), Loop(lambda x: 0.0, [0.5])
    loop.run(found, 9, 0)
    assert not found.is_probing
    assert all(params == {"p0": 0.5} for params in loop.seen)
    loop.run(found, 1, 0)
    assert found.is_probing


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("momentum", {"alpha": 0.0}),
        ("momentum", {"beta1": 1.0}),
        ("backoff", {"perturbation_scale": -0.1}),
        ("pbt", {"top_percentile": 0.0}),
        ("pbt", {"explore_scale": 0.0}),
        ("adaptive", {"autocorr_threshold": 2.0}),
    ],
)
def test_arguments_that_make_no_sense_are_refused(method, options):
    with pytest.raises(ConfigurationError, match=f"found {next(iter(options))}="):
        tuner(method, **options)


@pytest.mark.parametrize("method", METHODS)
def test_each_is_made_by_its_short_name(method):
    rng = np.random.default_rng(0)
    options: dict[str, Any] = {"method": method, "perturbation_scale": 0.25, "warmup_episodes": 2}
    made = make_optimizer(TuningSettings(**options), {"p0": (0.0, 1.0)}, (), rng)
    assert type(made) is TUNERS[method]
    loop = Loop(lambda x: 0.0, [0.5])
    loop.run(made, 2, 0)
    assert 0.12 <= abs(loop.params.params["p0"] - 0.5) <= 0.25


def test_an_option_that_another_method_reads_is_refused():
    with pytest.raises(ConfigurationError, match="'gains' has no effect with method 'pbt', only with spsa"):
        TuningSettings(method="pbt", gains="spall")
    with pytest.raises(ConfigurationError, match="learning_rate"):
        TuningSettings(method="backoff", learning_rate=0.2)
    assert TuningSettings(method="none", gains="spall").method == "none"
