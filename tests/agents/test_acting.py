from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from optix_bus.agents.acting import is_portable, load_policy
from optix_bus.agents.torch.arrays import module_arrays
from optix_bus.agents.torch.networks import OneHot, build_mlp, describe
from optix_bus.errors import ConfigurationError, Unsuitable
from optix_bus.rl import ObsNormalizer
from optix_bus.types import NamedArrays

ACTIVATIONS = [
    nn.Tanh(), nn.ReLU(), nn.ELU(0.7), nn.Sigmoid(), nn.GELU(), nn.GELU("tanh"), nn.LeakyReLU(0.2), nn.SiLU(),
    nn.Identity(),
]  # fmt: skip


def _state(module: nn.Module, normalizer: ObsNormalizer | None = None) -> NamedArrays:
    arrays = module_arrays("actor", module)
    described = None
    if normalizer is not None:
        arrays |= {f"obs_normalizer.{key}": value for key, value in normalizer.state().items()}
        described = {"mean": "obs_normalizer.mean", "var": "obs_normalizer.var", "clip": normalizer.clip}
    policy = {"format": 1, "kind": "mlp", "head": "categorical", "layers": describe(module, "actor")}
    return NamedArrays(arrays, {"policy": {**policy, "normalizer": described}})


def _mlp(inputs: int = 4, outputs: int = 3, gain: float = 1.0, seed: int = 0) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    return build_mlp(inputs, (64, 64), outputs, output_gain=gain, generator=generator)


def _observations(rows: int, inputs: int = 4, seed: int = 0):
    return np.random.default_rng(seed).standard_normal((rows, inputs)).astype(np.float32)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_probabilities_and_log_probabilities_equal_those_of_torch(activation):
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Linear(4, 32), activation, nn.Linear(32, 16, bias=False), activation, nn.Linear(16, 3)
    )
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3.0)
    x = _observations(50) * 2
    with torch.no_grad():
        expected = torch.log_softmax(module(torch.from_numpy(x)), -1).numpy()
    policy = load_policy(_state(module), np.random.default_rng(0))
    np.testing.assert_allclose(policy.action_probs(x), np.exp(expected), atol=1e-5)
    acted = policy.act_batch(x)
    np.testing.assert_allclose(acted.log_probs, expected[np.arange(50), acted.actions], atol=1e-5, rtol=1e-5)
    assert acted.log_probs.dtype == np.float32
    np.testing.assert_array_equal(policy.act_batch(x, deterministic=True).actions, expected.argmax(1))


def test_extreme_inputs_stay_finite():
    policy = load_policy(_state(_mlp(gain=1e4)), np.random.default_rng(0))
    acted = policy.act_batch(_observations(64) * 1e3)
    assert np.isfinite(acted.log_probs).all()
    np.testing.assert_allclose(policy.action_probs(_observations(64) * 1e3).sum(1), 1.0, rtol=1e-5)


def test_sampling_follows_the_probabilities():
    policy = load_policy(_state(_mlp(outputs=5, gain=2.0)), np.random.default_rng(0))
    one = np.repeat(_observations(1), 1000, axis=0)
    counts = np.zeros(5)
    for _ in range(100):
        counts += np.bincount(policy.act_batch(one).actions, minlength=5)
    expected = policy.action_probs(one)[0].astype(np.float64)
    assert stats.chisquare(counts, counts.sum() * expected / expected.sum()).pvalue > 0.001


def test_an_action_that_is_impossible_is_never_drawn():
    module = nn.Sequential(nn.Linear(1, 4))
    with torch.no_grad():
        module[0].weight.zero_()
        module[0].bias.copy_(torch.tensor([-200.0, 0.0, -200.0, -200.0]))
    policy = load_policy(_state(module), np.random.default_rng(0))
    assert set(policy.act_batch(np.zeros((20_000, 1), np.float32)).actions.tolist()) == {1}


def test_the_same_generator_gives_the_same_actions_to_the_bit():
    answers = []
    for _ in range(2):
        policy = load_policy(_state(_mlp()))
        policy.reseed(np.random.default_rng(7))
        answers.append([policy.act_batch(_observations(8, seed=t)) for t in range(20)])
    for first, second in zip(*answers, strict=True):
        assert first.actions.tobytes() == second.actions.tobytes()
        assert first.log_probs.tobytes() == second.log_probs.tobytes()


def _rows_are_alike() -> bool:
    """Whether this machine's BLAS rounds a row alike at every position of whole blocks of eight."""
    weight, x = np.random.default_rng(0).standard_normal((2, 64, 64)).astype(np.float32)
    return all(
        (np.matmul(x[s : s + 8], weight) == np.matmul(x, weight)[s : s + 8]).all() for s in range(0, 64, 8)
    )


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 13, 31, 64])
def test_a_row_does_not_depend_on_how_many_rows_it_came_with(rows):
    policy, x = load_policy(_state(_mlp())), _observations(100)
    policy.reseed(np.random.default_rng(1))
    parts = [policy.act_batch(x[start : start + rows]) for start in range(0, 100, rows)]
    policy.reseed(np.random.default_rng(1))
    together = policy.act_batch(x)
    np.testing.assert_array_equal(np.concatenate([part.actions for part in parts]), together.actions)
    log_probs = np.concatenate([part.log_probs for part in parts])
    np.testing.assert_allclose(log_probs, together.log_probs, atol=1e-6)
    if _rows_are_alike():
        assert log_probs.tobytes() == together.log_probs.tobytes()


def test_answers_belong_to_the_caller():
    policy = load_policy(_state(_mlp()), np.random.default_rng(0))
    first = policy.act_batch(_observations(8))
    kept = first.actions.copy(), first.log_probs.copy()
    with np.errstate(all="raise"):
        for t in range(200):
            policy.act_batch(_observations(8 if t % 2 else 3, seed=t))
    np.testing.assert_array_equal(first.actions, kept[0])
    np.testing.assert_array_equal(first.log_probs, kept[1])


def test_later_changes_of_the_arrays_do_not_reach_the_policy():
    module = _mlp()
    state = NamedArrays({k: v.copy() for k, v in _state(module).arrays.items()}, _state(module).metadata)
    policy, x = load_policy(state), _observations(8)
    before = policy.action_probs(x)
    for array in state.arrays.values():
        array[:] = 0.0
    np.testing.assert_array_equal(policy.action_probs(x), before)


def test_the_normaliser_scales_with_frozen_statistics():
    normalizer = ObsNormalizer((4,), clip=1.5)
    normalizer.update(np.random.default_rng(3).normal(1e4, 2.0, (200, 4)))
    module, x = _mlp(), np.random.default_rng(4).normal(1e4, 2.0, (16, 4))
    plain = load_policy(_state(module)).action_probs(normalizer.normalize(x))
    assert load_policy(_state(module, normalizer)).action_probs(x).tobytes() == plain.tobytes()


def test_discrete_observations_are_read_as_unit_vectors():
    module = build_mlp(5, (8,), 2, output_gain=1.0, generator=torch.Generator().manual_seed(0), one_hot=True)
    x = np.array([0, 4, 2])
    with torch.no_grad():
        expected = torch.softmax(module(torch.from_numpy(x)), -1).numpy()
    policy = load_policy(_state(module))
    np.testing.assert_allclose(policy.action_probs(x), expected, atol=1e-6)
    with pytest.raises(Unsuitable, match=r"outside 0\.\.4"):
        policy.action_probs(np.array([5]))


def test_nested_and_flattening_networks_are_understood():
    module = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(6, 8), nn.Tanh()), nn.Linear(8, 2))
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    with torch.no_grad():
        expected = torch.softmax(module(torch.from_numpy(x)), -1).numpy()
    np.testing.assert_allclose(load_policy(_state(module)).action_probs(x), expected, atol=1e-6)


class _Doubling(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def _hooked() -> nn.Module:
    module = nn.Linear(4, 2)
    module.register_forward_hook(lambda *_: None)
    return module


@pytest.mark.parametrize(
    "module",
    [
        _Doubling(4, 2),
        nn.Sequential(nn.Linear(4, 2).double()),
        nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2)),
        nn.Sequential(nn.Tanh(), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(4, 2), OneHot(2)),
        nn.Sequential(nn.Tanh()),
        _hooked(),
    ],
)
def test_networks_that_numpy_cannot_run_are_not_described(module):
    assert describe(module, "actor") is None


def test_a_layer_used_twice_is_applied_twice():
    shared = nn.Linear(4, 4)
    module = nn.Sequential(shared, nn.Tanh(), shared, nn.Tanh(), nn.Linear(4, 2))
    x = _observations(6)
    with torch.no_grad():
        expected = torch.softmax(module(torch.from_numpy(x)), -1).numpy()
    np.testing.assert_allclose(load_policy(_state(module)).action_probs(x), expected, atol=1e-6)


def test_observations_of_another_size_are_refused_with_both_sizes():
    with pytest.raises(Unsuitable, match=r"shape \(7,\), but the first layer of the policy takes 4"):
        load_policy(_state(_mlp())).act_batch(np.zeros((8, 7), np.float32))


def _described(**changes):
    return {"policy": {"format": 1, "kind": "mlp", "head": "categorical", "layers": [], **changes}}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "without a policy description"),
        (_described(format=2), "of format 2, expected 1"),
        (_described(kind="agent"), "Let the agent itself act"),
        (_described(head="beta"), "with head 'beta'"),
        (_described(layers=[{"op": "pool"}]), "found layer 'pool'"),
        (_described(layers=[{"op": "linear", "weight": "w"}]), "names the array 'w'"),
        (_described(), "without a linear layer"),
    ],
)
def test_a_state_that_cannot_act_is_refused_with_the_reason(metadata, message):
    with pytest.raises(ConfigurationError, match=message):
        load_policy(NamedArrays({}, metadata))


def test_portable_states_are_told_from_others():
    assert is_portable(_state(_mlp()))
    assert not is_portable(NamedArrays({}, {"policy": {"format": 1, "kind": "agent"}}))
    assert not is_portable(NamedArrays({}, {}))


def test_acting_loads_no_framework():
    code = (
        "import sys, optix_bus.agents.acting, optix_bus.agents.cards, optix_bus.rl;"
        "heavy = {'torch', 'tensorflow', 'jax', 'gymnasium', 'scipy', 'zmq'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
