"""Rainbow: noise by formula, the loss of distributions by formula, acting alike in NumPy and in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optix_bus.agents import load_policy, make_agent
from optix_bus.agents.acting import is_portable
from optix_bus.agents.torch.noisy import NoisyLinear, draw_noise, noisy_layers
from optix_bus.agents.torch.rainbow import TorchRainbowDQNAgent
from optix_bus.agents.torch.rainbow_network import RainbowQNetwork
from optix_bus.agents.torch.rainbow_update import RainbowUpdate, c51_loss
from optix_bus.errors import ConfigurationError, LearningFailure, Unsuitable
from optix_bus.rl import ObsNormalizer
from optix_bus.rl.c51 import atoms
from optix_bus.types import HyperparamSet
from tests.agents.test_torch_dqn import _batch
from tests.agents.windows import NUMBERS, VECTOR, random_window
from tests.oracles import c51 as oracle

QUICK = {"learning_starts": 0, "train_freq": 4, "gradient_steps": 1, "batch_size": 16, "n_atoms": 11}


def _network(seed=0, n_atoms=11):
    torch.manual_seed(seed)
    return RainbowQNetwork(4, 3, 8, n_atoms)


def _agent(hyperparams=None, network=None, lr=1e-3, **options):
    network = network or _network()
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    return TorchRainbowDQNAgent(network, 3, 4, optimizer, {**QUICK, **(hyperparams or {})}, seed=0, **options)


def _same(first, second):
    for one, two in ((first.state(), second.state()), (first.replay_state(), second.replay_state())):
        assert one.arrays.keys() == two.arrays.keys()
        for name in one.arrays:
            np.testing.assert_array_equal(one.arrays[name], two.arrays[name], err_msg=name)


class Wrapped(nn.Module):
    """A network that NumPy does not know."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x).reshape(len(x), -1)


# Noise


def test_sigma_begins_at_half_over_the_root_of_the_inputs_and_means_lie_within_its_inverse():
    layer = NoisyLinear(16, 5)
    for sigma in (layer.weight_sigma, layer.bias_sigma):
        np.testing.assert_allclose(sigma.detach().numpy(), 0.5 / 4.0)
    for mu in (layer.weight_mu, layer.bias_mu):
        assert float(mu.detach().abs().max()) <= 0.25
    assert NoisyLinear(16, 5, sigma_0=0.1).weight_sigma[0, 0].item() == pytest.approx(0.025)


def test_noise_is_factorised_and_scaled_as_the_paper_says():
    layer, noise, x = NoisyLinear(3, 2), torch.tensor([4.0, -9.0, 0.25, -1.0, 16.0]), torch.randn(7, 3)
    layer.set_noise(noise)
    f_in, f_out = np.array([2.0, -3.0, 0.5]), np.array([-1.0, 4.0])
    mu, sigma, b_mu, b_sigma = (
        p.detach().numpy() for p in (layer.weight_mu, layer.weight_sigma, layer.bias_mu, layer.bias_sigma)
    )
    wanted = x.numpy() @ (mu + sigma * np.outer(f_out, f_in)).T + b_mu + b_sigma * f_out
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, rtol=1e-5, atol=1e-6)
    layer.eval()
    np.testing.assert_allclose(layer(x).detach().numpy(), x.numpy() @ mu.T + b_mu, rtol=1e-5, atol=1e-6)


def test_noise_stays_until_it_is_drawn_anew_and_has_the_moments_of_the_transform():
    layer, x = NoisyLinear(2000, 2000), torch.ones(1, 2000)
    layer.reset_noise(torch.Generator().manual_seed(0))
    first = layer(x)
    assert torch.equal(first, layer(x))
    # E |z| = sqrt(2 / pi) is the second moment of sgn(z) sqrt |z|.
    assert float((layer.eps_in**2).mean()) == pytest.approx(np.sqrt(2 / np.pi), abs=0.05)
    assert float(layer.eps_in.mean()) == pytest.approx(0.0, abs=0.06)
    layer.reset_noise(torch.Generator().manual_seed(1))
    assert not torch.equal(first, layer(x))
    assert not any("eps" in name for name in layer.state_dict())


def test_one_draw_serves_all_layers_with_different_noise():
    network = _network()
    layers = noisy_layers(network)
    assert len(layers) == 4
    draw_noise(layers, torch.Generator().manual_seed(0))
    assert not torch.equal(layers[0].eps_in, layers[2].eps_in)


# The update


def test_the_loss_is_the_cross_entropy_with_the_projected_distribution():
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.standard_normal((6, 3, 11))).requires_grad_()
    actions, weights = rng.integers(0, 3, 6), rng.random(6)
    targets, values = rng.dirichlet(np.ones(11), 6), atoms(-1.0, 1.0, 11)
    targets[0] = np.eye(11)[4]
    tensors = [torch.from_numpy(a) for a in (actions, targets, weights, values)]
    loss, errors, _ = c51_loss(logits, *tensors)
    taken = logits.detach().numpy()[np.arange(6), actions]
    losses = np.array([oracle.loss(t.tolist(), row.tolist()) for t, row in zip(targets, taken, strict=True)])
    assert float(loss.detach()) == pytest.approx(float((weights * losses).mean()))
    entropy = -np.where(targets > 0, targets * np.log(np.maximum(targets, 1e-300)), 0.0).sum(1)
    np.testing.assert_allclose(errors.detach().numpy(), losses - entropy, atol=1e-10)
    assert (errors >= -1e-9).all()
    loss.backward()
    # The gradient of a cross-entropy is the softmax minus the target, at the action taken alone.
    mass = np.exp(taken) / np.exp(taken).sum(1, keepdims=True)
    wanted = np.zeros((6, 3, 11))
    wanted[np.arange(6), actions] = weights[:, None] * (mass - targets) / 6
    np.testing.assert_allclose(logits.grad.numpy(), wanted, atol=1e-10)


def test_a_gradient_step_without_noise_is_that_of_the_formula():
    network, target, batch = _network(0), _network(1), _batch(rows=12)
    with torch.no_grad():
        for layer in (*noisy_layers(network), *noisy_layers(target)):
            layer.weight_sigma.zero_()
            layer.bias_sigma.zero_()
        observations, following = (torch.from_numpy(a) for a in (batch.observations, batch.next_observations))
        support = atoms(-2.0, 2.0, 11)
        q = torch.softmax(network(following).double(), 2) @ torch.from_numpy(support)
        chosen = q.argmax(1).numpy()
        ahead = torch.softmax(target(following).double(), 2).numpy()[np.arange(12), chosen]
        taken = network(observations).double().numpy()[np.arange(12), batch.actions]
    losses = [
        oracle.loss(oracle.project(p.tolist(), float(r), float(d), -2.0, 2.0), row.tolist())
        for p, r, d, row in zip(ahead, batch.rewards, batch.discounts, taken, strict=True)
    ]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    way = RainbowUpdate(network, target, optimizer, torch.device("cpu"), 3, torch.Generator().manual_seed(0))
    params = {"v_min": -2.0, "v_max": 2.0, "n_atoms": 11, "max_grad_norm": 10.0}
    outcome = way.update(batch, 1, params)
    np.testing.assert_allclose(outcome.loss, [np.mean(batch.weights * losses)], rtol=1e-5)


def test_noise_is_fresh_in_each_gradient_step():
    seen = []
    agent = _agent()
    agent._q_network.register_forward_hook(lambda module, *_: seen.append(module.value[0].eps_in.clone()))
    agent.learn(random_window(0, steps=32, width=None))
    # Twice in a step: to choose the next action, and for the loss.
    assert len(seen) == 2 * 8
    assert len({tuple(noise.tolist()) for noise in seen}) == len(seen)


# Acting


@pytest.mark.parametrize("normalizer", [None, ObsNormalizer((4,))])
def test_numpy_acts_as_torch_does_under_the_same_noise(normalizer):
    network = _network()
    plain = _agent(network=network, obs_normalizer=normalizer)
    wrapped = _agent(network=Wrapped(network), obs_normalizer=normalizer, device="cpu")
    assert is_portable(plain.state())
    assert not is_portable(wrapped.state())
    observations = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    one, two = (agent._acting.policy()._forward for agent in (plain, wrapped))
    assert one.noise_size == two.noise_size
    for noise in (None, np.random.default_rng(1).standard_normal((40, one.noise_size), np.float32)):
        for forward in (one, two):
            forward.set_noise(noise)
        np.testing.assert_allclose(one(observations)[0], two(observations)[0], rtol=1e-5, atol=1e-5)


def test_every_step_and_row_explores_under_noise_of_its_own_and_evaluation_under_none():
    agent = _agent()
    same = np.tile(np.random.default_rng(0).standard_normal((1, 4)).astype(np.float32), (300, 1))
    agent.reseed(np.random.default_rng(0))
    assert len(set(agent.act_batch(same).actions.tolist())) > 1
    best = agent.act_batch(same, deterministic=True).actions
    assert len(set(best.tolist())) == 1
    with agent.evaluation_mode():
        assert {agent.act(same[0]) for _ in range(20)} == {int(best[0])}


def test_the_policy_acts_from_its_state_alone():
    agent = _agent()
    agent.learn(random_window(0))
    policy = load_policy(agent.state())
    observations = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    for deterministic in (True, False):
        for each in (agent, policy):
            each.reseed(np.random.default_rng(1))
        one, two = (e.act_batch(observations, deterministic=deterministic).actions for e in (agent, policy))
        np.testing.assert_array_equal(one, two)


# The agent


def test_an_agent_with_state_and_replay_goes_on_to_the_bit():
    first, second = _agent(), _agent(network=_network(5))
    for number in range(3):
        first.learn(random_window(number))
    second.load_state(first.state())
    second.load_replay_state(first.replay_state())
    for agent in (first, second):
        agent.reseed(np.random.default_rng(7))
        agent.learn(random_window(4))
    _same(first, second)


def test_the_same_seed_learns_the_same_bits_and_torchs_generator_is_not_drawn_from():
    before = torch.get_rng_state()
    agents = [make_agent(VECTOR, algorithm="rainbow", seed=3, hyperparams=QUICK) for _ in range(2)]
    for agent in agents:
        agent.learn(random_window(0))
        agent.act_batch(np.zeros((3, 4), np.float32))
    _same(*agents)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_learns_the_values_of_a_task_whose_values_are_known():
    """One step, one of three actions pays 1 and the others nothing; then it is over."""
    quick = {
        "train_freq": 1,
        "batch_size": 32,
        "gradient_steps": 1,
        "target_update_freq": 20,
        "v_min": -1.0,
        "v_max": 2.0,
    }
    agent = make_agent(
        VECTOR, algorithm="rainbow", seed=0, hidden_sizes=(32,), hyperparams={**QUICK, **quick}
    )
    agent.set_hyperparams({"learning_rate": 3e-3})
    rng = np.random.default_rng(0)
    for number in range(8):
        observations = rng.standard_normal((64, 4)).astype(np.float32)
        best = (observations[:, 0] > 0).astype(int)
        actions = rng.integers(0, 3, 64)
        ends = np.ones(64, bool)
        report = agent.learn(
            random_window(
                number, steps=64, width=None, observations=observations, actions=actions,
                rewards=(actions == best).astype(float), terminated=ends, truncated=~ends,
            )
        )  # fmt: skip
    seen = rng.standard_normal((200, 4)).astype(np.float32)
    found = agent.act_batch(seen, deterministic=True).actions
    assert (found == (seen[:, 0] > 0)).mean() > 0.9
    assert report["loss"] < 1.5


def test_an_update_that_is_not_finite_leaves_everything_as_it_was():
    agent, twin = _agent(), _agent()
    for each in (agent, twin):
        each.learn(random_window(0))
    huge = np.full((48, 4, 4), 1e38, np.float32)
    with pytest.raises(LearningFailure, match="window 9: gradient step"):
        agent.learn(random_window(9, observations=huge))
    _same(agent, twin)


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(Unsuitable, match=r"gives \[2, 3, 7\].*expected \[2, 3, 11\]"):
        _agent(network=_network(n_atoms=7))
    with pytest.raises(Unsuitable, match="does not take observations"):
        TorchRainbowDQNAgent(_network(), 3, 9, torch.optim.Adam(_network().parameters()), QUICK)
    with pytest.raises(ConfigurationError, match="v_min below v_max"):
        _agent({"v_min": 3.0, "v_max": 3.0})
    agent = _agent()
    with pytest.raises(ConfigurationError, match="n_atoms is 21, but the network has 11"):
        agent.set_hyperparams({"n_atoms": 21})
    assert agent.get_hyperparams().params["n_atoms"] == 11


def test_discrete_observations_and_the_published_constructor_work():
    agent = make_agent(NUMBERS, algorithm="rainbow", seed=0, hyperparams=QUICK)
    agent.learn(random_window(0, spaces=NUMBERS))
    assert agent.act(np.int64(3)) in (0, 1)
    network = RainbowQNetwork.build(obs_dim=4, n_actions=3, hidden_size=16, n_atoms=51)
    agent = TorchRainbowDQNAgent(
        q_network=network, n_actions=3, obs_dim=4, optimizer=torch.optim.Adam(network.parameters(), lr=2e-4),
        hyperparams=HyperparamSet(params={"v_min": -10, "v_max": 10, "n_atoms": 51}), device="cpu",
    )  # fmt: skip
    params = agent.get_hyperparams().params
    assert (params["learning_rate"], params["n_step"], params["per_alpha"]) == (2e-4, 3, 0.5)
