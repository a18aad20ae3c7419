"""What goes wrong is said in one sentence, by every agent alike, and leaves everything as it was."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from optix_bus.agents import card, factory, make_agent
from optix_bus.errors import ConfigurationError, LearningFailure, MissingExtra, Unsuitable
from optix_bus.types import ArraySpec, NamedArrays, SpaceSpec
from tests.agents.every import BOX, EVERY, NAMES, OFTEN, shared_agent, small_agent, spaces_of
from tests.agents.windows import VECTOR, random_window

every_agent = pytest.mark.parametrize("kind", EVERY, ids=NAMES)
every_agent_learns = pytest.mark.parametrize("kind", OFTEN, ids=NAMES)


def window_for(agent, kind, number):
    """A window that fits the agent's spaces, ``[32, 2]``."""
    spaces = spaces_of(kind)
    if spaces.action.kind == "discrete":
        return random_window(number, steps=32, width=2, spaces=spaces)
    low, high = np.array(spaces.action.low), np.array(spaces.action.high)
    actions = np.random.default_rng(number).uniform(low, high, (32, 2, len(low))).astype(np.float32)
    window = random_window(
        number, steps=32, width=2, spaces=dataclasses.replace(VECTOR, observation=spaces.observation)
    )
    window.actions = actions
    return window


def everything(agent):
    """All arrays and counters that learning may change."""
    states = [agent.state()]
    if hasattr(agent, "replay_state"):
        states.append(agent.replay_state())
    arrays = {f"{n}.{name}": array.copy() for n, s in enumerate(states) for name, array in s.arrays.items()}
    return arrays, [dict(state.metadata) for state in states]


def assert_unchanged(agent, before):
    arrays, facts = everything(agent)
    assert facts == before[1]
    assert arrays.keys() == before[0].keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[0][name], err_msg=name)


@every_agent_learns
@pytest.mark.parametrize("where", ["observations", "rewards", "final_observations"])
def test_a_window_with_nan_in_it_stops_learning_before_anything_changes(kind, where):
    agent = shared_agent(kind)
    agent.learn(window_for(agent, kind, 0))
    before = everything(agent)
    window = window_for(agent, kind, 7)
    getattr(window, where)[5:, 1] = np.nan
    with pytest.raises(LearningFailure) as caught:
        agent.learn(window)
    said = str(caught.value)
    assert "window 7" in said
    assert "NaN" in said
    assert " to " in said  # the range of what was finite
    assert_unchanged(agent, before)
    agent.learn(window_for(agent, kind, 8))


@every_agent_learns
def test_rewards_beyond_all_measure_stop_learning_too(kind):
    agent = shared_agent(kind)
    before = everything(agent)
    window = window_for(agent, kind, 7)
    window.rewards = window.rewards * 1e300
    with pytest.raises(LearningFailure, match=r"window 7: .* numbers in rewards are not finite as float32"):
        agent.learn(window)
    assert_unchanged(agent, before)


@every_agent_learns
def test_a_loss_that_is_not_finite_is_named_with_the_window_and_what_it_held(kind):
    agent = shared_agent(kind)
    agent.learn(window_for(agent, kind, 0))
    state = agent.state()
    broken = {
        name: np.full_like(array, np.nan) if array.dtype.kind == "f" and "optimizer" not in name else array
        for name, array in state.arrays.items()
    }
    agent.load_state(NamedArrays(broken, state.metadata))
    before = everything(agent)
    with pytest.raises(LearningFailure) as caught, np.errstate(all="ignore"):
        agent.learn(window_for(agent, kind, 7))
    said = str(caught.value)
    assert "window 7" in said
    assert "is not finite" in said
    assert "loss" in said
    assert "rewards -" in said  # from -3 to 3 or so
    assert_unchanged(agent, before)
    agent.load_state(state)
    agent.learn(window_for(agent, kind, 8))


@every_agent
def test_an_unknown_hyperparameter_is_answered_with_the_nearest_and_changes_nothing(kind):
    with pytest.raises(ConfigurationError, match=r"'learning_rat' of .*did you mean 'learning_rate'"):
        small_agent(kind, learning_rat=1e-3)
    agent = small_agent(kind)
    before = agent.get_hyperparams().params
    with pytest.raises(ConfigurationError, match=r"'gama' of .*did you mean 'gamma'"):
        agent.set_hyperparams({"learning_rate": 0.5, "gama": 0.9})
    assert agent.get_hyperparams().params == before


@every_agent
def test_a_wrong_action_space_is_refused_with_what_would_fit(kind):
    framework, algorithm = kind
    spaces = SpaceSpec("Odd-v0", spaces_of(kind).observation, ArraySpec("sequence", (), "object"))
    with pytest.raises(Unsuitable, match="Odd-v0") as caught:
        make_agent(spaces, framework=framework, algorithm=algorithm)
    assert "actions are sequence, expected" in str(caught.value)
    assert any(each in str(caught.value) for each in card(algorithm).actions)
    other = BOX if spaces_of(kind) is VECTOR else VECTOR
    if card(algorithm).fits(other) is None or algorithm == "ppo":
        return  # ppo by that name has a form for either
    with pytest.raises(Unsuitable, match="actions are"):
        make_agent(other, framework=framework, algorithm=algorithm)


@every_agent
def test_a_missing_extra_is_one_line_with_the_remedy(kind, monkeypatch):
    framework, algorithm = kind

    def absent(name):
        raise ModuleNotFoundError(f"No module named '{framework}'", name=framework)

    monkeypatch.setattr(factory.importlib, "import_module", absent)
    with pytest.raises(MissingExtra) as caught:
        make_agent(spaces_of(kind), framework=framework, algorithm=algorithm)
    said = str(caught.value)
    assert f"pip install 'optix-bus[{framework}]'" in said
    assert f"framework: {framework}" in said
    assert "\n" not in said
