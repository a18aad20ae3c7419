"""Deep Q-learning in TensorFlow, beside PyTorch."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from optix_bus.agents import make_agent
from optix_bus.agents.cards import card
from optix_bus.agents.tensorflow.adam import PaperAdam
from optix_bus.agents.tensorflow.base import trainable
from optix_bus.agents.tensorflow.dqn import TFDQNAgent
from optix_bus.agents.tensorflow.dqn_update import GraphDQN, q_loss
from optix_bus.agents.tensorflow.networks import build_relu_mlp, held
from optix_bus.agents.tensorflow.target import target_of
from optix_bus.agents.torch import dqn_update as theirs
from optix_bus.agents.torch.q_networks import build_q_network
from optix_bus.agents.torch.target import frozen_copy
from optix_bus.errors import ConfigurationError, LearningFailure, Unsuitable
from optix_bus.rl import Transitions
from optix_bus.types import HyperparamSet
from tests.agents.windows import NUMBERS, VECTOR, random_window

CPU = torch.device("cpu")
QUICK = {"learning_starts": 64, "batch_size": 16, "replay_capacity": 1000, "learning_rate": 1e-2}


def _pair():
    model = build_relu_mlp(4, (16, 16), 3, rng=np.random.default_rng(0))
    module = build_q_network(4, (16, 16), 3, generator=torch.Generator())
    module.load_state_dict({each.name[2:]: torch.from_numpy(each.array()) for each in held(model, "x")})
    return model, module


def _transitions(rows=320, seed=0):
    rng = np.random.default_rng(seed)
    return Transitions(
        observations=rng.standard_normal((rows, 4)).astype(np.float32),
        actions=rng.integers(0, 3, rows),
        rewards=3 * rng.standard_normal(rows).astype(np.float32),
        next_observations=rng.standard_normal((rows, 4)).astype(np.float32),
        discounts=(0.99 * (rng.random(rows) > 0.1)).astype(np.float32),
        weights=rng.random(rows).astype(np.float32),
        indices=np.arange(rows),
        terminated=np.zeros(rows, bool),
        steps=np.ones(rows, np.int64),
    )


def _weights(model):
    return np.concatenate([each.array().ravel() for each in held(model, "x")])


def _same(first, second):
    one, two = first.state().arrays, second.state().arrays
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_loss_and_gradients_equal_those_of_torch():
    (model, module), batch = _pair(), _transitions()
    targets = 2 * batch.rewards
    loss, errors, q_mean = theirs.q_loss(
        module,
        *(torch.from_numpy(each) for each in (batch.observations, batch.actions[:, None])),
        torch.from_numpy(targets),
        torch.from_numpy(batch.weights),
    )
    loss.backward()
    with tf.GradientTape() as tape:
        own, found, mean = q_loss(
            model, batch.observations, batch.actions, tf.constant(targets), batch.weights
        )
    assert (float(own), float(mean)) == pytest.approx((float(loss), float(q_mean)), rel=1e-5)
    np.testing.assert_allclose(found.numpy(), errors.numpy(), atol=1e-5)
    gradients = tape.gradient(own, [v.value for v in trainable(model)])
    for gradient, parameter in zip(gradients, module.parameters(), strict=True):
        np.testing.assert_allclose(gradient.numpy().T, parameter.grad.numpy(), atol=1e-5)


@pytest.mark.parametrize("double", [True, False])
def test_a_hundred_steps_end_where_those_of_torch_end(double):
    model, module = _pair()
    params = {**card("dqn").defaults(), "double": double, "max_grad_norm": 0.5}
    optimizer = PaperAdam(1e-3, epsilon=1e-8)
    optimizer.build(trainable(model))
    ours = GraphDQN(model, target_of("q_network", model), optimizer)
    adam = torch.optim.Adam(module.parameters(), lr=1e-3)
    other = theirs.DQNUpdate(module, frozen_copy(module), adam, CPU)
    for number in range(5):
        batch = _transitions(seed=number)
        found, expected = (way.update(batch, 20, params) for way in (ours, other))
        np.testing.assert_allclose(found.errors, expected.errors, atol=1e-3)
        for name in ("loss", "q_mean", "grad_norm"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-3, atol=1e-4)
        for way in (ours, other):
            way.synchronise()
    expected = np.concatenate([p.detach().numpy().ravel() for p in module.parameters()])
    np.testing.assert_allclose(_weights(model), expected, atol=1e-4)
    assert ours.traces == 1


def _agent(hyperparams=QUICK, **options):
    network = build_relu_mlp(4, (16,), 3, rng=np.random.default_rng(0))
    return TFDQNAgent(network, 3, keras.optimizers.Adam(1e-2), hyperparams, seed=0, **options)


def test_the_published_constructor_learns_and_is_traced_once():
    network = keras.Sequential(
        [keras.Input(shape=(4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)]
    )
    hyperparams = {"epsilon": 1.0, "epsilon_min": 0.05, "epsilon_decay": 0.995, "batch_size": 32, "n_step": 3}
    agent = TFDQNAgent(
        q_network=network, n_actions=3, optimizer=keras.optimizers.Adam(3e-4),
        hyperparams=HyperparamSet(params={**hyperparams, "learning_starts": 50}, episode_id=0),
    )  # fmt: skip
    before, epsilon = _weights(network), agent.epsilon
    for number in range(3):
        report = agent.learn(random_window(number, steps=20 + number))
    assert report["updates"] == 44
    assert report["gradient_steps"] == 102
    assert 0.0 < report["epsilon"] < epsilon
    assert np.abs(_weights(network) - before).max() > 1e-4
    agent.set_hyperparams({"learning_rate": 1e-3, "gamma": 0.9, "batch_size": 8})
    agent.learn(random_window(5))
    assert agent.traces == 1
    assert agent.get_hyperparams().params["gamma"] == 0.9


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_a_restored_agent_goes_on_to_the_bit_with_its_replay(tmp_path, alpha):
    first, second = (_agent({**QUICK, "per_alpha": alpha, "n_step": 2}) for _ in range(2))
    first.learn(random_window(0))
    first.save_weights(str(tmp_path / "weights"))
    second.load_weights(str(tmp_path / "weights"))
    for agent in (first, second):
        agent.reseed(np.random.default_rng(7))
        assert agent.learn(random_window(1, steps=12))["updates"] == 24
    _same(first, second)


def test_the_target_stands_still_between_two_takeovers():
    agent = _agent({**QUICK, "target_update_freq": 50})
    start = _weights(agent._target_network)
    agent.learn(random_window(0, steps=40))  # 48 gradient steps
    np.testing.assert_array_equal(_weights(agent._target_network), start)
    agent.learn(random_window(1, steps=1))
    np.testing.assert_array_equal(_weights(agent._target_network), _weights(agent._q_network))


def test_a_failure_leaves_the_agent_as_it_was():
    agent, twin = _agent(), _agent()
    for each in (agent, twin):
        each.learn(random_window(0))
        each.set_hyperparams({"learning_rate": 1e38})
    with pytest.raises(LearningFailure, match=r"window 9: gradient step \d+ of it is not finite"):
        agent.learn(random_window(9))
    _same(agent, twin)
    assert len(agent._memory.replay) == len(twin._memory.replay)


def test_what_does_not_fit_is_refused():
    with pytest.raises(Unsuitable, match="the q_network has 3 outputs, expected 4"):
        TFDQNAgent(build_relu_mlp(4, (8,), 3, rng=np.random.default_rng(0)), 4, keras.optimizers.Adam())
    with pytest.raises(Unsuitable, match="the q_network does not take inputs for vector"):
        TFDQNAgent(
            build_relu_mlp(7, (8,), 3, rng=np.random.default_rng(0)),
            3,
            keras.optimizers.Adam(),
            spaces=VECTOR,
        )

    class Own(keras.Model):
        def __init__(self, size):
            super().__init__()
            self.last = keras.layers.Dense(size)

        def call(self, x):
            return self.last(x)

    own = Own(3)
    own(np.zeros((1, 4), np.float32))
    with pytest.raises(ConfigurationError, match="the q_network cannot be copied for its target"):
        TFDQNAgent(own, 3, keras.optimizers.Adam())


def test_discrete_observations_are_learnt_from():
    agent = make_agent(NUMBERS, "tf", "dqn", seed=0, hidden_sizes=(8,), hyperparams=QUICK)
    assert agent.learn(random_window(spaces=NUMBERS))["updates"] > 0
    assert agent.act(4) in (0, 1)
