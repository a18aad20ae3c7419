from __future__ import annotations

import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from optix_bus.agents import factory, make_agent, space_spec
from optix_bus.agents.torch.ppo import TorchPPOAgent
from optix_bus.errors import ConfigurationError, MissingExtra, Unsuitable
from optix_bus.types import ArraySpec, HyperparamSet, SpaceSpec
from tests.agents.windows import NUMBERS, VECTOR, random_window


class _Spaces(gym.Env):
    def __init__(self, observation, action):
        self.observation_space, self.action_space = observation, action


BOX, TWO = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2)


def test_a_discrete_environment_gets_ppo():
    agent = make_agent(gym.make("CartPole-v1"))
    assert isinstance(agent, TorchPPOAgent)
    assert agent.act(np.zeros(4, np.float32)) in (0, 1)


def test_environment_vector_and_description_give_the_same_agent():
    single, vector = gym.make("CartPole-v1"), gym.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    states = [make_agent(source, seed=3).state() for source in (single, vector, space_spec(single))]
    for other in states[1:]:
        for name, array in states[0].arrays.items():
            np.testing.assert_array_equal(array, other.arrays[name])


def test_the_seed_decides_weights_acting_and_learning():
    one, same, other = (make_agent(VECTOR, seed=seed) for seed in (1, 1, 2))
    for agent in (one, same, other):
        agent.learn(random_window())
    x = np.zeros((64, 4), np.float32)
    assert one.act_batch(x).actions.tolist() == same.act_batch(x).actions.tolist()
    assert one.state().arrays["actor.0.weight"].tobytes() == same.state().arrays["actor.0.weight"].tobytes()
    assert one.state().arrays["actor.0.weight"].tobytes() != other.state().arrays["actor.0.weight"].tobytes()


def test_building_an_agent_with_a_seed_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    make_agent(VECTOR, seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_weights_are_orthogonal_with_the_usual_gains():
    agent = make_agent(VECTOR, hidden_sizes=(32, 32), seed=0)
    for network, gain in ((agent._actor, 0.01), (agent._critic, 1.0)):
        linears = [layer for layer in network if isinstance(layer, nn.Linear)]
        assert [layer.out_features for layer in linears[:-1]] == [32, 32]
        for layer, factor in zip(linears, (2**0.5, 2**0.5, gain), strict=True):
            singular = torch.linalg.svdvals(layer.weight.detach())
            torch.testing.assert_close(singular, torch.full_like(singular, factor), atol=1e-5, rtol=1e-4)
            assert not layer.bias.detach().any()
    assert np.ptp(agent.action_probs(np.ones(4))) < 0.02


def test_discrete_observations_are_learnt_from():
    agent = make_agent(NUMBERS, seed=0, hyperparams={"n_epochs": 2})
    report = agent.learn(random_window(spaces=NUMBERS))
    assert report["samples"] > 0
    assert agent.act(4) in (0, 1)
    with pytest.raises(Unsuitable, match=r"outside 0\.\.4"):
        agent.act(5)


@pytest.mark.parametrize("given", [{"gamma": 0.9}, HyperparamSet({"gamma": 0.9})])
def test_hyperparameters_may_be_a_set_or_a_dict(given):
    assert make_agent(VECTOR, hyperparams=given).get_hyperparams().params["gamma"] == 0.9


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"hyperparams": {"learnin_rate": 1.0}}, ConfigurationError, "did you mean 'learning_rate'"),
        ({"algorithm": "pppo"}, ConfigurationError, "unknown algorithm 'pppo'; did you mean 'ppo'"),
        ({"framework": "theano"}, ConfigurationError, "unknown framework 'theano'; there is torch"),
        ({"hidden_sizes": (64, 0)}, ConfigurationError, "hidden_sizes are"),
        ({"deterministic": True}, Unsuitable, "deterministic=True"),
    ],
)
def test_wrong_arguments_are_refused_with_what_fits(arguments, error, message):
    with pytest.raises(error, match=message):
        make_agent(VECTOR, **arguments)


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        (BOX, gym.spaces.Box(0, 5, (2,), np.int64), "actions are whole numbers"),
        (BOX, gym.spaces.Text(3), "actions are text, expected discrete"),
        (BOX, gym.spaces.MultiDiscrete([2, 3], start=[0, 1]), "expected numbers from 0"),
        (gym.spaces.Text(3), TWO, "observations are text, expected box"),
        (gym.spaces.Box(0, 255, (8, 8), np.uint8), TWO, "FlattenObservation"),
        (BOX, gym.spaces.Discrete(2, start=1), "expected numbers from 0"),
    ],
)
def test_environments_that_nothing_fits_are_refused_with_what_would(observation, action, message):
    with pytest.raises(Unsuitable, match=message):
        make_agent(_Spaces(observation, action))


def test_something_that_is_no_environment_is_refused():
    with pytest.raises(Unsuitable, match="found int without observation_space"):
        make_agent(3)


def test_a_missing_framework_is_one_line_with_the_remedy(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(factory.importlib, "import_module", absent)
    with pytest.raises(MissingExtra, match=r"pip install 'optix-bus\[torch\]'"):
        make_agent(VECTOR)


def test_spaces_are_described_with_their_bounds():
    env = gym.make("CartPole-v1")
    found = space_spec(env)
    assert found == SpaceSpec(
        "CartPole-v1", ArraySpec("box", (4,), "float32"), ArraySpec("discrete", (), "int64", n=2)
    )
    assert space_spec(found) is found
    pendulum = space_spec(gym.make("Pendulum-v1"))
    assert (pendulum.action.low, pendulum.action.high) == ((-2.0,), (2.0,))
    assert "gymnasium" in sys.modules
