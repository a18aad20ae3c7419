from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from optix_bus.agents import load_policy, make_agent
from optix_bus.agents.acting import is_portable
from optix_bus.agents.torch.generic import TorchAgent
from optix_bus.errors import LearningFailure, Unsuitable
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import EpisodeData, HyperparamSet
from tests.agents.every import BOX
from tests.agents.windows import NUMBERS, VECTOR, random_window
from tests.oracles import policy_gradient as oracle

#: Plain gradient descent that is never cut: the weights move by exactly the gradient.
PLAIN = {"learning_rate": 1.0, "max_grad_norm": 1e9, "entropy_coef": 0.0}


def _mlp(inputs, outputs, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs))


def _agent(model=None, critic=None, hyperparams=None, adam=True, **options):
    model = model or _mlp(4, 3)
    parameters = [*model.parameters(), *(critic.parameters() if critic else ())]
    optimizer = (torch.optim.Adam if adam else torch.optim.SGD)(parameters, lr=1e-2)
    return TorchAgent(model, optimizer, hyperparams, critic=critic, seed=0, **options)


def _one_episode(seed=0, steps=12, cut=False):
    """One environment; an end inside, and at its last row a termination or a cut."""
    window = random_window(seed, steps=steps, width=None)
    window.terminated = np.arange(steps) == 4
    window.truncated = np.zeros(steps, bool)
    window.terminated[-1], window.truncated[-1] = not cut, cut
    return window


def test_the_published_constructor_works():
    model = _mlp(4, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    agent = TorchAgent(
        model=model, optimizer=optimizer, hyperparams=HyperparamSet(params={"gamma": 0.9}), device="cpu"
    )
    assert agent.model is model
    assert (agent.get_hyperparams().params["gamma"], agent.get_hyperparams().params["learning_rate"]) == (
        0.9,
        3e-3,
    )
    assert agent.is_on_policy
    assert 0 <= agent.act(np.zeros(4, np.float32)) < 3


def test_reinforce_moves_a_linear_policy_by_the_gradient_of_the_formula():
    """grad log softmax(W x)[a] is (one_hot(a) - p) x^T: no automatic differentiation in the expectation."""
    model, gamma = nn.Linear(4, 3), 0.9
    window = _one_episode()
    before = model.weight.detach().numpy().astype(np.float64).copy()
    x = np.asarray(window.observations, np.float64)
    logits = x @ before.T + model.bias.detach().numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    weights = oracle.returns_to_go(window.rewards.tolist(), window.terminated, gamma, [0.0] * 12)
    expected = ((np.eye(3)[window.actions] - p) * np.array(weights)[:, None]).T @ x / 12
    report = _agent(model, hyperparams={**PLAIN, "gamma": gamma}, adam=False).learn(window)
    np.testing.assert_allclose(model.weight.detach().numpy() - before, expected, atol=1e-5)
    assert report["value_loss"] == 0.0
    assert report["updates"] == 1


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("continuous", [False, True])
def test_the_loss_of_a2c_equals_the_formula(continuous, cut):
    """A cut episode goes on with the value of its last observation, a terminated one with nothing."""
    params = {"gamma": 0.9, "entropy_coef": 0.1, "vf_coef": 0.3}
    model, critic = _mlp(4, 4 if continuous else 3), _mlp(4, 1, seed=1)
    window = _one_episode(cut=cut)
    if continuous:
        window.actions = np.random.default_rng(3).standard_normal((12, 2))
    with torch.no_grad():
        x, final = (torch.from_numpy(a) for a in (window.observations, window.final_observations))
        outputs, values = model(x).double().tolist(), critic(x)[:, 0].double().tolist()
        after = critic(final)[:, 0].double().numpy() * window.truncated
    returns = oracle.returns_to_go(
        window.rewards.tolist(), window.terminated | window.truncated, 0.9, after.tolist()
    )
    if continuous:
        log_probs = [oracle.log_normal(a, o[:2], o[2:]) for a, o in zip(window.actions, outputs, strict=True)]
        entropies = [sum(o[2:]) + 1.0 + math.log(2 * math.pi) for o in outputs]
    else:
        log_all = [oracle.log_softmax(o) for o in outputs]
        log_probs = [row[a] for row, a in zip(log_all, window.actions, strict=True)]
        entropies = [-sum(math.exp(z) * z for z in row) for row in log_all]
    advantages = [g - v for g, v in zip(returns, values, strict=True)]
    expected = oracle.loss(log_probs, entropies, values, advantages, returns, params)
    agent = _agent(model, critic, params, action_dim=2 if continuous else None)
    assert agent.learn(window)["loss"] == pytest.approx(expected, rel=1e-4)


def test_a_model_with_two_outputs_is_its_own_critic(tmp_path):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.policy, self.value = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 1)

        def forward(self, x):
            h = torch.tanh(self.body(x))
            return self.policy(h), self.value(h)

    agent = _agent(Both(), obs_normalizer=ObsNormalizer((4,)))
    assert not is_portable(agent.state())
    report = agent.learn(random_window())
    assert report["value_loss"] > 0.0
    x = np.random.default_rng(0).standard_normal((8, 4))
    with torch.no_grad():
        scaled = torch.from_numpy(agent._obs_normalizer.normalize(x))
        expected = agent.model(scaled)[0].argmax(1).numpy()
    np.testing.assert_array_equal(agent.act_batch(x, deterministic=True).actions, expected)
    agent.save_weights(str(tmp_path / "w"))
    other = _agent(Both(), obs_normalizer=ObsNormalizer((4,)))
    other.load_weights(str(tmp_path / "w"))
    np.testing.assert_array_equal(other.act_batch(x, deterministic=True).actions, expected)


def test_a_loss_of_ones_own_is_what_is_minimised():
    seen = []

    def entropy_only(model, batch):
        seen.append((model, tuple(batch.observations.shape), batch.values, batch.hyperparams["gamma"]))
        return -batch.entropies.mean()

    agent = _agent(nn.Linear(4, 3), compute_loss_fn=entropy_only)
    x = np.ones(4, np.float32)
    first = agent.learn(random_window())
    for number in range(200):
        last = agent.learn(random_window(number))
    assert seen[0] == (agent.model, (first["samples"], 4), None, 0.99)
    assert last["entropy"] == pytest.approx(math.log(3), abs=0.01)
    assert first["entropy"] < last["entropy"]
    np.testing.assert_allclose(load_policy(agent.state()).action_probs(x[None])[0], 1 / 3, atol=0.1)


@pytest.mark.parametrize("with_critic", [True, False])
def test_it_learns_which_arm_pays(with_critic):
    agent = _agent(_mlp(4, 3), _mlp(4, 1, seed=1) if with_critic else None, {"learning_rate": 2e-2})
    x = np.zeros((64, 4), np.float32)
    for _ in range(60):
        actions = agent.act_batch(x).actions
        ends = np.ones(64, bool)
        agent.learn(EpisodeData(x, actions, (actions == 2) * 1.0, ends, ~ends, [], 0, final_observations=x))
    assert agent.policy().action_probs(x[:1])[0, 2] > 0.95


def test_normalized_advantages_do_not_depend_on_the_scale_of_rewards():
    moved = []
    for scale in (1.0, 100.0):
        agent = _agent(hyperparams={**PLAIN, "normalize_advantage": True}, adam=False)
        window = _one_episode()
        window.rewards = window.rewards * scale
        agent.learn(window)
        moved.append(agent.state().arrays["model.0.weight"])
    np.testing.assert_allclose(*moved, atol=1e-5)


def test_a_restored_agent_goes_on_to_the_bit():
    first, second = (
        _agent(
            critic=_mlp(4, 1, seed=1),
            obs_normalizer=ObsNormalizer((4,)),
            reward_normalizer=RewardNormalizer(),
        )
        for _ in range(2)
    )
    for number in range(2):
        first.learn(random_window(number))
    second.load_state(first.state())
    for agent in (first, second):
        agent.learn(random_window(5))
    one, two = first.state().arrays, second.state().arrays
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_a_failure_leaves_the_agent_as_it_was():
    agent = _agent(critic=_mlp(4, 1), hyperparams={"learning_rate": 1e38}, adam=False)
    before = agent.state().arrays
    window = random_window(9)
    window.rewards = window.rewards * 1e30
    with pytest.raises(LearningFailure, match="window 9: the update is not finite"):
        agent.learn(window)
    for name, array in agent.state().arrays.items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    assert agent.policy_version == 0


def test_networks_of_the_wrong_size_are_refused_with_both_sizes():
    with pytest.raises(Unsuitable, match=r"the actor gives \[2, 5\] .*, expected \[2, 3\]"):
        _agent(_mlp(4, 5), spaces=VECTOR)


@pytest.mark.parametrize("spaces", [VECTOR, NUMBERS, BOX], ids=lambda spaces: spaces.environment)
def test_make_agent_makes_one_for_each_kind_of_action(spaces):
    agent = make_agent(spaces, algorithm="a2c", seed=0, hidden_sizes=(8,))
    assert isinstance(agent, TorchAgent)
    x = np.zeros((3, *spaces.observation.shape), spaces.observation.dtype)
    assert agent.act_batch(x).actions.shape == (3, *spaces.action.shape)
    assert is_portable(agent.state())
