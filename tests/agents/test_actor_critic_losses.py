"""SAC and TD3, gradient step by gradient step, against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from optix_bus.agents.torch.off_policy import Minibatch
from optix_bus.agents.torch.sac import squashed_sample
from tests.agents.off_policy_worlds import small_agent
from tests.oracles import actor_critic as oracle

#: A step that no number in float32 or float64 notices: gradients can be read, and weights are as before.
STILL = {"optimizer": torch.optim.SGD, "rate": 1e-30}


def _plain(module):
    layers = [layer for layer in module if isinstance(layer, torch.nn.Linear)]
    return [(layer.weight.tolist(), layer.bias.tolist()) for layer in layers]


def _batch(dtype=torch.float32, rows=6):
    rng = np.random.default_rng(3)
    numbers = {
        "observations": rng.standard_normal((rows, 3)),
        "actions": rng.uniform(-1, 1, (rows, 2)),
        "rewards": rng.standard_normal(rows),
        "next_observations": rng.standard_normal((rows, 3)),
        "discounts": np.where(np.arange(rows) == 2, 0.0, 0.97),
        "weights": rng.uniform(0.2, 1.0, rows),
        "noise": rng.standard_normal((2, rows, 2)),
    }
    tensors = {name: torch.tensor(array, dtype=dtype) for name, array in numbers.items()}
    # The oracle sees what is left of the numbers in this type.
    exact = {name: tensor.double().tolist() for name, tensor in tensors.items()}
    oracle_rows = [
        {
            "obs": exact["observations"][i],
            "action": exact["actions"][i],
            "reward": exact["rewards"][i],
            "next": exact["next_observations"][i],
            "discount": exact["discounts"][i],
            "weight": exact["weights"][i],
            "noise": (exact["noise"][0][i], exact["noise"][1][i]),
        }
        for i in range(rows)
    ]
    return Minibatch(**tensors), oracle_rows


def _gradients(modules):
    parts = []
    for module in modules:
        for layer in module:
            if isinstance(layer, torch.nn.Linear):
                parts += [layer.weight.grad.double().numpy().ravel(), layer.bias.grad.double().numpy()]
    return np.concatenate(parts)


PRECISIONS = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-8)], ids=["float32", "float64"]
)


def _agent(algorithm, dtype, **options):
    agent = small_agent(algorithm, dtype=dtype, **{**STILL, **options})
    with torch.no_grad():  # targets of their own, so that a mix-up shows
        for target in agent._targets:
            for parameter in target.parameters():
                parameter.mul_(1.3)
    agent._gather()
    return agent


@PRECISIONS
def test_losses_and_gradients_of_sac_are_those_of_the_formulas(dtype, tolerance):
    agent = _agent("sac", dtype)
    actor, critics, targets = (
        _plain(agent._actor),
        [_plain(agent._critic1), _plain(agent._critic2)],
        [_plain(target) for target in agent._targets],
    )
    batch, rows = _batch(dtype)
    found, errors = agent._gradient_step(batch, agent._hyperparams.params)
    alpha = math.exp(-0.5)

    def critic_loss():
        return oracle.sac_critic_loss(actor, critics, targets, rows, alpha)

    def actor_loss():
        return oracle.sac_actor_loss(actor, critics, rows, alpha)

    assert float(found["critic_loss"]) == pytest.approx(critic_loss(), rel=tolerance, abs=tolerance)
    assert float(found["actor_loss"]) == pytest.approx(actor_loss(), rel=tolerance, abs=tolerance)
    expected = oracle.gradient(critic_loss, critics)
    np.testing.assert_allclose(
        _gradients([agent._critic1, agent._critic2]), expected, rtol=tolerance, atol=tolerance
    )
    expected = oracle.gradient(actor_loss, [actor])
    np.testing.assert_allclose(_gradients([agent._actor]), expected, rtol=tolerance, atol=tolerance)
    step = 1e-6
    slope = [oracle.sac_alpha_loss(actor, rows, -0.5 + d, -2.0) for d in (step, -step)]
    assert float(agent._temperature.log_alpha.grad) == pytest.approx(
        (slope[0] - slope[1]) / (2 * step), rel=max(tolerance, 1e-7)
    )
    assert errors.shape == (6,)
    assert (errors > 0).all()


@PRECISIONS
def test_losses_and_gradients_of_td3_are_those_of_the_formulas(dtype, tolerance):
    agent = _agent("td3", dtype, hyperparams={"policy_delay": 1, "target_noise": 0.6})
    with torch.no_grad():
        agent._target_actor[0].weight.mul_(-1.2)
    networks = [_plain(m) for m in (agent._actor, agent._target_actor)]
    critics = [_plain(agent._critic1), _plain(agent._critic2)]
    targets = [_plain(target) for target in agent._targets]
    batch, rows = _batch(dtype)
    found, _ = agent._gradient_step(batch, agent._hyperparams.params)

    def critic_loss():
        return oracle.td3_critic_loss(networks[1], critics, targets, rows, 0.6, 0.5)

    def actor_loss():
        return oracle.td3_actor_loss(networks[0], critics[0], rows)

    assert float(found["critic_loss"]) == pytest.approx(critic_loss(), rel=tolerance, abs=tolerance)
    assert float(found["actor_loss"]) == pytest.approx(actor_loss(), rel=tolerance, abs=tolerance)
    expected = oracle.gradient(critic_loss, critics)
    np.testing.assert_allclose(
        _gradients([agent._critic1, agent._critic2]), expected, rtol=tolerance, atol=tolerance
    )
    expected = oracle.gradient(actor_loss, [networks[0]])
    np.testing.assert_allclose(_gradients([agent._actor]), expected, rtol=tolerance, atol=tolerance)


def test_target_noise_is_drawn_for_each_sample_cut_and_scaled_to_the_range():
    agent = _agent("td3", torch.float64, hyperparams={"target_noise": 0.2, "target_noise_clip": 0.5})
    batch, _ = _batch(torch.float64)
    seen = []
    agent._targets = tuple(_Recording(target, seen) for target in agent._targets)
    agent._critic_loss(batch, agent._hyperparams.params)
    plain = torch.tanh(agent._target_actor(batch.next_observations))
    moved = seen[0][:, 3:] - plain.detach()
    expected = (0.2 * batch.noise[0]).clamp(-0.5, 0.5)
    inside = (plain + expected).abs() < 1
    torch.testing.assert_close(moved[inside], expected[inside])
    assert len(set(moved[inside].tolist())) == int(inside.sum())
    batch.noise[0].fill_(100.0)
    seen.clear()
    agent._critic_loss(batch, agent._hyperparams.params)
    torch.testing.assert_close(seen[0][:, 3:], (plain + 0.5).clamp(-1, 1).detach())


class _Recording(torch.nn.Module):
    def __init__(self, inner, seen):
        super().__init__()
        self.inner, self.seen = inner, seen

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return self.inner(x)


@pytest.mark.parametrize("u", [-20.0, 20.0])
def test_the_density_has_finite_gradients_far_out(u):
    outputs = torch.tensor([[u, 0.0]], requires_grad=True)
    action, log_density = squashed_sample(outputs, torch.zeros(1, 1), -5.0, 2.0)
    log_density.sum().backward()
    assert abs(action.item()) == 1.0
    assert log_density.item() == pytest.approx(2 * abs(u) - 2 * math.log(2) - 0.5 * math.log(2 * math.pi))
    # d/du of -log(1 - tanh(u)^2) is 2 tanh(u).
    np.testing.assert_allclose(outputs.grad.numpy(), [[math.copysign(2.0, u), -1.0]], atol=1e-6)


@pytest.mark.parametrize(("log_std", "direction"), [(-4.5, 1), (0.5, -1)])
def test_the_temperature_rises_where_entropy_is_short_and_falls_where_there_is_plenty(log_std, direction):
    agent = _agent("sac", torch.float32, optimizer=torch.optim.Adam, rate=1e-2)
    with torch.no_grad():
        agent._actor[2].weight.zero_()
        agent._actor[2].bias.copy_(torch.tensor([0.0, 0.0, log_std, log_std]))
    before = agent.temperature
    found, _ = agent._gradient_step(_batch(rows=64)[0], agent._hyperparams.params)
    assert (float(found["entropy"]) < -2.0) == (direction > 0)
    assert (agent.temperature - before) * direction > 0


def test_targets_go_tau_of_the_way_and_td3s_only_with_the_actor():
    for algorithm, steps in (("sac", (True, True)), ("td3", (False, True))):
        agent = _agent(algorithm, torch.float64, hyperparams={"tau": 0.25})
        for moves in steps:
            before = [p.detach().clone() for p in agent._following]
            actor = [p.grad for p in agent._actor_weights]
            agent._gradient_step(_batch(torch.float64)[0], agent._hyperparams.params)
            agent._memory.gradient_steps += 1
            for old, new, source in zip(before, agent._following, agent._leading, strict=True):
                expected = old + 0.25 * (source.detach() - old) if moves else old
                torch.testing.assert_close(new, expected)
            assert (agent._actor_weights[0].grad is not actor[0]) == moves
        assert len(agent._following) == (8 if algorithm == "sac" else 12)
