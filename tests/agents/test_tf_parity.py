"""TensorFlow and PyTorch from the same weights and the same batch: the same loss, gradients and steps."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from optix_bus.agents.batch import STATISTICS, Batch
from optix_bus.agents.cards import card
from optix_bus.agents.heads import Bernoulli, Categorical, Gaussian, MultiCategorical
from optix_bus.agents.tensorflow.adam import PaperAdam, apply_gradients, is_plain_adam
from optix_bus.agents.tensorflow.base import trainable
from optix_bus.agents.tensorflow.distributions import evaluate
from optix_bus.agents.tensorflow.networks import build_mlp, held
from optix_bus.agents.tensorflow.ppo_update import GraphPPO, clip_by_norm, ppo_loss
from optix_bus.agents.torch import networks as torch_networks
from optix_bus.agents.torch.distributions import evaluate as torch_evaluate
from optix_bus.agents.torch.ppo_update import AutogradPPO
from optix_bus.agents.torch.ppo_update import ppo_loss as torch_loss

CPU = torch.device("cpu")
PARAMS = card("ppo").defaults()
HEADS = [Categorical(3), Gaussian((2,), (-1.0, -2.0), (3.0, 2.0))]
VARIANTS = [
    {},
    {"normalize_advantage": False},
    {"clip_value": 0.3},
    {"clip_ratio": 0.02, "vf_coef": 2.0, "entropy_coef": 0.5},
]


def networks(outputs=3, inputs=4, hidden=(16, 16), seed=0):
    """Actor and critic in Keras, and the same in PyTorch."""
    rng = np.random.default_rng(seed)
    ours = [
        build_mlp(inputs, hidden, size, output_gain=gain, rng=rng)
        for size, gain in ((outputs, 0.3), (1, 1.0))
    ]
    generator = torch.Generator()
    theirs = [
        torch_networks.build_mlp(inputs, hidden, size, output_gain=1.0, generator=generator)
        for size in (outputs, 1)
    ]
    for model, module in zip(ours, theirs, strict=True):
        module.load_state_dict({each.name[2:]: torch.from_numpy(each.array()) for each in held(model, "x")})
    return ours, theirs


def parameters(modules):
    return np.concatenate([p.detach().numpy().ravel() for module in modules for p in module.parameters()])


def weights(models):
    return np.concatenate([each.array().ravel() for model in models for each in held(model, "x")])


def batch(head=HEADS[0], rows=100, seed=0, on_policy=False):
    rng = np.random.default_rng(seed)
    numbers = rng.standard_normal((4, rows)).astype(np.float32)
    if isinstance(head, Categorical):
        actions = rng.integers(0, 3, rows)
    else:
        actions = rng.uniform(-1, 2, (rows, 2)).astype(np.float32)
    return Batch(
        observations=rng.standard_normal((rows, 4)).astype(np.float32),
        actions=actions,
        log_probs=np.float32(-1.1 if isinstance(head, Categorical) else -3.0) + 0.3 * numbers[0],
        advantages=numbers[1],
        returns=2 * numbers[2],
        values=numbers[3],
        on_policy=on_policy,
    )


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_loss_statistics_and_gradients_equal_those_of_torch(head, changes):
    ours, theirs = networks(head.outputs)
    params, data = {**PARAMS, **changes}, batch(head)
    order = ("observations", "actions", "log_probs", "advantages", "returns", "values")
    tensors = tuple(torch.from_numpy(getattr(data, name)) for name in order)
    loss, expected, _ = torch_loss(*theirs, tensors, params, head=head)
    loss.backward()

    columns = np.stack([data.log_probs, data.advantages, data.returns, data.values], axis=1)
    variables = trainable(*ours)
    with tf.GradientTape() as tape:
        own, found, _ = ppo_loss(
            *ours,
            tuple(tf.constant(each) for each in (data.observations, data.actions, columns)),
            params,
            head,
            normalise=params["normalize_advantage"],
            clip_value=params["clip_value"] is not None,
        )
    gradients = tape.gradient(own, [v.value for v in variables])
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)
    for gradient, parameter in zip(gradients, (p for m in theirs for p in m.parameters()), strict=True):
        np.testing.assert_allclose(gradient.numpy().T, parameter.grad.numpy(), rtol=1e-4, atol=1e-5)
    for limit in (0.1, 100.0):
        scaled, norm = clip_by_norm(gradients, limit)
        copies = [torch.nn.Parameter(torch.zeros(tuple(g.shape))) for g in gradients]
        for copy, gradient in zip(copies, gradients, strict=True):
            copy.grad = torch.from_numpy(gradient.numpy().copy())
        assert float(norm) == pytest.approx(float(torch.nn.utils.clip_grad_norm_(copies, limit)), rel=1e-5)
        for mine, copy in zip(scaled, copies, strict=True):
            np.testing.assert_allclose(mine.numpy(), copy.grad.numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("head", "changes", "on_policy"),
    [
        (HEADS[0], {}, True),
        (HEADS[0], {"clip_value": 0.2, "target_kl": 0.05}, False),
        (HEADS[1], {"n_epochs": 3}, False),
    ],
    ids=str,
)
def test_a_hundred_steps_end_where_those_of_torch_end(head, changes, on_policy):
    ours, theirs = networks(head.outputs, hidden=(64, 64))
    params = {**PARAMS, "n_epochs": 10, "minibatch_size": 32, **changes}
    np.testing.assert_array_equal(weights(ours), parameters(theirs))
    optimizer = PaperAdam(3e-4, epsilon=1e-5)
    optimizer.build(trainable(*ours))
    adam = torch.optim.Adam([p for m in theirs for p in m.parameters()], lr=3e-4, eps=1e-5)
    data = batch(head, 300, on_policy=on_policy)
    reports = [
        GraphPPO(*ours, optimizer, head).update(data, params, np.random.default_rng(0)),
        AutogradPPO(*theirs, adam, CPU, head).update(data, params, np.random.default_rng(0)),
    ]
    np.testing.assert_allclose(weights(ours), parameters(theirs), atol=1e-4)
    assert reports[0] == pytest.approx(reports[1], rel=2e-3, abs=1e-4)
    assert reports[0].keys() == reports[1].keys() >= {*STATISTICS}
    if not changes.get("target_kl"):
        assert reports[0]["updates"] == 10 * params["n_epochs"]


def test_paper_adam_equals_that_of_torch_and_not_that_of_keras():
    rng, start = np.random.default_rng(0), np.linspace(-1, 1, 50).astype(np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    reference = torch.optim.Adam([parameter], lr=1e-2, betas=(0.8, 0.95), eps=1e-2)
    ends = []
    gradients = [rng.standard_normal(50).astype(np.float32) * 1e-2 for _ in range(100)]
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient.copy())
        reference.step()
    for make, apply in (
        (PaperAdam, apply_gradients),
        (PaperAdam, lambda optimizer, *pair: optimizer.apply(*pair)),
        (keras.optimizers.Adam, apply_gradients),
    ):
        variable = keras.Variable(start)
        optimizer = make(1e-2, beta_1=0.8, beta_2=0.95, epsilon=1e-2)
        optimizer.build([variable])
        for gradient in gradients:
            apply(optimizer, [tf.constant(gradient)], [variable])
        ends.append(variable.numpy())
        assert int(optimizer.iterations.numpy()) == 100
    expected = parameter.detach().numpy()
    np.testing.assert_allclose(ends[0], expected, atol=1e-6)
    np.testing.assert_allclose(ends[1], expected, atol=1e-6)
    assert np.abs(ends[2] - expected).max() > 1e-3


@pytest.mark.parametrize(
    ("make", "plain"),
    [
        (lambda: keras.optimizers.Adam(1e-2), True),
        (lambda: keras.optimizers.Adam(1e-2, clipnorm=0.1), False),
        (lambda: keras.optimizers.Adam(1e-2, amsgrad=True), False),
        (lambda: keras.optimizers.AdamW(1e-2, weight_decay=0.1), False),
        (lambda: keras.optimizers.SGD(1e-2, momentum=0.9), False),
    ],
)
def test_the_short_step_is_that_of_the_users_optimizer(make, plain):
    ends = []
    for apply in (apply_gradients, lambda optimizer, *pair: optimizer.apply(*pair)):
        variable, optimizer = keras.Variable(np.linspace(-1, 1, 50).astype(np.float32)), make()
        optimizer.build([variable])
        rng = np.random.default_rng(0)
        for _ in range(20):
            apply(optimizer, [tf.constant(rng.standard_normal(50), tf.float32)], [variable])
        ends.append(variable.numpy())
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-6)
    assert is_plain_adam(make(), [variable]) is plain


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("head", [Categorical(5), MultiCategorical((2,), (3, 2)), Bernoulli((5,))], ids=str)
def test_log_probabilities_and_entropies_of_choices_equal_those_of_torch(head, masked):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((50, 5)).astype(np.float32)
    actions = {
        Categorical: rng.integers(0, 3, 50),
        MultiCategorical: np.stack([rng.integers(0, 3, 50), rng.integers(0, 2, 50)], 1),
        Bernoulli: rng.integers(0, 2, (50, 5)).astype(np.float32),
    }[type(head)]
    masks = [np.repeat([[True, True, True, True, False]], 50, 0)] if masked else []
    leaf = torch.from_numpy(logits).requires_grad_()
    expected = torch_evaluate(head, leaf, *(torch.from_numpy(each) for each in (actions, *masks)))
    sum(each.sum() for each in expected).backward()
    tensor = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        found = evaluate(head, tensor, *(tf.constant(each) for each in (actions, *masks)))
        total = tf.add_n([tf.reduce_sum(each) for each in found])
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.detach().numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(tape.gradient(total, tensor).numpy(), leaf.grad.numpy(), rtol=1e-4, atol=1e-5)
