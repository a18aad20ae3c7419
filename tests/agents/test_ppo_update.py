"""One update, computed three ways: by formula in Python, by torch's differentiation, and by hand in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optix_bus.agents.batch import STATISTICS, Batch
from optix_bus.agents.cards import card
from optix_bus.agents.fast.adam import FlatAdam
from optix_bus.agents.torch.fast_ppo import FastPPO, why_not_fast
from optix_bus.agents.torch.networks import OneHot
from optix_bus.agents.torch.ppo_update import AutogradPPO, ppo_loss
from tests.oracles import ppo as oracle

CPU = torch.device("cpu")
PARAMS = card("ppo").defaults()
VARIANTS = [
    {},
    {"normalize_advantage": False},
    {"clip_value": 0.3},
    {"entropy_coef": 0.0},
    {"clip_ratio": 0.02, "vf_coef": 2.0, "entropy_coef": 0.5},
]


def _networks(activation=nn.Tanh, hidden=(16, 16), seed=0, actions=3):
    torch.manual_seed(seed)

    def mlp(outputs):
        layers, width = [], 4
        for units in hidden:
            layers += [nn.Linear(width, units), activation()]
            width = units
        return nn.Sequential(*layers, nn.Linear(width, outputs))

    return mlp(actions), mlp(1)


def _batch(rows=100, seed=0, actions=3, on_policy=False):
    rng = np.random.default_rng(seed)
    numbers = rng.standard_normal((4, rows)).astype(np.float32)
    return Batch(
        observations=rng.standard_normal((rows, 4)).astype(np.float32),
        actions=rng.integers(0, actions, rows),
        # Off by enough that ratios lie on both sides of the clip.
        log_probs=np.float32(-1.1) + 0.3 * numbers[0],
        advantages=numbers[1],
        returns=2 * numbers[2],
        values=numbers[3],
        on_policy=on_policy,
    )


def _adam(*modules, **settings):
    return torch.optim.Adam(
        [p for m in modules for p in m.parameters()], **{"lr": 1e-3, "eps": 1e-5, **settings}
    )


def _tensors(batch):
    arrays = (
        batch.observations,
        batch.actions,
        batch.log_probs,
        batch.advantages,
        batch.returns,
        batch.values,
    )
    return tuple(torch.from_numpy(array) for array in arrays)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_the_loss_equals_the_formula(changes):
    (actor, critic), batch, params = _networks(), _batch(), {**PARAMS, **changes}
    _, numbers, _ = ppo_loss(actor, critic, _tensors(batch), params)
    x = torch.from_numpy(batch.observations)
    with torch.no_grad():
        logits, values = actor(x).double().tolist(), critic(x)[:, 0].double().tolist()
    lists = (batch.actions, batch.log_probs, batch.advantages, batch.returns, batch.values)
    expected = oracle.loss(logits, values, *(a.tolist() for a in lists), params)
    found = dict(zip(STATISTICS, numbers.tolist(), strict=True))
    assert [found["loss"], found["policy_loss"], found["value_loss"], found["entropy"]] == pytest.approx(
        expected, rel=1e-5, abs=1e-6
    )
    assert 0.0 < found["clip_fraction"] < 1.0


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.Sigmoid, nn.Identity])
def test_gradients_by_hand_equal_those_of_torch(activation, changes):
    (actor, critic), batch, params = _networks(activation), _batch(), {**PARAMS, **changes}
    loss, numbers, _ = ppo_loss(actor, critic, _tensors(batch), params)
    loss.backward()

    fast = FastPPO(actor, critic, _adam(actor, critic))
    fast._fetch()
    stack = np.stack([batch.log_probs, batch.advantages, batch.returns, batch.values])
    found, _ = fast._minds.differentiate(fast._columns(batch.observations), batch.actions, stack, params)
    assert found == pytest.approx(numbers.tolist(), rel=1e-5, abs=1e-6)
    by_hand = fast._views(fast._minds.gradients)
    assert len(by_hand) == len([*actor.parameters(), *critic.parameters()])
    for parameter, gradient in by_hand:
        np.testing.assert_allclose(gradient, parameter.grad.numpy(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("on_policy", [True, False])
@pytest.mark.parametrize(
    "changes", [{}, {"clip_value": 0.2, "max_grad_norm": 100.0}, {"target_kl": 0.05}], ids=str
)
def test_a_hundred_steps_by_hand_end_where_those_of_torch_end(changes, on_policy):
    params = {**PARAMS, "n_epochs": 10, "minibatch_size": 32, **changes}
    ends, reports, moments = [], [], []
    for way in ("hand", "torch"):
        actor, critic = _networks(hidden=(64, 64))
        optimizer = _adam(actor, critic, lr=3e-4)
        batch = _batch(300, on_policy=on_policy)
        if way == "hand":
            assert why_not_fast(actor, critic, optimizer, CPU) == ""
            update = FastPPO(actor, critic, optimizer)
        else:
            update = AutogradPPO(actor, critic, optimizer, CPU)
        reports.append(update.update(batch, params, np.random.default_rng(0)))
        parameters = [p for m in (actor, critic) for p in m.parameters()]
        ends.append(np.concatenate([p.detach().numpy().ravel() for p in parameters]))
        moments.append([optimizer.state[p] for p in parameters if optimizer.state])
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-4)
    assert reports[0] == pytest.approx(reports[1], rel=2e-3, abs=1e-4)
    if not changes.get("target_kl"):
        assert reports[0]["updates"] == 100
    for one, two in zip(*moments, strict=True):
        assert one.keys() == two.keys() == {"step", "exp_avg", "exp_avg_sq"}
        for name in one:
            np.testing.assert_allclose(one[name].numpy(), two[name].numpy(), atol=1e-4)


def test_switching_the_way_between_windows_changes_nothing():
    ends = []
    for ways in ((True, True, True), (False, True, False)):
        actor, critic = _networks()
        optimizer = _adam(actor, critic)
        for number, fast in enumerate(ways):
            update = FastPPO(actor, critic, optimizer) if fast else AutogradPPO(actor, critic, optimizer, CPU)
            update.update(_batch(seed=number), {**PARAMS, "n_epochs": 3}, np.random.default_rng(number))
        ends.append(np.concatenate([p.detach().numpy().ravel() for p in actor.parameters()]))
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-4)


def test_adam_on_a_flat_vector_equals_that_of_torch():
    rng = np.random.default_rng(0)
    start = rng.standard_normal(50).astype(np.float32)
    parameter = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = torch.optim.Adam([parameter], lr=1e-2, betas=(0.8, 0.95), eps=1e-6)
    flat, own = FlatAdam(50, 1e-2, (0.8, 0.95), 1e-6), start.copy()
    for _ in range(100):
        gradient = rng.standard_normal(50).astype(np.float32)
        parameter.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        flat.step(own, gradient)
    np.testing.assert_allclose(own, parameter.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("way", [FastPPO, lambda *parts: AutogradPPO(*parts, CPU)], ids=["hand", "torch"])
class TestEitherWay:
    def test_the_first_ratio_is_one_and_its_kl_zero_when_the_policy_is_its_own(self, way):
        actor, critic = _networks()
        update = way(actor, critic, _adam(actor, critic))
        batch = _batch(on_policy=True)
        batch = Batch(**{**vars(batch), "log_probs": update.log_probs(batch.observations, batch.actions)})
        report = update.update(
            batch, {**PARAMS, "n_epochs": 1, "minibatch_size": 32}, np.random.default_rng(0)
        )
        assert report["initial_ratio_error"] == 0.0
        assert report["initial_kl"] == 0.0

    def test_advantages_are_normalised_in_each_minibatch_by_itself(self, way):
        """What is reported of four minibatches is the mean of their formulas, each with its own moments."""
        actor, critic = _networks()
        x, batch, params = _tensors(_batch())[0], _batch(), {**PARAMS, "n_epochs": 1, "minibatch_size": 25}
        with torch.no_grad():
            logits, values = actor(x).double().numpy(), critic(x)[:, 0].double().numpy()
        columns = (batch.actions, batch.log_probs, batch.advantages, batch.returns, batch.values)
        parts = np.random.default_rng(7).permutation(100).reshape(4, 25)
        formulas = [
            oracle.loss(*(each[part].tolist() for each in (logits, values, *columns)), params)[1]
            for part in parts
        ]
        whole = oracle.loss(*(each.tolist() for each in (logits, values, *columns)), params)[1]
        still = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=0.0, eps=1e-5)
        report = way(actor, critic, still).update(batch, params, np.random.default_rng(7))
        assert report["policy_loss"] == pytest.approx(np.mean(formulas), rel=1e-5)
        assert abs(report["policy_loss"] - whole) > 1e-4

    def test_the_loss_falls_over_the_epochs(self, way):
        actor, critic = _networks()
        update, params = way(actor, critic, _adam(actor, critic)), {**PARAMS, "minibatch_size": 100}
        losses = [
            update.update(_batch(), {**params, "n_epochs": 5}, np.random.default_rng(0))["loss"]
            for _ in "abc"
        ]
        assert losses[0] > losses[1] > losses[2]

    def test_a_kl_limit_stops_the_update_early(self, way):
        actor, critic = _networks()
        update = way(actor, critic, _adam(actor, critic, lr=0.05))
        batch = _batch(on_policy=True)
        batch = Batch(**{**vars(batch), "log_probs": update.log_probs(batch.observations, batch.actions)})
        report = update.update(batch, {**PARAMS, "target_kl": 0.01}, np.random.default_rng(0))
        assert 0 < report["updates"] < 20
        assert report["approx_kl"] > 0.0

    def test_a_far_older_policy_with_a_kl_limit_makes_no_step_at_all(self, way):
        actor, critic = _networks()
        before = [p.detach().clone() for p in actor.parameters()]
        batch = Batch(**{**vars(_batch()), "log_probs": np.full(100, -6.0, np.float32)})
        report = way(actor, critic, _adam(actor, critic)).update(
            batch, {**PARAMS, "target_kl": 0.01}, np.random.default_rng(0)
        )
        assert (report["updates"], report["grad_norm"]) == (0.0, 0.0)
        assert all(torch.equal(a, b) for a, b in zip(before, actor.parameters(), strict=True))

    def test_what_is_not_finite_leaves_weights_and_moments_alone(self, way):
        actor, critic = _networks()
        optimizer = _adam(actor, critic)
        update, params = way(actor, critic, optimizer), {**PARAMS, "n_epochs": 2}
        update.update(_batch(), params, np.random.default_rng(0))
        before = [p.detach().clone() for m in (actor, critic) for p in m.parameters()]
        moments = [optimizer.state[p]["exp_avg"].clone() for p in actor.parameters()]
        broken = Batch(**{**vars(_batch()), "returns": np.full(100, 1e30, np.float32)})
        report = update.update(broken, params, np.random.default_rng(0))
        assert not all(np.isfinite(value) for value in report.values())
        after = [p.detach() for m in (actor, critic) for p in m.parameters()]
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        for old, parameter in zip(moments, actor.parameters(), strict=True):
            assert torch.equal(old, optimizer.state[parameter]["exp_avg"])
            assert int(optimizer.state[parameter]["step"]) == 4

    def test_a_remainder_of_one_row_is_learnt_from(self, way):
        actor, critic = _networks()
        report = way(actor, critic, _adam(actor, critic)).update(
            _batch(33), {**PARAMS, "n_epochs": 1, "minibatch_size": 32}, np.random.default_rng(0)
        )
        assert report["updates"] == 2
        assert all(np.isfinite(value) for value in report.values())

    def test_long_windows_are_evaluated_in_pieces_with_the_same_values(self, way):
        actor, critic = _networks()
        update = way(actor, critic, _adam(actor, critic))
        x = np.random.default_rng(0).standard_normal((20_000, 4)).astype(np.float32)
        with torch.no_grad():
            expected = critic(torch.from_numpy(x))[:, 0].numpy()
        np.testing.assert_allclose(update.values(x), expected, atol=1e-5)
        assert len(update.log_probs(x, np.zeros(20_000, np.int64))) == 20_000
        assert update.values(x[:0]).shape == (0,)


def _frozen(actor, critic):
    actor[0].weight.requires_grad_(False)
    return _adam(actor, critic)


def _hooked(actor, critic):
    actor[0].weight.register_hook(lambda gradient: gradient * 2)
    return _adam(actor, critic)


def _two_rates(actor, critic):
    return torch.optim.Adam(
        [{"params": actor.parameters(), "lr": 1e-3}, {"params": critic.parameters(), "lr": 1e-4}]
    )


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (lambda a, c: torch.optim.AdamW([*a.parameters(), *c.parameters()]), "AdamW"),
        (lambda a, c: _adam(a), "does not hold exactly"),
        (lambda a, c: _adam(a, c, weight_decay=0.1), "weight_decay"),
        (lambda a, c: _adam(a, c, amsgrad=True), "amsgrad"),
        (_two_rates, "different settings"),
        (_frozen, "frozen"),
        (_hooked, "hooks"),
    ],
)
def test_optimizers_that_the_hand_does_not_know_are_left_to_torch(optimizer, reason):
    actor, critic = _networks()
    assert reason in why_not_fast(actor, critic, optimizer(actor, critic), CPU)


@pytest.mark.parametrize(
    ("actor", "reason"),
    [
        (nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)), "actor has gelu"),
        (nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)), "does not alternate"),
        (nn.Sequential(nn.Linear(4, 8, bias=False), nn.Tanh(), nn.Linear(8, 3)), "without a bias"),
        (nn.Sequential(nn.Linear(4, 600), nn.Tanh(), nn.Linear(600, 3)), "more than 512 units"),
        (nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 3)), "more than linear layers"),
    ],
)
def test_networks_that_the_hand_does_not_know_are_left_to_torch(actor, reason):
    _, critic = _networks()
    assert reason in why_not_fast(actor, critic, _adam(actor, critic), CPU)


def test_shared_layers_are_left_to_torch():
    actor, critic = _networks()
    critic[0] = actor[0]
    parameters = {id(p): p for m in (actor, critic) for p in m.parameters()}
    assert "share" in why_not_fast(actor, critic, torch.optim.Adam(parameters.values()), CPU)


def test_discrete_observations_and_fused_adam_go_the_fast_way_too():
    ends = []
    for fast in (True, False):
        torch.manual_seed(0)
        actor = nn.Sequential(OneHot(6), nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        critic = nn.Sequential(OneHot(6), nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer = _adam(actor, critic, fused=True)
        seen = np.random.default_rng(0).integers(0, 6, 100).astype(np.float32)
        batch = Batch(**{**vars(_batch()), "observations": seen})
        assert why_not_fast(actor, critic, optimizer, CPU) == ""
        update = FastPPO(actor, critic, optimizer) if fast else AutogradPPO(actor, critic, optimizer, CPU)
        update.update(batch, {**PARAMS, "n_epochs": 3}, np.random.default_rng(0))
        ends.append(np.concatenate([p.detach().numpy().ravel() for p in actor.parameters()]))
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-5)
