"""The network for images in TensorFlow and JAX beside that of PyTorch: the same weights, the same batch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from optix_bus.agents import load_policy, make_agent
from optix_bus.agents.batch import STATISTICS, Batch
from optix_bus.agents.cards import card
from optix_bus.agents.heads import Categorical, Gaussian
from optix_bus.agents.images import weight_shapes
from optix_bus.agents.jax.images import convolve
from optix_bus.agents.jax.networks import network_arrays
from optix_bus.agents.jax.ppo_loss import Rows, Terms
from optix_bus.agents.jax.ppo_loss import ppo_loss as jax_loss
from optix_bus.agents.kernels import stored_weights
from optix_bus.agents.tensorflow import dqn_update, ppo_update
from optix_bus.agents.tensorflow.a2c_update import GraphPolicyGradient
from optix_bus.agents.tensorflow.base import trainable
from optix_bus.agents.tensorflow.networks import held
from optix_bus.agents.tensorflow.target import take_over
from optix_bus.agents.torch import dqn_update as torch_dqn
from optix_bus.agents.torch import ppo_update as torch_ppo
from optix_bus.agents.torch.a2c_update import PolicyGradient
from optix_bus.agents.torch.arrays import load_module
from optix_bus.errors import CheckpointError
from optix_bus.rl import Transitions
from optix_bus.types import ArraySpec, NamedArrays, SpaceSpec

#: Height and width of which 2 x 3 are left behind the convolutions: an order of axes that is wrong is seen.
SHAPES = [(44, 52, 3), (2, 44, 52), (44, 52)]
FRAMEWORKS = ["tensorflow", "jax"]
THREE = ArraySpec("discrete", (), "int64", n=3)
BOX = ArraySpec("box", (2,), "float32", low=(-1.0, -2.0), high=(3.0, 2.0))
HUNDRED = {**card("ppo").defaults(), "n_epochs": 10, "minibatch_size": 10}


@pytest.fixture(scope="module", autouse=True)
def _quickly_compiled():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def agent_of(
    framework: str,
    shape: tuple[int, ...] = (44, 52),
    action: ArraySpec = THREE,
    algorithm: str = "ppo",
    **params: Any,
) -> Any:
    seen = SpaceSpec("seen", ArraySpec("box", shape, "uint8"), action)
    device = "cpu" if framework == "torch" else "auto"
    return make_agent(
        seen, framework=framework, algorithm=algorithm, seed=0, hyperparams=params, device=device
    )


def pair_of(framework: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    """An agent, and one in PyTorch with the same weights, far from where training begins."""
    agent, twin = (agent_of(each, *args, **options) for each in (framework, "torch"))
    agent.perturb_weights(0.5)
    arrays = agent.state().arrays
    for name, module in twin._modules.items():
        load_module(name, module, arrays)
    return agent, twin


def images(rows: int, shape: tuple[int, ...] = (44, 52)) -> Any:
    return np.random.default_rng(0).integers(0, 256, (rows, *shape)).astype(np.uint8)


def outputs(agent: Any, x: Any) -> dict[str, Any]:
    """What the networks themselves say."""
    x = x.astype(np.float32)
    if hasattr(agent, "_way"):
        return {"actor": agent._way.outputs(x), "critic": agent._way.values(x)[:, None]}
    return {name: model(x).numpy() for name, model in agent._models.items()}


def batch_of(agent: Any, rows: int = 100, on_policy: bool = False) -> Batch:
    rng = np.random.default_rng(1)
    numbers = rng.standard_normal((4, rows)).astype(np.float32)
    discrete = isinstance(agent._actions(), Categorical)
    return Batch(
        observations=images(rows).astype(np.float32),
        actions=rng.integers(0, 3, rows) if discrete else rng.uniform(-1, 2, (rows, 2)).astype(np.float32),
        log_probs=np.float32(-1.1 if discrete else -3.0) + 0.3 * numbers[0],
        advantages=numbers[1],
        returns=2 * numbers[2],
        values=numbers[3],
        on_policy=on_policy,
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_same_weights_say_the_same_in_every_framework_and_in_numpy(framework, shape):
    agent, twin = pair_of(framework, shape)
    x = images(5, shape)
    found = outputs(agent, x)
    with torch.no_grad():
        expected = {
            name: module(torch.from_numpy(x).float()).numpy() for name, module in twin._modules.items()
        }
    assert max(np.abs(each).max() for each in expected.values()) > 0.1
    for name, each in expected.items():
        np.testing.assert_allclose(found[name], each, atol=1e-5, rtol=1e-5, err_msg=name)
    probabilities = torch.softmax(torch.from_numpy(expected["actor"]), -1).numpy()
    for policy in (agent.policy(), load_policy(agent.state())):
        np.testing.assert_allclose(policy.action_probs(x), probabilities, atol=1e-5)
    state, others = agent.state(), twin.state()
    networks = [
        {name: each.shape for name, each in arrays.items() if name.startswith(("actor.", "critic."))}
        for arrays in (state.arrays, others.arrays)
    ]
    assert networks[0] == networks[1]
    assert len(networks[0]) == 20
    assert state.metadata["policy"] == others.metadata["policy"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_weights_begin_orthogonal_with_the_usual_gains(framework):
    arrays = agent_of(framework).state().arrays
    for network, gain in (("actor", 0.01), ("critic", 1.0)):
        for layer, shape in zip((1, 3, 5, 8, 10), weight_shapes((44, 52), 3 if gain < 1 else 1), strict=True):
            weight = arrays[f"{network}.{layer}.weight"]
            assert weight.shape == shape
            singular = np.linalg.svd(weight.reshape(shape[0], -1), compute_uv=False)
            np.testing.assert_allclose(singular, gain if layer == 10 else 2**0.5, rtol=1e-4)
            assert not arrays[f"{network}.{layer}.bias"].any()


def torch_gradients(twin: Any, batch: Batch) -> tuple[Any, dict[str, Any]]:
    order = ("observations", "actions", "log_probs", "advantages", "returns", "values")
    part = tuple(torch.from_numpy(np.asarray(getattr(batch, name))) for name in order)
    loss, statistics, _ = torch_ppo.ppo_loss(
        twin._actor, twin._critic, part, twin._hyperparams.params, head=twin._actions()
    )
    loss.backward()
    gradients = {
        f"{name}.{key}": parameter.grad.numpy()
        for name, module in twin._modules.items()
        for key, parameter in module.named_parameters()
    }
    return statistics.numpy(), gradients


def tensorflow_gradients(agent: Any, batch: Batch) -> tuple[Any, dict[str, Any]]:
    columns = np.stack([batch.log_probs, batch.advantages, batch.returns, batch.values], axis=1)
    part = tuple(tf.constant(each) for each in (batch.observations, batch.actions, columns))
    params = agent._hyperparams.params
    with tf.GradientTape() as tape:
        loss, statistics, _ = ppo_update.ppo_loss(agent._actor, agent._critic, part, params, agent._actions())
    kept = [each for name, model in agent._models.items() for each in held(model, name)]
    gradients = tape.gradient(loss, [each.variable.value for each in kept])
    return statistics.numpy(), {
        each.name: stored_weights(gradient.numpy()) if each.transposed else gradient.numpy()
        for each, gradient in zip(kept, gradients, strict=True)
    }


def jax_gradients(agent: Any, batch: Batch) -> tuple[Any, dict[str, Any]]:
    modules, numbers = agent._way.modules, agent._hyperparams.params
    rows = Rows(
        batch.observations, batch.actions, batch.log_probs, batch.advantages, batch.returns, batch.values
    )

    def loss(weights: Any) -> Any:
        mask = jnp.ones(len(batch.actions))
        return jax_loss(modules["actor"], modules["critic"], weights, rows, mask, numbers, Terms(True, False))

    gradients, (statistics, _) = jax.jit(jax.grad(loss, has_aux=True))(agent._way.weights)
    arrays: dict[str, Any] = {}
    for name, module in modules.items():
        arrays.update(network_arrays(name, module, gradients[name]))
    return np.asarray(statistics), arrays


@pytest.mark.parametrize(
    ("framework", "action"), [("tensorflow", THREE), ("tensorflow", BOX), ("jax", THREE)], ids=str
)
def test_loss_statistics_and_gradients_equal_those_of_torch(framework, action):
    agent, twin = pair_of(framework, action=action)
    assert isinstance(agent._actions(), Categorical if action is THREE else Gaussian)
    batch = batch_of(agent, 32)
    expected, theirs = torch_gradients(twin, batch)
    found, ours = {"tensorflow": tensorflow_gradients, "jax": jax_gradients}[framework](agent, batch)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        # Sums over thousands of places: relative to the largest number of the array.
        np.testing.assert_allclose(
            ours[name], gradient, atol=1e-5 * max(1.0, np.abs(gradient).max()), err_msg=name
        )
        assert np.abs(gradient).max() > 1e-4, "the layer learns"


@pytest.mark.parametrize("action", [THREE, BOX], ids=str)
def test_a_plain_step_of_a2c_goes_where_that_of_torch_goes(action):
    agent, twin = pair_of("tensorflow", action=action, algorithm="a2c")
    batch, params = batch_of(agent, 32), {**card("a2c").defaults(), "max_grad_norm": 1e9}
    models, modules = agent._models.values(), twin._modules.values()
    # At a rate of 1 weights move by the gradient.
    sgd = keras.optimizers.SGD(1.0)
    sgd.build(trainable(*models))
    theirs = torch.optim.SGD([p for module in modules for p in module.parameters()], lr=1.0)
    ways = [
        GraphPolicyGradient(*models, sgd, agent._actions()),
        PolicyGradient(*modules, theirs, twin._device, twin._actions()),
    ]
    np.testing.assert_allclose(*(way.values(batch.observations) for way in ways), rtol=1e-5, atol=1e-5)
    before = twin.state().arrays
    found, expected = (way.update(batch, params, np.random.default_rng(0)) for way in ways)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)
    ours, after = agent.state().arrays, twin.state().arrays
    names = [name for name in after if name.startswith(("model.", "critic."))]
    assert len(names) == (20 if action is THREE else 21)
    for name in names:
        moved, wanted = ours[name] - before[name], after[name] - before[name]
        np.testing.assert_allclose(moved, wanted, atol=1e-5 * max(1.0, np.abs(wanted).max()), err_msg=name)
        assert np.abs(wanted).max() > 1e-4, "the layer learns"


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_hundred_steps_end_where_those_of_torch_end_and_are_compiled_once(framework):
    agent, twin = pair_of(framework)
    batch = batch_of(agent)
    # A tenth of the usual rate: at that one PyTorch itself, begun with weights that are otherwise by 1e-7,
    # ends 7e-3 from where it ends without, because a rectified unit is on the other side of zero.
    params = {**HUNDRED, "learning_rate": 3e-5}
    for each in (agent, twin):
        each.set_hyperparams({"learning_rate": 3e-5})
    ways = [each._way_to_update() for each in (agent, twin)]
    reports = [way.update(batch, params, np.random.default_rng(0)) for way in ways]
    assert reports[0]["updates"] == 100
    assert reports[0] == pytest.approx(reports[1], rel=2e-3, abs=1e-4)
    assert reports[0].keys() >= {*STATISTICS}
    found, expected = agent.state().arrays, twin.state().arrays
    for name in expected:
        if name.startswith(("actor.", "critic.")):
            np.testing.assert_allclose(found[name], expected[name], atol=1e-4, err_msg=name)
    way: Any = ways[0]
    way.update(batch_of(agent, 97), params, np.random.default_rng(0))
    assert (way.traces if framework == "tensorflow" else way.programs.compilations["update"]) == 1


def transitions(rows: int) -> Transitions:
    rng = np.random.default_rng(2)
    return Transitions(
        observations=images(rows),
        actions=rng.integers(0, 3, rows),
        rewards=rng.standard_normal(rows).astype(np.float32),
        next_observations=images(rows)[::-1],
        discounts=(0.99 * (rng.random(rows) > 0.1)).astype(np.float32),
        weights=rng.random(rows).astype(np.float32),
        indices=np.arange(rows),
        terminated=np.zeros(rows, bool),
        steps=np.ones(rows, np.int64),
    )


def test_the_values_that_tensorflow_learns_are_those_of_torch():
    agent, twin = pair_of("tensorflow", algorithm="dqn")
    batch, targets = transitions(32), np.random.default_rng(3).standard_normal(32).astype(np.float32)
    x = batch.observations.astype(np.float32)
    loss, errors, _ = torch_dqn.q_loss(
        twin._q_network,
        *(torch.from_numpy(each) for each in (x, batch.actions[:, None], targets, batch.weights)),
    )
    loss.backward()
    with tf.GradientTape() as tape:
        own, found, _ = dqn_update.q_loss(agent._q_network, x, batch.actions, targets, batch.weights)
    np.testing.assert_allclose(found.numpy(), errors.numpy(), atol=1e-5)
    assert float(own) == pytest.approx(float(loss.detach()), rel=1e-5)
    gradients = tape.gradient(own, [v.value for v in trainable(agent._q_network)])
    for gradient, parameter in zip(gradients, twin._q_network.parameters(), strict=True):
        turned = stored_weights(gradient.numpy()) if gradient.ndim > 1 else gradient.numpy()
        np.testing.assert_allclose(turned, parameter.grad.numpy(), atol=1e-5)
    take_over(agent._q_network, agent._target_network)
    twin._target_network.load_state_dict(twin._q_network.state_dict())
    params, batch = card("dqn").defaults(), transitions(800)
    for each in (agent, twin):
        each.set_hyperparams({"learning_rate": 1e-5})
    reports = [each._way_to_update().update(batch, 100, params) for each in (agent, twin)]
    np.testing.assert_allclose(reports[0].errors, reports[1].errors, atol=1e-3)
    ours, theirs = agent.state().arrays, twin.state().arrays
    for name in theirs:
        if name.startswith("q_network."):
            np.testing.assert_allclose(ours[name], theirs[name], atol=1e-4, err_msg=name)
    assert agent.traces == 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_file_of_torch_is_read_and_one_of_another_size_is_refused_by_name(framework, tmp_path):
    agent, twin = pair_of(framework)
    twin.perturb_weights(0.5)
    agent._parts.load(twin.state().arrays, None)
    agent.reset_cache()
    x = images(4)
    np.testing.assert_allclose(
        [agent.action_probs(each) for each in x], [twin.action_probs(each) for each in x], atol=1e-5
    )
    agent.save_weights(str(tmp_path / "w"))
    other = agent_of(framework)
    other.load_weights(str(tmp_path / "w"))
    np.testing.assert_array_equal(other.action_probs(x[0]), agent.action_probs(x[0]))
    state = agent_of("torch", (2, 44, 52)).state()
    with pytest.raises(CheckpointError, match=r"actor\.1\.weight of shape \[32, 2, 8, 8\].* \[32, 1, 8, 8\]"):
        agent.load_state(NamedArrays(state.arrays, {**agent.state().metadata}))


@pytest.mark.parametrize(("size", "stride"), [(8, 4), (5, 2)])
def test_the_convolution_of_jax_is_its_own_on_every_device(size, stride):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 23, 30, 3)).astype(np.float32)
    kernel = rng.standard_normal((size, size, 3, 5)).astype(np.float32)
    dimensions = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    answers = []
    for function in (convolve, jax.lax.conv_general_dilated):

        def squared(x, kernel, function=function):
            answer = function(x, kernel, (stride, stride), "VALID", **dimensions)
            return (answer**2).sum(), answer

        (_, answer), gradients = jax.jit(jax.value_and_grad(squared, (0, 1), has_aux=True))(x, kernel)
        answers.append((answer, *gradients))
    for found, expected in zip(*answers, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    traced = jax.jit(lambda x: convolve(x, kernel, (stride, stride), "VALID", **dimensions)).trace(x)
    here, there = (traced.lower(lowering_platforms=(platform,)).as_text() for platform in ("cpu", "cuda"))
    assert "stablehlo.convolution" not in here
    assert "stablehlo.convolution" in there
