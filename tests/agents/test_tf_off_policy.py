"""SAC and TD3 in TensorFlow, beside PyTorch."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch

from optix_bus.agents import TFSACAgent, TFTD3Agent, TFTDDAgent, load_policy, make_agent
from optix_bus.agents.tensorflow.adam import PaperAdam
from optix_bus.errors import ConfigurationError, LearningFailure, Unsuitable
from optix_bus.types import HyperparamSet, NamedArrays
from tests.agents.off_policy_worlds import (
    HIGH,
    LOPSIDED,
    LOW,
    QUICK,
    box_window,
    close,
    same,
    steps_of_both,
)
from tests.agents.off_policy_worlds import small_agent as torch_agent

L = keras.layers
BOTH = pytest.mark.parametrize("algorithm", ["sac", "td3"])


def _network(inputs, outputs):
    return keras.Sequential([keras.Input(shape=(inputs,)), L.Dense(5, "tanh"), L.Dense(outputs)])


def _agent(algorithm, hyperparams=None, optimizer=lambda: PaperAdam(1e-3, epsilon=1e-8), **options):
    keras.utils.set_random_seed(0)
    actor, *critics = (_network(i, o) for i, o in ((3, 4 if algorithm == "sac" else 2), (5, 1), (5, 1)))
    optimizers = [optimizer() for _ in range(3 if algorithm == "sac" else 2)]
    kind = TFSACAgent if algorithm == "sac" else TFTDDAgent
    options = {"seed": 0, "spaces": LOPSIDED, **options}
    return kind(actor, *critics, 2, *optimizers, {**QUICK, **(hyperparams or {})}, **options)


def _pair(algorithm, hyperparams=None, ours=lambda: PaperAdam(1e-3, epsilon=1e-8), theirs=torch.optim.Adam):
    """The same agent in both frameworks, with targets of their own, so that a mix-up shows."""
    one = _agent(algorithm, hyperparams, ours)
    other = torch_agent(algorithm, {"learning_rate": 1e-3, **(hyperparams or {})}, optimizer=theirs)
    with torch.no_grad():
        for target in other._targets:
            for parameter in target.parameters():
                parameter.mul_(1.3)
    state, given = one.state(), other.state().arrays
    assert {name for name in state.arrays if "optimizer" not in name} <= given.keys()
    arrays = {name: given.get(name, array) for name, array in state.arrays.items()}
    one.load_state(NamedArrays(arrays, state.metadata))
    other._gather()
    return one, other


@BOTH
def test_losses_and_gradients_equal_those_of_torch(algorithm):
    # With plain gradient descent of rate 0.1 the weights tell the gradients; the actor moves at once.
    pair = _pair(
        algorithm,
        {"learning_rate": 0.1, **({"policy_delay": 1} if algorithm == "td3" else {"target_entropy": -1.5})},
        lambda: keras.optimizers.SGD(0.1),
        lambda parameters, lr: torch.optim.SGD(parameters, lr=0.1),
    )
    before = pair[0].state().arrays["actor.0.weight"].copy()
    ours, theirs, errors, expected = steps_of_both(pair, 1)
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    np.testing.assert_allclose(errors, expected, atol=1e-5)
    close(pair, 1e-6)
    assert np.abs(pair[0].state().arrays["actor.0.weight"] - before).max() > 1e-4


@BOTH
def test_a_hundred_steps_end_where_those_of_torch_end(algorithm):
    pair = _pair(algorithm)
    for number in range(5):
        ours, theirs, _, _ = steps_of_both(pair, 20, seed=number)
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)
    close(pair, 1e-4)
    assert pair[0].traces == 1


def test_the_factory_chooses_as_for_torch_and_both_names_are_one():
    assert type(make_agent(LOPSIDED, "tf", hidden_sizes=(8,))) is TFSACAgent
    assert type(make_agent(LOPSIDED, "tf", deterministic=True, hidden_sizes=(8,))) is TFTDDAgent
    assert TFTD3Agent is TFTDDAgent


def test_the_published_constructor_learns():
    optimizers = [keras.optimizers.Adam(rate) for rate in (3e-4, 6e-4, 3e-4)]
    agent = TFSACAgent(
        actor=_network(3, 4), critic1=_network(5, 1), critic2=_network(5, 1), action_dim=2,
        actor_optimizer=optimizers[0], critic_optimizer=optimizers[1], alpha_optimizer=optimizers[2],
        hyperparams=HyperparamSet(
            params={"learning_rate": 3e-4, "gamma": 0.99, "tau": 0.005, "batch_size": 16,
                    "learning_starts": 8, "replay_capacity": 1000}, episode_id=0),
    )  # fmt: skip
    actions = np.random.default_rng(0).uniform(-1, 1, (12, 2, 2))
    report = agent.learn(box_window(actions=actions))
    assert report["updates"] == 16
    assert report["alpha"] == pytest.approx(agent.temperature, rel=0.02)
    agent.set_hyperparams({"learning_rate": 1e-3})
    assert [float(each.learning_rate.numpy()) for each in optimizers] == pytest.approx([1e-3, 2e-3, 1e-3])
    acted = agent.act_batch(np.zeros((50, 3), np.float32)).actions
    assert acted.shape == (50, 2)
    assert (np.abs(acted) <= 1).all()


@BOTH
def test_actions_are_in_the_units_of_the_environment_and_the_policy_acts_alike_elsewhere(algorithm):
    agent = _agent(algorithm)
    agent.learn(box_window())
    x = np.random.default_rng(1).standard_normal((64, 3)).astype(np.float32)
    policy = load_policy(agent.state())
    for each in (agent, policy):
        each.reseed(np.random.default_rng(4))
    one, two = agent.act_batch(x).actions, policy.act_batch(x).actions
    assert one.tobytes() == two.tobytes()
    assert (one >= LOW).all()
    assert (one <= HIGH).all()
    assert np.ptp(one[:, 1]) > 0.001


@BOTH
def test_bounds_are_taken_from_the_environment_that_a_pipeline_shows(algorithm):
    shown, built = _agent(algorithm, spaces=None), _agent(algorithm)
    shown.adopt_spaces(LOPSIDED)
    for agent in (shown, built):
        agent.learn(box_window())
    same(shown, built)
    heir = _agent(algorithm, spaces=None)
    heir.load_state(built.state())
    assert heir.state().metadata["policy"]["high"] == list(LOPSIDED.action.high)


@BOTH
def test_a_restored_agent_goes_on_to_the_bit_and_is_traced_once(algorithm, tmp_path):
    params = {"per_alpha": 0.6, "n_step": 2} if algorithm == "sac" else {}
    first, second = (_agent(algorithm, params) for _ in range(2))
    first.learn(box_window(0))
    first.save_weights(str(tmp_path / "weights"))
    second.load_weights(str(tmp_path / "weights"))
    for agent in (first, second):
        agent.reseed(np.random.default_rng(7))
        agent.set_hyperparams({"gamma": 0.9, "tau": 0.01, "batch_size": 8})
        assert agent.learn(box_window(1, steps=9))["updates"] == 18
        assert agent.traces == 1
    same(first, second)


@BOTH
def test_a_failure_leaves_the_agent_as_it_was(algorithm):
    agent, twin = _agent(algorithm), _agent(algorithm)
    for each in (agent, twin):
        each.learn(box_window(0))
        each.set_hyperparams({"learning_rate": 1e30})
    with pytest.raises(LearningFailure, match=rf"window 9: the {algorithm} update is not finite"):
        agent.learn(box_window(9))
    same(agent, twin)


def test_td3_moves_actor_and_targets_every_second_gradient_step_across_windows():
    agent = _agent("td3", {"batch_size": 4})
    names = ("actor.0.weight", "target_critic1.0.weight", "target_actor.0.weight")
    before = agent.state().arrays
    reports = [agent.learn(box_window(0, steps=1, width=1, terminated=np.zeros((1, 1), bool)))]
    after = agent.state().arrays
    assert all(np.array_equal(before[name], after[name]) for name in names)
    assert not np.array_equal(before["critic1.0.weight"], after["critic1.0.weight"])
    reports.append(agent.learn(box_window(1, steps=1, width=1, terminated=np.zeros((1, 1), bool))))
    assert [("actor_loss" in report, report["updates"]) for report in reports] == [(False, 1.0), (True, 1.0)]
    assert not any(np.array_equal(before[name], agent.state().arrays[name]) for name in names)


def test_a_tanh_at_the_end_is_not_taken_twice():
    actor = keras.Sequential([keras.Input(shape=(3,)), L.Dense(2, "tanh")])
    agent = TFTDDAgent(actor, _network(5, 1), _network(5, 1), 2, *(keras.optimizers.Adam() for _ in "ab"))
    x = np.ones((1, 3), np.float32)
    agent.set_hyperparams({"learning_starts": 0})
    acted = agent.act_batch(x, deterministic=True).actions
    np.testing.assert_allclose(acted, actor(x).numpy(), atol=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(Unsuitable, match="the actor gives 3 numbers, expected 4 for 2 actions"):
        TFSACAgent(
            _network(3, 3), _network(5, 1), _network(5, 1), 2, *(keras.optimizers.Adam() for _ in "abc")
        )
    with pytest.raises(Unsuitable, match="the critic2 does not take inputs for lopsided, shape \\[5\\]"):
        TFSACAgent(
            _network(3, 4), _network(5, 1), _network(4, 1), 2, *(keras.optimizers.Adam() for _ in "abc"),
            spaces=LOPSIDED,
        )  # fmt: skip
    one = keras.optimizers.Adam()
    with pytest.raises(ConfigurationError, match="give each agent and each role an optimizer of its own"):
        TFSACAgent(_network(3, 4), _network(5, 1), _network(5, 1), 2, one, one, one)
