"""The policy-gradient agent around any Keras model, beside that of PyTorch, which formulas have judged."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from optix_bus.agents import make_agent
from optix_bus.agents.acting import is_portable
from optix_bus.agents.tensorflow.generic import TFAgent
from optix_bus.agents.tensorflow.rmsprop import PlainRMSprop
from optix_bus.agents.torch.generic import TorchAgent
from optix_bus.errors import LearningFailure, Unsuitable
from optix_bus.rl import ObsNormalizer
from optix_bus.types import HyperparamSet, NamedArrays
from tests.agents.every import BOX
from tests.agents.test_action_masks import masked_window
from tests.agents.windows import VECTOR, random_window
from tests.oracles import policy_gradient as oracle

L = keras.layers


def _model(inputs=4, outputs=3):
    return keras.Sequential([keras.Input(shape=(inputs,)), L.Dense(8, "tanh"), L.Dense(outputs)])


def _agent(model=None, critic=None, hyperparams=None, optimizer=None, **options):
    optimizer = optimizer or keras.optimizers.Adam(1e-2)
    return TFAgent(model or _model(), optimizer, hyperparams, critic=critic, seed=0, **options)


def _pair(spaces, **hyperparams):
    """An agent here and one in PyTorch with the same weights."""
    ours, theirs = (
        make_agent(spaces, framework, "a2c", hidden_sizes=(8,), hyperparams=hyperparams, seed=0)
        for framework in ("tf", "torch")
    )
    arrays = dict(ours.state().arrays)
    for name, array in theirs.state().arrays.items():
        if name.startswith(("model.", "critic.")):
            assert arrays[name].shape == array.shape
            arrays[name] = array
    ours.load_state(NamedArrays(arrays, ours.state().metadata))
    return ours, theirs


def _window(spaces, seed, **changes):
    if spaces is VECTOR:
        return masked_window(seed) if changes.pop("masked", False) else random_window(seed, **changes)
    rng = np.random.default_rng(seed)
    return random_window(
        seed, steps=24, observations=rng.standard_normal((24, 4, 3)).astype(np.float32),
        final_observations=rng.standard_normal((24, 4, 3)).astype(np.float32),
        actions=rng.uniform(-1, 1, (24, 4, 2)),
    )  # fmt: skip


def test_reinforce_moves_a_linear_policy_by_the_gradient_of_the_formula():
    model, gamma, window = (
        keras.Sequential([keras.Input(shape=(4,)), L.Dense(3)]),
        0.9,
        random_window(width=None),
    )
    window.truncated[:] = False
    window.terminated[-1] = True
    before = model.layers[0].kernel.numpy().astype(np.float64)
    x = np.asarray(window.observations, np.float64)
    logits = x @ before
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    returns = oracle.returns_to_go(window.rewards.tolist(), window.terminated, gamma, [0.0] * 48)
    expected = x.T @ ((np.eye(3)[window.actions] - p) * np.array(returns)[:, None]) / 48
    plain = {"learning_rate": 1.0, "max_grad_norm": 1e9, "entropy_coef": 0.0, "gamma": gamma}
    report = _agent(model, hyperparams=plain, optimizer=keras.optimizers.SGD(1.0)).learn(window)
    np.testing.assert_allclose(model.layers[0].kernel.numpy() - before, expected, atol=1e-5)
    assert (report["value_loss"], report["updates"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("spaces", "masked"), [(VECTOR, False), (VECTOR, True), (BOX, False)], ids=["plain", "masked", "box"]
)
def test_a_hundred_windows_are_learnt_as_pytorch_learns_them_in_one_trace(spaces, masked):
    """Loss to 1e-5, weights after 100 steps of RMSProp to 1e-4."""
    ours, theirs = _pair(spaces, normalize_advantage=True)
    for number in range(100):
        reports = [agent.learn(_window(spaces, number % 7, masked=masked)) for agent in (ours, theirs)]
        if number == 0:
            for name in ("policy_loss", "value_loss", "entropy", "loss", "grad_norm"):
                assert reports[0][name] == pytest.approx(reports[1][name], rel=1e-5, abs=1e-5), name
    for name, array in theirs.state().arrays.items():
        if name.startswith(("model.", "critic.")):
            np.testing.assert_allclose(ours.state().arrays[name], array, atol=1e-4, err_msg=name)
    assert ours.traces == 1
    ours.set_hyperparams({"normalize_advantage": False, "gamma": 0.5})
    ours.learn(_window(spaces, 3))
    assert ours.traces == 2


def test_rmsprop_of_a_model_is_that_of_pytorch():
    value = np.array([1.0, -2.0, 3.0], np.float32)
    theirs, ours = torch.nn.Parameter(torch.from_numpy(value.copy())), keras.Variable(value)
    descent = torch.optim.RMSprop([theirs], lr=1e-2, alpha=0.99, eps=1e-5)
    optimizer = PlainRMSprop(1e-2, rho=0.99, epsilon=1e-5)
    for step in range(20):
        gradient = np.array([1e-4, 0.1, float(step)], np.float32)
        theirs.grad = torch.from_numpy(gradient)
        descent.step()
        optimizer.apply([tf.constant(gradient)], [ours])
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-5)


def _both():
    x = keras.Input(shape=(4,))
    body = L.Dense(8, "tanh")(x)
    return keras.Model(x, [L.Dense(3)(body), L.Dense(1)(body)])


def test_a_model_with_two_outputs_is_its_own_critic(tmp_path):
    agent = _agent(_both(), obs_normalizer=ObsNormalizer((4,)))
    assert not is_portable(agent.state())
    assert agent.learn(random_window())["value_loss"] > 0.0
    x = np.random.default_rng(0).standard_normal((8, 4))
    scaled = agent._obs_normalizer.normalize(x)
    expected = agent.model(scaled)[0].numpy().argmax(1)
    np.testing.assert_array_equal(agent.act_batch(x, deterministic=True).actions, expected)
    agent.save_weights(str(tmp_path / "w"))
    other = _agent(_both(), obs_normalizer=ObsNormalizer((4,)))
    other.load_weights(str(tmp_path / "w"))
    np.testing.assert_array_equal(other.act_batch(x, deterministic=True).actions, expected)


def test_a_loss_of_ones_own_is_what_is_minimised_and_follows_its_numbers_without_a_new_trace():
    seen = []

    def weighted(model, batch):
        seen.append((model, batch.values, batch.masks))
        if tf.reduce_mean(batch.returns) > 1e9:  # a branch on tensors is translated
            return tf.constant(0.0)
        return -batch.hyperparams["entropy_coef"] * tf.reduce_mean(batch.entropies)

    agent = _agent(compute_loss_fn=weighted, hyperparams={"entropy_coef": 1.0})
    first = agent.learn(random_window())
    for number in range(60):
        last = agent.learn(random_window(number))
    assert first["entropy"] < last["entropy"]
    assert last["entropy"] == pytest.approx(np.log(3), abs=0.02)
    agent.set_hyperparams({"entropy_coef": 0.0})
    assert agent.learn(random_window())["loss"] == 0.0
    assert agent.traces == 1
    assert {id(model) for model, _, _ in seen} == {id(agent.model)}


def test_a_restored_agent_goes_on_to_the_bit():
    first, second = (_agent(critic=_model(outputs=1)) for _ in range(2))
    for number in range(2):
        first.learn(random_window(number))
    second.load_state(first.state())
    for agent in (first, second):
        agent.learn(random_window(5))
    for name, array in first.state().arrays.items():
        np.testing.assert_array_equal(second.state().arrays[name], array, err_msg=name)


def test_a_failure_leaves_the_agent_as_it_was():
    agent = _agent(
        critic=_model(outputs=1), hyperparams={"learning_rate": 1e38}, optimizer=keras.optimizers.SGD(1.0)
    )
    before = agent.state().arrays
    window = random_window(9)
    window.rewards = window.rewards * 1e30
    with pytest.raises(LearningFailure, match="window 9: the update is not finite"):
        agent.learn(window)
    for name, array in agent.state().arrays.items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_the_published_constructor_works_and_learning_may_be_ones_own():
    class Mine(TFAgent):
        def learn(self, episode_data):
            return {**super().learn(episode_data), "clip": self._hyperparams.params.get("clip_ratio", 0.2)}

    model = _model(outputs=2)
    agent = Mine(
        model=model,
        optimizer=keras.optimizers.Adam(learning_rate=3e-4),
        hyperparams=HyperparamSet(params={"learning_rate": 3e-4, "gamma": 0.99}, episode_id=0),
    )
    assert agent.model is model
    assert agent.act(np.zeros(4, np.float32)) in (0, 1)
    window = random_window(actions=np.zeros((48, 4), int))
    assert agent.learn(window)["clip"] == 0.2


def test_networks_of_the_wrong_size_are_refused_with_both_sizes():
    with pytest.raises(Unsuitable, match=r"the model gives \[2, 5\] .*, expected \[2, 3\]"):
        _agent(_model(outputs=5), spaces=VECTOR)
    with pytest.raises(Unsuitable, match=r"the critic gives \[2, 2\] .*, expected \[2, 1\]"):
        _agent(critic=_model(outputs=2), spaces=VECTOR)
    with pytest.raises(Unsuitable, match=r"gives 3 numbers, expected 4: \[mean \| log_std\] of 2 actions"):
        _agent(action_dim=2)


def test_it_is_the_twin_of_the_agent_in_pytorch():
    ours, theirs = (inspect.signature(kind).parameters for kind in (TFAgent, TorchAgent))
    assert list(ours) == [name for name in theirs if name != "device"]
