from __future__ import annotations

import dataclasses

import pytest

from optix_bus.agents.cards import CARDS, algorithms, card
from optix_bus.agents.tunable import changed, complete
from optix_bus.errors import ConfigurationError
from optix_bus.types import ArraySpec, HyperparamSet, SpaceSpec

PPO = card("ppo")


def test_an_unknown_algorithm_is_answered_with_the_nearest():
    assert "ppo" in algorithms()
    with pytest.raises(ConfigurationError, match="unknown algorithm 'PP0'; did you mean 'ppo'"):
        card("PP0")


def test_the_defaults_are_those_of_the_specification():
    assert PPO.defaults() == {
        "learning_rate": 3e-4, "clip_ratio": 0.2, "entropy_coef": 0.01, "vf_coef": 0.5, "gamma": 0.99,
        "gae_lambda": 0.95, "n_epochs": 10, "minibatch_size": 64, "max_grad_norm": 0.5, "target_kl": None,
        "normalize_advantage": True, "clip_value": None,
    }  # fmt: skip


@pytest.mark.parametrize("each", CARDS.values(), ids=lambda c: c.algorithm)
def test_every_card_is_complete_and_consistent(each):
    assert "http" in each.paper
    assert each.deviations
    fields = {f.name: f for f in dataclasses.fields(each.hyperparameters)}
    assert all(f.metadata["description"].endswith(".") for f in fields.values())
    assert each.problems(each.defaults()) == {}
    assert set(each.log_params) <= set(each.bounds) <= set(fields)
    for name, (low, high) in each.bounds.items():
        assert low < high
        assert each.problems({name: low}) == each.problems({name: high}) == {}


def test_an_unknown_hyperparameter_is_answered_with_the_nearest():
    with pytest.raises(ConfigurationError, match="'learnin_rate' of ppo; did you mean 'learning_rate'"):
        PPO.check({"learnin_rate": 1e-3})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate of ppo is 0.0, expected a number above 0.0"),
        ({"learning_rate": "3e-4"}, "expected a number above 0.0"),
        ({"learning_rate": None}, "expected a number above 0.0"),
        ({"gamma": 1.5}, "expected a number at least 0.0 and at most 1.0"),
        ({"gamma": float("nan")}, "gamma"),
        ({"n_epochs": 2.5}, "expected a whole number at least 1"),
        ({"n_epochs": True}, "expected a whole number"),
        ({"target_kl": -1}, "expected a number above 0.0 or null"),
        ({"normalize_advantage": 1}, "expected true or false"),
        ({"gamma": [0.9]}, "gamma"),
    ],
)
def test_wrong_types_and_ranges_say_what_was_expected(params, message):
    with pytest.raises(ConfigurationError, match=message):
        PPO.check(params)


def test_every_problem_is_named_at_once():
    problems = PPO.problems({"gama": 0.9, "n_epochs": 0, "clip_ratio": 0.1})
    assert set(problems) == {"gama", "n_epochs"}


def test_whole_floats_become_whole_numbers_and_integers_numbers():
    checked = PPO.check({"n_epochs": 5.0, "gamma": 1, "target_kl": None})
    assert (checked["n_epochs"], type(checked["n_epochs"])) == (5, int)
    assert (checked["gamma"], type(checked["gamma"])) == (1.0, float)
    assert checked["target_kl"] is None


def test_given_hyperparameters_stand_over_defaults_and_the_rest_stays():
    first = complete(PPO, {"gamma": 0.9}, learning_rate=1e-2)
    assert (first.params["gamma"], first.params["learning_rate"], first.params["n_epochs"]) == (0.9, 1e-2, 10)
    second = changed(PPO, first, HyperparamSet({"n_epochs": 3}, episode_id=7))
    assert (second.params["gamma"], second.params["n_epochs"], second.episode_id) == (0.9, 3, 7)
    assert first.params["n_epochs"] == 10
    with pytest.raises(ConfigurationError, match="expected a HyperparamSet or a dict"):
        complete(PPO, 3)


@pytest.mark.parametrize(
    ("observation", "action", "reason"),
    [
        (ArraySpec("box", (4,), "float32"), ArraySpec("discrete", (), "int64", n=2), None),
        (ArraySpec("discrete", (), "int64", n=9), ArraySpec("discrete", (), "int64", n=2), None),
        (
            ArraySpec("box", (4,), "float32"),
            ArraySpec("box", (1,), "float32"),
            "actions are box, expected discrete",
        ),
        (ArraySpec("box", (8, 8), "uint8"), ArraySpec("discrete", (), "int64", n=2), "FlattenObservation"),
        (ArraySpec("text", (), "None"), ArraySpec("discrete", (), "int64", n=2), "observations are text"),
    ],
)
def test_a_card_says_which_spaces_fit(observation, action, reason):
    found = PPO.fits(SpaceSpec("Some-v0", observation, action))
    assert found is None if reason is None else ("Some-v0" in found and reason in found)
