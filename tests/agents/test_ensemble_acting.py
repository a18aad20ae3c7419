"""Several policies as one: probabilities are averaged, real numbers too, action numbers never."""

from __future__ import annotations

import numpy as np
import pytest

from optix_bus.agents import make_agent
from optix_bus.agents.acting import is_portable, load_policy
from optix_bus.agents.acting.ensemble import EnsemblePolicy
from optix_bus.errors import ConfigurationError, Unsuitable
from optix_bus.interfaces import Acting
from optix_bus.types import ArraySpec, SpaceSpec

ROWS = np.zeros((5, 3), np.float32)


class Says:
    """Always the same action, and perhaps the probabilities it had."""

    def __init__(self, action, probs=None):
        self.action = np.asarray(action)
        if probs is not None:
            self.action_probs_batch = lambda rows: np.tile(np.asarray(probs, np.float32), (len(rows), 1))

    def act_batch(self, observations, *, deterministic=False):
        return Acting(np.stack([self.action] * len(observations)))


def test_discrete_members_are_combined_on_probabilities_and_not_on_action_numbers():
    # The average of the actions 0 and 2 would be 1, which both hold for the worst.
    ensemble = EnsemblePolicy([Says(0, [0.8, 0.0, 0.2]), Says(2, [0.2, 0.0, 0.8])], [1.0, 1.0])
    assert ensemble.action_probs_batch(ROWS)[0] == pytest.approx([0.5, 0.0, 0.5])
    ensemble.reseed(np.random.default_rng(0))
    drawn = np.concatenate([ensemble.act_batch(ROWS).actions for _ in range(400)])
    assert set(drawn.tolist()) == {0, 2}
    assert (drawn == 0).mean() == pytest.approx(0.5, abs=0.04)
    tilted = EnsemblePolicy([Says(0, [0.8, 0.0, 0.2]), Says(2, [0.2, 0.0, 0.8])], [3.0, 1.0])
    assert tilted.act_batch(ROWS, deterministic=True).actions.tolist() == [0] * 5


def test_what_was_drawn_comes_with_the_log_probability_that_the_ensemble_gave_it():
    ensemble = EnsemblePolicy(
        [Says(0, [0.9, 0.1]), Says(1, [0.3, 0.7])], [1.0, 3.0], np.random.default_rng(1)
    )
    acting = ensemble.act_batch(ROWS)
    expected = np.log([0.25 * 0.9 + 0.75 * 0.3, 0.25 * 0.1 + 0.75 * 0.7])
    assert acting.log_probs == pytest.approx(expected[acting.actions], rel=1e-6)


def test_a_member_that_only_acts_votes_for_what_it_does():
    ensemble = EnsemblePolicy([Says(1), Says(0, [0.6, 0.4])], [1.0, 1.0], np.random.default_rng(2))
    assert ensemble.action_probs_batch(ROWS) is None
    acting = ensemble.act_batch(ROWS, deterministic=True)
    assert acting.actions.tolist() == [1] * 5
    assert ensemble.act_batch(ROWS).log_probs is None


def test_real_numbers_are_averaged_by_weight():
    ensemble = EnsemblePolicy([Says([1.0, -2.0]), Says([3.0, 2.0])], [1.0, 3.0])
    assert ensemble.act_batch(ROWS).actions[0] == pytest.approx([2.5, 1.0])
    assert EnsemblePolicy([Says([1.0]), Says([3.0])], [0.0, 0.0]).act_batch(ROWS).actions[0] == pytest.approx(
        [2.0]
    )


def test_several_whole_numbers_are_voted_on_one_by_one():
    members = [Says([0, 5]), Says([0, 7]), Says([2, 7])]
    ensemble = EnsemblePolicy(members, [1.0, 1.0, 1.5], np.random.default_rng(3))
    assert ensemble.act_batch(ROWS, deterministic=True).actions[0].tolist() == [0, 7]
    drawn = np.concatenate([ensemble.act_batch(ROWS).actions for _ in range(400)])
    assert (drawn[:, 0] == 2).mean() == pytest.approx(1.5 / 3.5, abs=0.04)
    assert set(drawn[:, 1].tolist()) == {5, 7}


def test_masks_hold_for_the_ensemble_also_where_its_members_know_none():
    ensemble = EnsemblePolicy([Says(0), Says(0, [0.7, 0.2, 0.1])], [5.0, 1.0], np.random.default_rng(4))
    masks = np.tile([False, True, True], (5, 1))
    drawn = np.concatenate([ensemble.act_batch(ROWS, action_masks=masks).actions for _ in range(300)])
    assert set(drawn.tolist()) == {1, 2}
    assert (drawn == 1).mean() == pytest.approx(2 / 3, abs=0.05)


@pytest.mark.parametrize(
    ("members", "weights", "error"),
    [
        ([], [], ConfigurationError),
        ([Says(0)], [1.0, 2.0], ConfigurationError),
        ([Says(0)], [-1.0], ConfigurationError),
        ([Says(0)], [float("nan")], ConfigurationError),
    ],
)
def test_what_is_no_ensemble_is_refused(members, weights, error):
    with pytest.raises(error):
        EnsemblePolicy(members, weights)


def test_members_with_other_kinds_of_actions_are_refused():
    with pytest.raises(Unsuitable, match="different kinds"):
        EnsemblePolicy([Says(0, [0.5, 0.5]), Says([0.1])], [1.0, 1.0]).act_batch(ROWS)


def test_a_description_with_the_arrays_of_its_members_acts_without_a_framework():
    spaces = SpaceSpec("e", ArraySpec("box", (3,), "float32"), ArraySpec("discrete", (), "int64", n=4))
    agents = [make_agent(spaces, hidden_sizes=(8,), device="cpu", seed=seed) for seed in (1, 2)]
    states = [agent.state() for agent in agents]
    arrays = {f"m{k}/{name}": array for k, s in enumerate(states) for name, array in s.arrays.items()}
    description = {
        "format": 1,
        "kind": "ensemble",
        "names": ["m0", "m1"],
        "members": [state.metadata["policy"] for state in states],
        "weights": [1.0, 2.0],
    }
    whole = type(states[0])(arrays, {"policy": description})
    assert is_portable(whole)
    rows = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    own = [agent.action_probs_batch(rows) for agent in agents]
    assert load_policy(whole).action_probs_batch(rows) == pytest.approx(own[0] / 3 + 2 * own[1] / 3, abs=1e-6)


def test_a_policy_with_a_memory_is_refused():
    class Remembers(Says):
        def episode_start(self, mask): ...
        def memory(self): ...
        def load_memory(self, memory): ...

    with pytest.raises(Unsuitable, match="Remembers remember"):
        EnsemblePolicy([Remembers(0)], [1.0])
