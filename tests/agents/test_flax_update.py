"""One PPO update in JAX beside the formula and beside PyTorch: the same weights, the same batch."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import torch
from torch import nn as torch_nn

from optix_bus.agents.batch import STATISTICS, Batch
from optix_bus.agents.cards import card
from optix_bus.agents.jax.device import resolve_device
from optix_bus.agents.jax.networks import build_mlp, network_arrays, network_weights, orthogonal_weights
from optix_bus.agents.jax.ppo import ADAM
from optix_bus.agents.jax.ppo_loss import Rows, Terms, ppo_loss
from optix_bus.agents.jax.ppo_program import Networks
from optix_bus.agents.jax.ppo_update import JaxPPO, make_steps
from optix_bus.agents.torch import ppo_update as torch_update
from optix_bus.agents.torch.arrays import load_module
from tests.oracles import ppo as oracle

PARAMS = card("ppo").defaults()
VARIANTS = [
    {},
    {"normalize_advantage": False},
    {"clip_value": 0.3},
    {"clip_ratio": 0.02, "vf_coef": 2.0, "entropy_coef": 0.5},
]
#: Ten epochs of ten minibatches, the last one of 12 rows.
HUNDRED = {**PARAMS, "n_epochs": 10, "minibatch_size": 32}
CPU = torch.device("cpu")


def _networks(seed=0, hidden=(16, 16)):
    resolve_device()
    rng = np.random.default_rng(seed)
    modules = {"actor": build_mlp(hidden, 3), "critic": build_mlp(hidden, 1)}
    weights = {name: orthogonal_weights(module, 4, 1.0, rng) for name, module in modules.items()}
    return modules, weights


def _torch_twins(modules, weights, hidden=(16, 16)):
    """The same networks with the same weights in PyTorch: both name their arrays alike."""
    twins = {}
    for name, outputs in (("actor", 3), ("critic", 1)):
        layers, width = [], 4
        for units in hidden:
            layers += [torch_nn.Linear(width, units), torch_nn.Tanh()]
            width = units
        twins[name] = torch_nn.Sequential(*layers, torch_nn.Linear(width, outputs))
        load_module(name, twins[name], network_arrays(name, modules[name], weights[name]))
    return twins


def _batch(rows=300, seed=0, on_policy=False, masked=False):
    rng = np.random.default_rng(seed)
    numbers = rng.standard_normal((4, rows)).astype(np.float32)
    actions = rng.integers(0, 3, rows)
    # About half of what was not chosen is forbidden.
    masks = (np.random.default_rng(9).random((rows, 3)) < 0.5) | (actions[:, None] == np.arange(3))
    return Batch(
        masks=masks if masked else None,
        observations=rng.standard_normal((rows, 4)).astype(np.float32),
        actions=actions,
        # Off by enough that ratios lie on both sides of the clip.
        log_probs=np.float32(-1.1) + 0.3 * numbers[0],
        advantages=numbers[1],
        returns=2 * numbers[2],
        values=numbers[3],
        on_policy=on_policy,
    )


def _columns(batch):
    names = ("observations", "actions", "log_probs", "advantages", "returns", "values")
    return [getattr(batch, name) for name in names] + ([] if batch.masks is None else [batch.masks])


def _differentiated(batch, params, filling=0):
    """Statistics and gradients in JAX, perhaps with rows that do not count."""
    modules, weights = _networks()
    rows = [np.concatenate([c, np.full((filling, *c.shape[1:]), 2, c.dtype)]) for c in _columns(batch)]
    mask = np.float32([1] * len(batch.actions) + [0] * filling)
    terms = Terms(params["normalize_advantage"], params["clip_value"] is not None)
    numbers = {key: value for key, value in params.items() if value is not None}

    @jax.jit
    def differentiate(weights, rows, mask):
        return jax.grad(
            lambda w: ppo_loss(modules["actor"], modules["critic"], w, rows, mask, numbers, terms),
            has_aux=True,
        )(weights)

    gradients, (statistics, _) = differentiate(weights, Rows(*rows), mask)
    arrays = {}
    for name, module in modules.items():
        arrays.update(network_arrays(name, module, gradients[name]))
    return np.asarray(statistics), arrays


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_the_loss_equals_the_formula(changes):
    batch, params = _batch(), {**PARAMS, **changes}
    modules, weights = _networks()
    logits, values = (
        jax.jit(module.apply)({"params": weights[name]}, batch.observations)
        for name, module in modules.items()
    )
    lists = [column.tolist() for column in _columns(batch)[1:]]
    expected = oracle.loss(logits.tolist(), values[:, 0].tolist(), *lists, params)
    statistics, _ = _differentiated(batch, params)
    found = dict(zip(STATISTICS, statistics.tolist(), strict=True))
    assert [found["loss"], found["policy_loss"], found["value_loss"], found["entropy"]] == pytest.approx(
        expected, rel=1e-5, abs=1e-6
    )
    assert 0.0 < found["clip_fraction"] < 1.0


@pytest.mark.parametrize(
    ("changes", "filling", "masked"),
    [({}, 0, False), ({}, 28, True), *((each, 28, False) for each in VARIANTS)],
    ids=str,
)
def test_loss_and_gradients_equal_those_of_torch(changes, filling, masked):
    batch, params = _batch(masked=masked), {**PARAMS, **changes}
    twins = _torch_twins(*_networks())
    part = tuple(torch.from_numpy(np.asarray(column)) for column in _columns(batch))
    loss, numbers, _ = torch_update.ppo_loss(twins["actor"], twins["critic"], part, params)
    loss.backward()
    statistics, gradients = _differentiated(batch, params, filling)
    np.testing.assert_allclose(statistics, numbers.tolist(), atol=1e-5, rtol=1e-5)
    for name, twin in twins.items():
        for key, parameter in twin.named_parameters():
            np.testing.assert_allclose(
                gradients[f"{name}.{key}"], parameter.grad.numpy(), atol=1e-5, rtol=1e-5, err_msg=key
            )


@pytest.mark.parametrize("on_policy", [True, False])
@pytest.mark.parametrize("changes", [{}, {"target_kl": 0.05}], ids=str)
def test_a_hundred_steps_end_where_those_of_torch_end(changes, on_policy):
    params = {**HUNDRED, **changes}
    batch = _batch(on_policy=on_policy)
    modules, weights = _networks()
    twins = _torch_twins(modules, weights)
    parameters = [p for twin in twins.values() for p in twin.parameters()]
    adam = torch.optim.Adam(parameters, lr=params["learning_rate"], eps=1e-5)
    in_torch = torch_update.AutogradPPO(twins["actor"], twins["critic"], adam, CPU)
    in_jax = _update(modules, weights)
    reports = [each.update(batch, params, np.random.default_rng(0)) for each in (in_jax, in_torch)]
    assert reports[0] == pytest.approx(reports[1], rel=2e-3, abs=1e-4)
    assert reports[0]["updates"] == 100 or changes
    for name, twin in twins.items():
        found = network_arrays(name, modules[name], in_jax.weights[name])
        for key, parameter in twin.named_parameters():
            np.testing.assert_allclose(found[f"{name}.{key}"], parameter.detach().numpy(), atol=1e-4)


def _update(modules, weights):
    return JaxPPO(Networks.of(**modules), weights, ADAM, resolve_device())


def test_every_epoch_holds_every_row_once_in_an_order_of_its_own():
    steps = make_steps(10, 4, 3, 4, np.random.default_rng(0), exact=True)
    orders = np.random.default_rng(0)
    for epoch in range(3):
        rows, mask = steps.rows[4 * epoch : 4 * epoch + 4].ravel(), steps.mask[4 * epoch : 4 * epoch + 4]
        np.testing.assert_array_equal(rows[mask.ravel() > 0], orders.permutation(10))
        assert mask.sum(1).tolist() == [4, 4, 2, 0]
    assert steps.exact.tolist() == [True] + 11 * [False]


def test_windows_of_similar_length_and_other_numbers_use_one_program():
    update = _update(*_networks())
    rng = np.random.default_rng(0)
    update.update(_batch(), HUNDRED, rng)
    before = dict(update.programs.compilations)
    tuned = {
        "learning_rate": 1e-4,
        "clip_ratio": 0.1,
        "entropy_coef": 0.3,
        "vf_coef": 1.0,
        "max_grad_norm": 9.0,
    }
    for rows in (300, 299, 290, 320, 289, 257, 200, 170):
        report = update.update(_batch(rows), {**HUNDRED, **tuned}, rng)
        assert report["updates"] == 10 * -(-rows // 32)
    assert update.programs.compilations == before


def test_rows_are_evaluated_in_a_few_shapes():
    update = _update(*_networks())
    update.values(np.zeros((200, 4), np.float32))
    before = update.programs.compilations["values"]
    for rows in (1, 7, 63, 64, 193, 199, 224):
        assert update.values(np.zeros((rows, 4), np.float32)).shape == (rows,)
    assert update.programs.compilations["values"] <= before + 1
    assert update.values(np.zeros((0, 4), np.float32)).shape == (0,)


def test_equal_networks_share_their_programs():
    one, other = (_update(*_networks(seed=seed)) for seed in (0, 1))
    assert one.programs is other.programs
    assert one.programs is not _update(*_networks(hidden=(16,))).programs


def test_values_and_log_probabilities_of_long_windows_equal_those_of_torch():
    modules, weights = _networks()
    twins, update = _torch_twins(modules, weights), _update(modules, weights)
    x = np.random.default_rng(0).standard_normal((20_000, 4)).astype(np.float32)
    actions = np.random.default_rng(1).integers(0, 3, 20_000)
    with torch.no_grad():
        values = twins["critic"](torch.from_numpy(x))[:, 0].numpy()
        log_all = torch.log_softmax(twins["actor"](torch.from_numpy(x)), -1).numpy()
    np.testing.assert_allclose(update.values(x), values, atol=1e-5)
    np.testing.assert_allclose(update.log_probs(x, actions), log_all[np.arange(20_000), actions], atol=1e-5)


def test_the_first_ratio_is_exactly_one_when_the_networks_acted_the_window():
    report = _update(*_networks()).update(_batch(on_policy=True), HUNDRED, np.random.default_rng(0))
    assert (report["initial_ratio_error"], report["initial_kl"]) == (0.0, 0.0)
    assert report["approx_kl"] > 0.0


def test_too_far_a_policy_stops_the_update_before_it_moves():
    update = _update(*_networks())
    before = jax.tree.map(np.array, update.weights)
    report = update.update(_batch(), {**HUNDRED, "target_kl": 1e-6}, np.random.default_rng(0))
    assert (report["updates"], report["grad_norm"]) == (0.0, 0.0)
    assert report["approx_kl"] == report["initial_kl"] > 1.5e-6
    jax.tree.map(np.testing.assert_array_equal, update.weights, before)


def test_an_update_that_is_not_finite_leaves_weights_and_moments():
    update = _update(*_networks())
    update.update(_batch(), HUNDRED, np.random.default_rng(0))
    before = jax.tree.map(np.array, (update.weights, update.moments))
    report = update.update(_batch(), {**HUNDRED, "learning_rate": 1e38}, np.random.default_rng(0))
    assert not np.isfinite(report["loss"])
    jax.tree.map(np.testing.assert_array_equal, (update.weights, update.moments), before)


def test_a_remainder_of_one_row_is_learnt_from():
    report = _update(*_networks()).update(_batch(289), HUNDRED, np.random.default_rng(0))
    assert report["updates"] == 100
    assert all(np.isfinite(value) for value in report.values())


def test_weights_come_back_from_their_arrays():
    modules, weights = _networks()
    arrays = network_arrays("actor", modules["actor"], weights["actor"])
    assert arrays["actor.0.weight"].shape == (16, 4)
    back = network_weights("actor", modules["actor"], weights["actor"], arrays)
    jax.tree.map(np.testing.assert_array_equal, back, weights["actor"])
