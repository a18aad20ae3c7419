from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optix_bus.errors import ConfigurationError
from optix_bus.optimizers import SPSAOptimizer, TuningSettings, make_optimizer
from optix_bus.types import EvalMetrics, HyperparamSet
from tests.optimizers.worlds import Loop, centre

STIFFNESS = 10.0 ** np.linspace(0.0, 1.0, 5)


def tuner(dimensions: int = 1, seed: int = 0, **options: Any) -> SPSAOptimizer:
    return SPSAOptimizer({f"p{i}": (0.0, 1.0) for i in range(dimensions)}, seed=seed, **options)


@pytest.mark.parametrize("delay", [0, 1, 2, 3])
@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
def test_a_noiseless_quadratic_is_climbed_to_its_optimum_whatever_the_delay_and_the_scale(delay, scale):
    """The published one walks to .01, the wrong end: it credits the window before."""
    loop, found = Loop(lambda x: -scale * float((x[0] - 0.8) ** 2), [0.2]), tuner()
    loop.run(found, 240 + 120 * delay, delay)
    assert centre(found)[0] == pytest.approx(0.8, abs=0.01)


def test_it_is_right_for_a_score_that_sums_what_each_window_taught():
    loop, found = Loop(lambda x: 1.0 - float((x[0] - 0.8) ** 2), [0.2]), tuner()
    loop.run(found, 400, 2, integrate=True)
    assert centre(found)[0] == pytest.approx(0.8, abs=0.03)


def test_a_drift_that_has_nothing_to_do_with_the_parameters_cancels():
    found = tuner()
    loop = Loop(lambda x: 0.0, [0.5])
    drift = iter(range(10_000))
    loop.objective = lambda x: 7.0 * next(drift)
    loop.run(found, 200, 0)
    assert centre(found)[0] == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("delay", [0, 2])
def test_a_noisy_quadratic_in_five_dimensions_is_climbed_to_a_twentieth_of_the_start(delay):
    def loss(x: np.ndarray) -> float:
        return float(np.sum(STIFFNESS * (x - 0.7) ** 2))

    first = loss(np.full(5, 0.2))
    left = []
    for seed in range(20):
        found = tuner(5, seed)
        Loop(lambda x: -loss(x), [0.2] * 5, noise=0.1 * first, seed=seed).run(found, 400, delay)
        left.append(loss(centre(found)) / first)
    assert np.median(left) <= 0.05
    assert max(left) < 0.5


def test_a_flat_objective_moves_nothing():
    found = tuner(3)
    Loop(lambda x: 5.0, [0.5, 0.2, 0.9]).run(found, 300, 2)
    assert centre(found) == pytest.approx([0.5, 0.2, 0.9])


def test_noise_alone_makes_no_drift():
    ends = []
    for seed in range(20):
        found = tuner(5, seed)
        Loop(lambda x: 0.0, [0.5] * 5, noise=1.0, seed=seed).run(found, 400, 0)
        ends.append(centre(found) - 0.5)
    assert abs(np.mean(ends)) < 0.05
    assert np.sqrt(np.mean(np.square(ends))) < 0.2


def test_scores_of_order_100_do_not_turn_the_steps_into_sign_steps():
    found = tuner()
    loop = Loop(lambda x: -100.0 * float((x[0] - 0.8) ** 2), [0.2])
    steps, last = [], 0.2
    for _ in range(60):
        loop.run(found, 4, 0)
        steps.append(abs(centre(found)[0] - last))
        last = centre(found)[0]
    assert max(steps) > 20 * min(steps[-10:])


def test_probes_come_in_an_order_in_which_drift_cancels_and_say_that_they_are_probes():
    found, loop = tuner(), Loop(lambda x: 0.0, [0.5])
    places, probing = [], []
    for _ in range(5):
        loop.run(found, 1, 0)
        places.append(round(loop.params.params["p0"] - 0.5, 6))
        probing.append(found.is_probing)
    assert places in ([0.1, -0.1, -0.1, 0.1, 0.0], [-0.1, 0.1, 0.1, -0.1, 0.0])
    assert probing == [True] * 4 + [False]


def test_a_probe_stays_in_force_until_its_scores_have_arrived():
    loop, found = Loop(lambda x: -float((x[0] - 0.8) ** 2), [0.2]), tuner()
    loop.run(found, 30, 8)
    places = [params["p0"] for params in loop.seen]
    assert places[:19] == [places[0]] * 9 + [places[9]] * 10
    assert places[0] - 0.2 == pytest.approx(0.2 - places[9])


def test_a_score_that_never_comes_costs_one_estimate_and_not_the_run():
    loop, found = Loop(lambda x: -float((x[0] - 0.8) ** 2), [0.2]), tuner()
    loop.lost = frozenset(range(0, 1000, 11))
    loop.run(found, 500, 2)
    assert len(loop.history) == 500 - 45
    assert centre(found)[0] == pytest.approx(0.8, abs=0.1)


def test_parameters_set_by_somebody_else_become_the_new_centre():
    loop, found = Loop(lambda x: 0.0, [0.2]), tuner()
    loop.run(found, 6, 2)
    loop.params = HyperparamSet({"p0": 0.7})
    loop.version += 1
    loop.run(found, 1, 2)
    assert centre(found)[0] == pytest.approx(0.7)


@given(st.integers(0, 1000), st.lists(st.floats(-1e3, 1e3), min_size=5, max_size=60))
@settings(max_examples=40, deadline=None)
def test_it_never_leaves_the_bounds_and_never_touches_other_keys(seed, scores):
    bounds = {"learning_rate": (1e-4, 1e-2), "n_epochs": (3.0, 12.0)}
    found = SPSAOptimizer(bounds, log_params=["learning_rate"], seed=seed, learning_rate=0.9)
    params: dict[str, Any] = {"learning_rate": 1e-4, "n_epochs": 12, "gamma": 0.99, "kind": "x"}
    current, history = HyperparamSet(params), []
    for window, score in enumerate(scores):
        history.append(EvalMetrics(score, {}, window))
        current = found.suggest(current, history)
        assert 1e-4 <= current.params["learning_rate"] <= 1e-2
        assert 3 <= current.params["n_epochs"] <= 12
        assert isinstance(current.params["n_epochs"], int)
        assert (current.params["gamma"], current.params["kind"]) == (0.99, "x")
    assert params["learning_rate"] == 1e-4


def test_an_integer_is_probed_by_whole_steps():
    found = SPSAOptimizer({"n": (1.0, 5.0)}, seed=1)
    current, history, seen = HyperparamSet({"n": 3}), [], set()
    for window in range(120):
        history.append(EvalMetrics(-float((current.params["n"] - 5) ** 2), {}, window))
        current = found.suggest(current, history)
        seen.add(current.params["n"])
    assert {2, 4} <= seen
    assert found.centre["n"] > 0.8


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    def run(**options: Any) -> list[dict[str, Any]]:
        found = SPSAOptimizer({f"p{i}": (0.0, 1.0) for i in range(4)}, **options)
        loop = Loop(lambda x: -float(np.sum((x - 0.8) ** 2)), [0.2] * 4, noise=0.1)
        loop.run(found, 40, 2)
        return loop.seen

    assert run(seed=1) == run(seed=1)
    assert run(seed=1) != run(seed=2)
    assert run(rng=np.random.default_rng(5)) == run(rng=np.random.default_rng(5))


@pytest.mark.parametrize("cut", [1, 3, 6, 21])
def test_a_tuner_that_was_written_as_json_and_read_back_makes_the_same_suggestions(cut):
    def loop() -> Loop:
        return Loop(lambda x: -float(np.sum((x - 0.8) ** 2)), [0.2, 0.3], noise=0.1)

    whole, expected = tuner(2), loop()
    expected.run(whole, 60, 2)
    first, again = tuner(2), loop()
    again.run(first, cut, 2)
    second = tuner(2, seed=77)
    second.load_state(json.loads(json.dumps(first.state())))
    again.run(second, 60 - cut, 2)
    assert again.seen == expected.seen


@pytest.mark.parametrize(
    ("bounds", "options"),
    [
        ({"p0": (0.0, 2.0), "p1": (0.0, 1.0)}, {}),
        ({"p1": (0.0, 1.0)}, {}),
        ({"p0": (0.1, 1.0), "p1": (0.1, 1.0)}, {"log_params": ["p0"]}),
    ],
)
def test_a_tuner_with_other_bounds_goes_on_from_the_parameters_in_force(bounds, options):
    loop, first = Loop(lambda x: -float(np.sum((x - 0.8) ** 2)), [0.3, 0.4]), tuner(2)
    loop.run(first, 23, 2)
    at = dict(loop.params.params)
    second = SPSAOptimizer(bounds, seed=5, **options)
    second.load_state(json.loads(json.dumps(first.state())))
    loop.run(second, 1, 2)
    reach = {name: 0.101 * (high - low) for name, (low, high) in bounds.items()}
    moved = {name: abs(loop.params.params[name] - value) for name, value in at.items()}
    assert all(moved[name] <= reach.get(name, 0.0) or name in options.get("log_params", ()) for name in moved)
    loop.run(second, 400, 2)
    assert [loop.params.params[name] for name in bounds] == pytest.approx([0.8] * len(bounds), abs=0.25)


def test_spall_gains_decay():
    constant, spall = tuner(), tuner(gains="spall")
    sizes = {}
    for name, found in (("constant", constant), ("spall", spall)):
        loop = Loop(lambda x: 0.0, [0.5])
        loop.run(found, 200, 0)
        sizes[name] = max(abs(seen["p0"] - 0.5) for seen in loop.seen[-5:])
    assert sizes["constant"] == pytest.approx(0.1)
    assert sizes["spall"] == pytest.approx(0.1 / 40**0.101, rel=0.01)
    loop = Loop(lambda x: -float((x[0] - 0.8) ** 2), [0.2])
    found = tuner(gains="spall")
    loop.run(found, 400, 2)
    assert centre(found)[0] == pytest.approx(0.8, abs=0.1)


def test_a_decaying_probe_gets_no_smaller_than_the_minimum():
    found = tuner(gains="spall", min_perturbation=0.09)
    loop = Loop(lambda x: 0.0, [0.5])
    loop.run(found, 400, 0)
    assert max(abs(seen["p0"] - 0.5) for seen in loop.seen[-5:]) == pytest.approx(0.09)


def test_the_clip_bounds_what_one_difference_does():
    steps = {}
    for clip in (0.1, 1.0):
        found = tuner(gradient_clip=clip)
        loop = Loop(lambda x: -float((x[0] - 0.8) ** 2), [0.2])
        loop.run(found, 21, 0)
        steps[clip] = abs(centre(found)[0] - 0.2)
    assert steps[1.0] > 0.01
    assert steps[0.1] == pytest.approx(0.1 * steps[1.0], rel=0.01)


def test_so_few_scores_that_any_explanation_fits_move_nothing():
    for seed in range(20):
        found = tuner(5, seed)
        loop = Loop(lambda x: 0.0, [0.5] * 5, noise=1.0, seed=seed)
        loop.run(found, 16, 0)  # three experiments of four scores, each with one degree of freedom
        assert centre(found) == pytest.approx(0.5)
        loop.run(found, 300, 0)
        assert np.abs(centre(found) - 0.5).max() > 0.0


def test_nothing_is_probed_during_the_warm_up():
    found, loop = tuner(warmup_episodes=10), Loop(lambda x: 0.0, [0.5])
    loop.run(found, 9, 0)
    assert not found.is_probing
    assert all(params == {"p0": 0.5} for params in loop.seen)
    loop.run(found, 1, 0)
    assert found.is_probing


def test_without_bounds_nothing_is_tuned():
    found, current = SPSAOptimizer(), HyperparamSet({"a": 1.0})
    assert found.suggest(current, [EvalMetrics(1.0)]).params == {"a": 1.0}
    assert not found.is_probing


@pytest.mark.parametrize(
    "options",
    [{"gains": "other"}, {"perturbation_scale": 0.0}, {"learning_rate": -1.0}, {"gradient_clip": 0}],
)
def test_arguments_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigurationError, match="found"):
        tuner(**options)


def test_make_optimizer_takes_the_agents_bounds_unless_the_settings_name_their_own():
    rng = np.random.default_rng(0)
    agents = {"learning_rate": (1e-4, 1e-3), "gamma": (0.9, 0.999)}
    current = HyperparamSet({"learning_rate": 5e-4, "gamma": 0.95})
    default = make_optimizer(TuningSettings(), agents, ("learning_rate",), rng)
    assert isinstance(default, SPSAOptimizer)
    default.suggest(current, [EvalMetrics(1.0)])
    assert set(default.centre) == {"learning_rate", "gamma"}
    own = make_optimizer(TuningSettings(param_bounds={"gamma": [0.9, 0.99]}), agents, (), rng)
    assert isinstance(own, SPSAOptimizer)
    own.suggest(current, [EvalMetrics(1.0)])
    assert set(own.centre) == {"gamma"}


def test_make_optimizer_makes_none_where_nothing_is_to_be_tuned():
    rng = np.random.default_rng(0)
    assert make_optimizer(TuningSettings(method="none"), {"a": (0.0, 1.0)}, (), rng) is None
    assert make_optimizer(TuningSettings(), {}, (), rng) is None


def test_tuning_settings_are_checked():
    with pytest.raises(ConfigurationError, match="method='sgd'"):
        TuningSettings(method="sgd")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"\[low, high\]"):
        TuningSettings(param_bounds={"a": [1.0]})
