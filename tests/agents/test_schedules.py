"""Scheduled hyperparameters of an agent: what is in force, what is shown, and what moves the clocks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from optix_bus import Schedule
from optix_bus.agents import card, make_agent
from optix_bus.agents.storage import read_state
from optix_bus.agents.tunable import at_clocks, changed, complete
from optix_bus.errors import ConfigurationError, LearningFailure
from optix_bus.types import HyperparamSet, NamedArrays
from tests.agents.every import EVERY, small_agent
from tests.agents.test_errors import window_for
from tests.agents.windows import VECTOR, random_window

PPO = card("ppo")
FALLING = {"schedule": "linear", "from": 1e-2, "to": 0, "over": 1000}
WINDOW = 48 * 4


def agent(**hyperparams):
    return make_agent(VECTOR, seed=0, hyperparams={"n_epochs": 2, "minibatch_size": 96, **hyperparams})


def rate(of):
    """What the optimizer really works with."""
    return of._optimizer.param_groups[0]["lr"]


def test_the_learning_rate_follows_its_schedule_down_to_the_optimizer():
    scheduled = agent(learning_rate=FALLING)
    found = [rate(scheduled)]
    for number in range(6):
        scheduled.learn(random_window(number))
        found.append(rate(scheduled))
    expected = [1e-2 * max(0.0, 1.0 - n * WINDOW / 1000) for n in range(7)]
    assert found == pytest.approx(expected, abs=1e-12)
    before = scheduled.state().arrays["actor.0.weight"].copy()
    scheduled.learn(random_window(9))
    np.testing.assert_array_equal(scheduled.state().arrays["actor.0.weight"], before)  # it has come to 0


@pytest.mark.parametrize("name", ["clip_ratio", "entropy_coef", "gamma", "vf_coef"])
def test_any_number_may_be_scheduled_and_learning_uses_the_one_of_the_moment(name):
    """From the second window on it learns exactly as with the number that the schedule has reached."""
    first, second = 0.3, 0.3 + 0.2 * WINDOW / 1000
    scheduled = agent(**{name: Schedule.linear(first, 0.5, over=1000)})
    by_hand = agent(**{name: first})
    for number in range(2):
        for each in (scheduled, by_hand):
            each.reseed(np.random.default_rng(number))
            each.learn(random_window(number))
        by_hand.set_hyperparams({name: second})
    for key, array in by_hand.state().arrays.items():
        np.testing.assert_array_equal(array, scheduled.state().arrays[key], err_msg=key)


def test_whole_numbers_stay_whole_and_bounds_are_kept():
    found = complete(
        PPO, {"n_epochs": Schedule.linear(10, 3, over=100), "gamma": Schedule.linear(0.9, 1.0, over=9)}
    )
    later = at_clocks(PPO, found, {"environment_steps": 52})
    assert (later.params["n_epochs"], type(later.params["n_epochs"])) == (6, int)
    higher = changed(PPO, later, {"gamma": 0.95})  # stretched, 1.0 would become more than 1
    assert higher.params["gamma"] == 1.0


def test_environment_steps_and_gradient_steps_are_two_clocks():
    by_steps = agent(learning_rate=Schedule.linear(1e-2, 0.0, over=10 * WINDOW))
    by_updates = agent(learning_rate=Schedule.linear(1e-2, 0.0, over=40, clock="gradient_steps"))
    twice = agent(learning_rate=Schedule.linear(1e-2, 0.0, over=40, clock="gradient_steps"), n_epochs=4)
    for each in (by_steps, by_updates, twice):
        report = each.learn(random_window())
    assert rate(by_steps) == pytest.approx(0.9e-2)
    assert rate(by_updates) == pytest.approx(1e-2 * (1 - 4 / 40))  # two epochs of two minibatches
    assert rate(twice) == pytest.approx(1e-2 * (1 - report["updates"] / 40))


def test_the_length_of_windows_does_not_move_the_clock_of_steps():
    short, long = agent(learning_rate=FALLING), agent(learning_rate=FALLING)
    for number in range(4):
        short.learn(random_window(number, steps=48))
    for number in range(2):
        long.learn(random_window(number, steps=96))
    assert rate(short) == rate(long)


def test_evaluating_moves_no_clock():
    each = agent(learning_rate=FALLING)
    before = each.state().metadata["clocks"]
    with each.evaluation_mode():
        for observation in random_window().observations[0]:
            each.act(observation)
    assert each.state().metadata["clocks"] == before
    assert rate(each) == 1e-2


def test_rows_that_are_no_transitions_and_windows_that_failed_do_not_count():
    each = agent(learning_rate=FALLING)
    window = random_window()
    valid = np.ones((48, 4), bool)
    valid[5:10] = False
    window.valid = valid
    each.learn(window)
    assert each.state().metadata["clocks"]["environment_steps"] == WINDOW - 20
    bad = random_window(1)
    bad.rewards[3, 1] = np.nan
    before = each.state().metadata["clocks"]
    with pytest.raises(LearningFailure):
        each.learn(bad)
    assert each.state().metadata["clocks"] == before


def test_the_clocks_travel_with_the_state_and_the_weights(tmp_path):
    first = agent(learning_rate=FALLING)
    first.learn(random_window())
    state = first.state()
    second, third = agent(learning_rate=FALLING), agent(learning_rate=FALLING)
    second.load_state(NamedArrays(state.arrays, json.loads(json.dumps(dict(state.metadata)))))
    first.save_weights(str(tmp_path / "weights"))
    third.load_weights(str(tmp_path / "weights"))
    assert read_state(str(tmp_path / "weights")).metadata["clocks"]["environment_steps"] == WINDOW
    assert rate(first) == rate(second) == rate(third) < 1e-2
    for each in (first, second, third):
        each.reseed(np.random.default_rng(3))
        each.learn(random_window(1))
    for name, array in first.state().arrays.items():
        np.testing.assert_array_equal(array, second.state().arrays[name])
        np.testing.assert_array_equal(array, third.state().arrays[name])


def test_what_is_shown_does_not_move_and_setting_it_again_changes_nothing():
    each = agent(learning_rate=FALLING)
    shown = []
    for number in range(3):
        each.learn(random_window(number))
        shown.append(each.get_hyperparams().params["learning_rate"])
        before = rate(each)
        each.set_hyperparams(each.get_hyperparams())
        assert rate(each) == before
    assert shown == [1e-2] * 3


def test_a_tuner_stretches_the_schedule_instead_of_fighting_it():
    each = agent(learning_rate=FALLING)
    each.learn(random_window())
    before = rate(each)
    each.set_hyperparams(HyperparamSet({**each.get_hyperparams().params, "learning_rate": 2e-2}))
    assert rate(each) == pytest.approx(2 * before)
    each.learn(random_window(1))
    assert rate(each) == pytest.approx(2e-2 * (1 - 2 * WINDOW / 1000))


def test_another_schedule_takes_the_place_and_constant_ends_it():
    each = agent(learning_rate=FALLING)
    each.learn(random_window())
    each.set_hyperparams(
        {"learning_rate": {"schedule": "cosine", "from": 0.5, "to": 0.1, "over": 2 * WINDOW}}
    )
    assert rate(each) == pytest.approx(0.3)
    each.set_hyperparams({"learning_rate": Schedule.constant(1e-3)})
    each.learn(random_window(1))
    assert rate(each) == 1e-3
    each.set_hyperparams({"learning_rate": 5e-3})
    assert rate(each) == 5e-3
    each.set_hyperparams({"target_kl": Schedule.linear(0.1, 0.2, over=10)})
    each.set_hyperparams({"target_kl": None})
    assert each.get_hyperparams().params["target_kl"] is None


def test_exploration_may_be_scheduled_too():
    each = small_agent(
        ("torch", "dqn"),
        epsilon=Schedule.linear(1.0, 0.1, over=2 * WINDOW),
        epsilon_decay=1.0,
        epsilon_min=0.0,
    )
    found = [each.epsilon]
    for number in range(3):
        each.learn(random_window(number))
        found.append(each.epsilon)
    assert found == pytest.approx([1.0, 0.55, 0.1, 0.1])
    assert each.policy().epsilon == pytest.approx(0.1)


@pytest.mark.parametrize("kind", [kind for kind in EVERY if kind[0] == "torch"], ids="-".join)
def test_every_agent_counts_for_itself_and_gives_its_optimizers_the_rate_of_the_moment(kind):
    each = small_agent(kind, learning_rate=Schedule.linear(1e-2, 0.0, over=4 * WINDOW))
    for number in range(2):
        each.learn(window_for(each, kind, number))
    clocks = each.state().metadata["clocks"]
    assert clocks["environment_steps"] == 2 * 64
    assert clocks["gradient_steps"] > 0
    expected = 1e-2 * (1 - 2 * 64 / (4 * WINDOW))
    rates = [group["lr"] for optimizer in each._optimizers.values() for group in optimizer.param_groups]
    assert rates == pytest.approx([expected] * len(rates))


def test_the_learn_of_a_users_subclass_counts_once():
    from optix_bus import TorchPPOAgent

    class Mine(TorchPPOAgent):
        def learn(self, episode_data):
            return {**super().learn(episode_data), "seen": self._hyperparams.params["learning_rate"]}

    plain = agent(learning_rate=FALLING)
    mine = Mine(plain._actor, plain._critic, plain._optimizer, {"learning_rate": FALLING})
    assert mine.learn(random_window())["seen"] == 1e-2
    assert mine.learn(random_window(1))["seen"] == pytest.approx(1e-2 * (1 - WINDOW / 1000))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"learning_rate": {**FALLING, "from": -1}},
            "schedule of learning_rate of ppo: 'from' is -1.0, expected",
        ),
        ({"gamma": {**FALLING, "to": 1.5}}, "'to' is 1.5, expected at least 0.0 and at most 1.0"),
        ({"gamma": {"schedule": "linear"}}, "schedule of gamma of ppo: a schedule lacks 'from'"),
        ({"normalize_advantage": FALLING}, "cannot be scheduled"),
        ({"learning_rat": FALLING}, "did you mean 'learning_rate'"),
        ({"learning_rate": Schedule.constant(0.0)}, "'from' is 0.0, expected a number above 0.0"),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused(given, message):
    with pytest.raises(ConfigurationError, match=message):
        agent(**given)
