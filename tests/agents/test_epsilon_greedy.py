"""Exploring with a probability that falls with the steps of the environment, with and without a framework."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from optix_bus.agents import load_policy
from optix_bus.agents.acting.epsilon_greedy import EpsilonGreedyPolicy
from optix_bus.agents.epsilon import Epsilon
from optix_bus.types import NamedArrays

PARAMS = {"epsilon": 0.8, "epsilon_min": 0.1, "epsilon_decay": 0.5, "epsilon_decay_steps": 10}


def _values(observations):
    """The best of four actions is always number 2."""
    return np.tile(np.array([0.0, 1.0, 3.0, 2.0], np.float32), (len(observations), 1)), len(observations)


def _policy(start=0.5, floor=0.0, decay=1.0, seed=0):
    return EpsilonGreedyPolicy(_values, start, floor, decay, np.random.default_rng(seed))


def test_with_probability_epsilon_any_action_is_taken_and_otherwise_the_best():
    actions = _policy(0.4).act_batch(np.zeros((40_000, 1))).actions
    expected = np.array([0.1, 0.1, 0.7, 0.1]) * len(actions)
    assert stats.chisquare(np.bincount(actions, minlength=4), expected).pvalue > 0.01
    assert set(_policy(1.0).act_batch(np.zeros((1000, 1))).actions) == {0, 1, 2, 3}


def test_a_deterministic_choice_is_the_best_and_leaves_no_trace():
    policy, quiet = _policy(0.9, decay=0.9), _policy(0.9, decay=0.9)
    assert (policy.act_batch(np.zeros((50, 1)), deterministic=True).actions == 2).all()
    one, two = (each.act_batch(np.zeros((50, 1))).actions for each in (policy, quiet))
    np.testing.assert_array_equal(one, two)


def test_epsilon_falls_with_each_step_of_each_environment_down_to_its_floor():
    policy = _policy(0.8, floor=0.1, decay=0.5 ** (1 / 10))
    seen = []
    for _ in range(5):
        seen.append(policy.epsilon)
        policy.act_batch(np.zeros((10, 1)))
    np.testing.assert_allclose(seen, [0.8, 0.4, 0.2, 0.1, 0.1])


def test_a_window_begins_where_its_policy_stands_whatever_was_acted_before():
    fresh, used = _policy(0.8, decay=0.99, seed=3), _policy(0.8, decay=0.99, seed=1)
    used.act_batch(np.zeros((70, 1)))
    used.reseed(np.random.default_rng(3))
    for _ in range(5):
        one, two = (each.act_batch(np.zeros((8, 1))).actions for each in (fresh, used))
        np.testing.assert_array_equal(one, two)


def test_windows_of_any_length_explore_alike():
    """What the learner publishes after n steps is where a policy that acted n steps has come to."""
    epsilon = Epsilon()
    acted = EpsilonGreedyPolicy(_values, 0.8, 0.1, epsilon.decay(PARAMS), np.random.default_rng(0))
    for steps in range(0, 60, 6):
        assert epsilon.now(steps, PARAMS) == pytest.approx(acted.epsilon)
        acted.act_batch(np.zeros((6, 1)))


def test_it_acts_from_a_description_without_a_framework():
    arrays = {"q.weight": np.eye(4, 3, dtype=np.float32), "q.bias": np.array([0, 0, 0, 0.5], np.float32)}
    layers = [{"op": "linear", "weight": "q.weight", "bias": "q.bias"}]
    description = {"format": 1, "kind": "mlp", "layers": layers, "normalizer": None}
    head = Epsilon().head(10, PARAMS)
    assert head == {
        "head": "epsilon_greedy", "epsilon": pytest.approx(0.4), "floor": 0.1, "decay": 0.5**0.1
    }  # fmt: skip
    state = NamedArrays(arrays, {"policy": {**description, **head}})
    policy = load_policy(state, np.random.default_rng(0))
    found = policy.act_batch(np.eye(3, dtype=np.float32), deterministic=True)
    np.testing.assert_array_equal(found.actions, [0, 1, 2])
    assert found.log_probs is None
    assert policy.epsilon == pytest.approx(0.4)
