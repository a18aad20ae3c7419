"""Deep Q-learning: its loss by formula, its clocks by counting, its state to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optix_bus.agents import load_policy, make_agent
from optix_bus.agents.off_policy import OffPolicyMemory
from optix_bus.agents.q_learning import Outcome, learn_values
from optix_bus.agents.torch.dqn import TorchDQNAgent
from optix_bus.agents.torch.dqn_update import DQNUpdate, q_loss
from optix_bus.agents.torch.target import frozen_copy
from optix_bus.errors import CheckpointError, ConfigurationError, LearningFailure, Unsuitable
from optix_bus.interfaces import Replaying
from optix_bus.rl import ObsNormalizer, Transitions
from optix_bus.types import HyperparamSet
from tests.agents.windows import NUMBERS, VECTOR, random_window
from tests.oracles import dqn as oracle

QUICK = {"learning_starts": 0, "train_freq": 4, "gradient_steps": 1, "batch_size": 16}


def _network(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)


def _agent(hyperparams=None, network=None, lr=1e-2, **options):
    network = network or _network()
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    return TorchDQNAgent(network, 3, optimizer, {**QUICK, **(hyperparams or {})}, seed=0, **options)


def _same(first, second):
    one, two = first.state(), second.state()
    assert one.metadata == two.metadata
    for state, other in ((one, two), (first.replay_state(), second.replay_state())):
        assert state.arrays.keys() == other.arrays.keys()
        for name in state.arrays:
            np.testing.assert_array_equal(state.arrays[name], other.arrays[name], err_msg=name)


def _weights(network):
    return np.concatenate([p.detach().numpy().ravel() for p in network.parameters()])


def _layers(network):
    linears = [layer for layer in network if isinstance(layer, nn.Linear)]
    return [tuple(p.detach().double().numpy() for p in (layer.weight, layer.bias)) for layer in linears]


def _batch(rows=40, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    observations, following = rng.standard_normal((2, rows, 4)).astype(np.float32)
    terminated = rng.random(rows) < 0.2
    return Transitions(
        observations=observations,
        actions=rng.integers(0, 3, rows),
        rewards=(scale * rng.standard_normal(rows)).astype(np.float32),
        next_observations=following,
        discounts=(0.9 * ~terminated).astype(np.float32),
        weights=rng.random(rows).astype(np.float32),
        indices=np.arange(rows),
        terminated=terminated,
        steps=np.ones(rows, np.int64),
    )


def _rows(batch):
    columns = (batch.observations, batch.actions, batch.rewards, batch.next_observations, batch.discounts)
    return list(zip(*columns, batch.weights, strict=True))


# The update


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("scale", [0.3, 5.0])
def test_loss_errors_and_gradients_are_those_of_the_formula(double, scale):
    network, target, batch = _network(0), _network(1), _batch(scale=scale)
    loss, gradient, errors = oracle.loss(_layers(network), _layers(target), _rows(batch), double)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    way = DQNUpdate(network, target, optimizer, torch.device("cpu"))
    outcome = way.update(batch, 1, {"double": double, "max_grad_norm": 1e9})
    np.testing.assert_allclose(outcome.loss, [loss], rtol=1e-5)
    np.testing.assert_allclose(outcome.errors, errors, rtol=1e-5, atol=1e-5)
    expected = np.concatenate([part.ravel() for pair in gradient for part in pair])
    found = np.concatenate([p.grad.numpy().ravel() for p in network.parameters()])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outcome.grad_norm, [np.linalg.norm(expected)], rtol=1e-5)


def test_many_steps_at_once_are_the_same_steps_one_by_one():
    batch, params = _batch(rows=60), {"double": True, "max_grad_norm": 0.1}
    results = []
    for together in (True, False):
        network = _network(0)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        way = DQNUpdate(network, _network(1), optimizer, torch.device("cpu"))
        if together:
            found = [way.update(batch, 3, params)]
        else:
            columns = {n: getattr(batch, n) for n in batch.__slots__ if n != "next_masks"}
            parts = [{n: column[i : i + 20] for n, column in columns.items()} for i in (0, 20, 40)]
            found = [way.update(Transitions(**part), 1, params) for part in parts]
        losses = np.concatenate([outcome.loss for outcome in found])
        errors = np.concatenate([outcome.errors for outcome in found])
        results.append((_weights(network), losses, errors))
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_the_target_gets_no_gradient():
    network = _network()
    target = frozen_copy(network)
    assert not any(p.requires_grad for p in target.parameters())
    batch = _batch()
    tensors = [
        torch.from_numpy(a)
        for a in (batch.observations, batch.actions[:, None], batch.rewards, batch.weights)
    ]
    loss, errors, _ = q_loss(network, *tensors)
    loss.backward()
    assert not errors.requires_grad


# The clocks


class Counting:
    """A way to update that only counts."""

    def __init__(self):
        self.story = []

    def update(self, batch, steps, params):
        self.story += ["step"] * steps
        rows = np.zeros(len(batch.actions))
        return Outcome(rows, np.zeros(steps), np.zeros(steps), np.zeros(steps))

    def synchronise(self):
        self.story.append("takeover")

    def remember(self):
        return lambda: None

    def is_finite(self):
        return True


@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("lengths", [[96], [32, 32, 32], [1] * 96, [50, 3, 43]])
def test_learning_and_takeovers_follow_steps_and_never_windows(lengths, alpha):
    params = {
        **make_agent(VECTOR, algorithm="dqn", seed=0).get_hyperparams().params,
        **{"learning_starts": 30, "train_freq": 8, "gradient_steps": 3, "target_update_freq": 7},
        "per_alpha": alpha,
    }  # fmt: skip
    way, memory, rng = Counting(), OffPolicyMemory(), np.random.default_rng(0)
    updates = 0.0
    for number, steps in enumerate(lengths):
        window = random_window(number, steps=steps, width=None)
        updates += learn_values(window, way, memory, params, rng, 3, None)["updates"]
    # At 32, 40, ..., 96 steps: nine bouts of three.
    assert updates == 27
    wanted = [event for step in range(1, 28) for event in ["step"] + ["takeover"] * (step % 7 == 0)]
    assert way.story == wanted
    assert memory.clocks() == {"environment_steps": 96, "gradient_steps": 27}


def test_the_target_network_takes_over_after_so_many_gradient_steps():
    agent = _agent({"target_update_freq": 5})
    before = _weights(agent._target_network)
    agent.learn(random_window(0, steps=16, width=None))
    np.testing.assert_array_equal(_weights(agent._target_network), before)
    agent.learn(random_window(1, steps=4, width=None))
    np.testing.assert_array_equal(_weights(agent._target_network), _weights(agent._q_network))
    agent.learn(random_window(2, steps=4, width=None))
    assert not np.array_equal(_weights(agent._target_network), _weights(agent._q_network))


def test_epsilon_falls_by_steps_and_a_new_value_begins_anew():
    agent = _agent({"epsilon_decay": 0.5, "epsilon_decay_steps": 32, "epsilon_min": 0.1})
    assert agent.epsilon == 1.0
    assert agent.learn(random_window(0, steps=16, width=2))["epsilon"] == pytest.approx(0.5)
    agent.learn(random_window(1, steps=32, width=1))
    assert agent.epsilon == pytest.approx(0.25)
    agent.set_hyperparams(agent.get_hyperparams())
    assert agent.epsilon == pytest.approx(0.25)
    agent.set_hyperparams(HyperparamSet({"epsilon": 0.8}))
    assert agent.epsilon == pytest.approx(0.8)
    assert agent.state().metadata["policy"]["epsilon"] == pytest.approx(0.8)
    agent.learn(random_window(2, steps=64, width=None))
    assert agent.epsilon == pytest.approx(0.2)
    other = _agent()
    other.load_state(agent.state())
    other.set_hyperparams(agent.get_hyperparams())
    assert _agent({"epsilon": 0.0}).epsilon == 0.05


def test_a_state_does_not_forget_since_when_epsilon_falls():
    settings = {"epsilon_decay": 0.5, "epsilon_decay_steps": 32, "epsilon_min": 0.0}
    agent, other = _agent(settings), _agent({**settings, "epsilon": 0.8})
    agent.learn(random_window(0, steps=32, width=1))
    agent.set_hyperparams(HyperparamSet({"epsilon": 0.8}))
    agent.learn(random_window(1, steps=32, width=1))
    other.load_state(agent.state())
    assert other.epsilon == agent.epsilon == pytest.approx(0.4)


# Replay, priorities, n steps


def test_priorities_are_the_errors_of_what_was_drawn():
    agent = _agent({"per_alpha": 0.6, "batch_size": 64})
    agent.learn(random_window(0, steps=4, width=8))
    priorities = agent.replay_state().arrays["priorities"]
    assert len(np.unique(priorities)) > 5
    assert (priorities > 0).all()


@pytest.mark.parametrize("changes", [{}, {"per_alpha": 0.6}, {"n_step": 3}, {"double": False}])
def test_it_learns_the_values_of_a_task_whose_values_are_known(changes):
    """One step, one of three actions pays 1 and the others nothing; then it is over."""
    agent = _agent({"train_freq": 1, "batch_size": 32, "target_update_freq": 20, **changes}, lr=3e-3)
    rng = np.random.default_rng(0)
    for number in range(12):
        observations = rng.standard_normal((64, 4)).astype(np.float32)
        best = (observations[:, 0] > 0).astype(int)
        actions = rng.integers(0, 3, 64)
        ends = np.ones(64, bool)
        agent.learn(
            random_window(
                number, steps=64, width=None, observations=observations, actions=actions,
                rewards=(actions == best).astype(float), terminated=ends, truncated=~ends,
            )
        )  # fmt: skip
    seen = rng.standard_normal((200, 4)).astype(np.float32)
    found = agent.act_batch(seen, deterministic=True).actions
    assert (found == (seen[:, 0] > 0)).mean() > 0.95


def test_a_truncation_keeps_the_value_of_what_follows_and_a_termination_does_not():
    agent = _agent()
    ends = np.array([True, True])
    window = random_window(
        0, steps=2, width=None, terminated=ends & [True, False], truncated=ends & [False, True]
    )
    agent.learn(window)
    found = agent._memory.replay.at(np.arange(2), np.ones(2, np.float32))
    np.testing.assert_allclose(found.discounts, [0.0, 0.99], rtol=1e-6)
    np.testing.assert_array_equal(found.next_observations[1], window.final_observations[1])


def test_rows_that_are_no_transitions_are_not_learnt():
    valid = np.ones((10, 2), bool)
    valid[4, 0] = False
    agent = _agent()
    report = agent.learn(random_window(0, steps=10, width=2, valid=valid, terminated=np.roll(~valid, -1, 0)))
    assert report["replay_size"] == report["samples"] == report["environment_steps"] == 19


# State


@pytest.mark.parametrize("changes", [{}, {"per_alpha": 0.6, "n_step": 3}])
def test_an_agent_with_state_and_replay_goes_on_to_the_bit(changes):
    first, second = _agent(changes), _agent(changes, network=_network(5))
    assert isinstance(first, Replaying)
    for number in range(3):
        first.learn(random_window(number))
    second.load_state(first.state())
    second.load_replay_state(first.replay_state())
    _same(first, second)
    for agent in (first, second):
        agent.reseed(np.random.default_rng(7))
        agent.learn(random_window(4))
    _same(first, second)


def test_saved_weights_hold_the_replay_and_load_with_it(tmp_path):
    first, second = _agent({"n_step": 2}), _agent({"n_step": 2}, network=_network(5))
    first.learn(random_window(0))
    for path in (tmp_path / "folder", tmp_path / "one.safetensors"):
        first.save_weights(str(path))
        second.load_weights(str(path))
        _same(first, second)
        first.learn(random_window(1))


def test_the_policy_travels_without_the_replay():
    agent = _agent()
    before = sum(a.nbytes for a in agent.state().arrays.values())
    agent.learn(random_window(0, steps=400))
    # Adam has got its moments; the 1,600 transitions are not there.
    assert sum(a.nbytes for a in agent.state().arrays.values()) < before * 4
    policy = load_policy(agent.state())
    observations = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    for deterministic in (True, False):
        for each in (agent, policy):
            each.reseed(np.random.default_rng(1))
        one, two = (e.act_batch(observations, deterministic=deterministic).actions for e in (agent, policy))
        np.testing.assert_array_equal(one, two)


def test_the_same_seed_learns_the_same_bits_and_torchs_generator_is_not_drawn_from():
    before = torch.get_rng_state()
    agents = [make_agent(VECTOR, algorithm="dqn", seed=3, hyperparams=QUICK) for _ in range(2)]
    for agent in agents:
        for number in range(2):
            agent.learn(random_window(number))
        agent.act_batch(np.zeros((3, 4), np.float32))
    _same(*agents)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_user_module_acts_through_torch_and_learns_alike():
    class Own(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x)

    plain, own = _agent(), _agent(network=Own(_network()), device="cpu")
    assert own.state().metadata["policy"]["kind"] == "agent"
    observations = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    for agent in (plain, own):
        agent.learn(random_window(0))
        agent.reseed(np.random.default_rng(0))
    one, two = (agent.act_batch(observations).actions for agent in (plain, own))
    np.testing.assert_array_equal(one, two)


def test_discrete_observations_are_stored_as_they_are():
    agent = make_agent(NUMBERS, algorithm="dqn", seed=0, hyperparams=QUICK)
    agent.learn(random_window(0, spaces=NUMBERS))
    assert agent.replay_state().arrays["observations"].dtype == np.int64
    assert agent.act(np.int64(3)) in (0, 1)


def test_observations_are_normalised_when_drawn_and_stored_raw():
    agent = _agent(obs_normalizer=ObsNormalizer((4,)))
    window = random_window(0)
    agent.learn(window)
    stored = agent.replay_state().arrays["observations"]
    assert {tuple(row) for row in stored} <= {tuple(row) for row in window.observations.reshape(-1, 4)}
    assert agent._obs_normalizer.count > 1
    agent.learn(random_window(1))


def test_perturbing_moves_network_and_target_alike():
    agent = _agent()
    before = _weights(agent._q_network)
    agent.perturb_weights(0.1)
    assert not np.array_equal(_weights(agent._q_network), before)
    np.testing.assert_array_equal(_weights(agent._q_network), _weights(agent._target_network))


def test_hyperparameters_change_between_windows_and_the_replay_stays():
    agent = _agent({"replay_capacity": 500})
    agent.learn(random_window(0))
    agent.set_hyperparams({"per_alpha": 0.5, "gamma": 0.5, "n_step": 3, "replay_capacity": 100})
    report = agent.learn(random_window(1))
    assert report["replay_size"] == 100
    replay = agent._memory.replay
    assert (replay.alpha, replay.gamma, replay.n_step) == (0.5, 0.5, 3)


# Failures


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_an_update_that_is_not_finite_says_so_and_leaves_everything_as_it_was(alpha):
    agent, twin = _agent({"per_alpha": alpha, "n_step": 2}), _agent({"per_alpha": alpha, "n_step": 2})
    for each in (agent, twin):
        each.learn(random_window(0))
    rewards = np.full((48, 4), 1e38)
    with pytest.raises(
        LearningFailure, match=r"window 9: gradient step \d+ of it is not finite .*rewards 1e\+38"
    ):
        agent.learn(random_window(9, rewards=rewards))
    _same(agent, twin)
    for each in (agent, twin):
        each.reseed(np.random.default_rng(0))
        each.learn(random_window(1))
    _same(agent, twin)


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(Unsuitable, match="3 outputs, expected 5"):
        TorchDQNAgent(_network(), 5, torch.optim.Adam(_network().parameters()))
    with pytest.raises(Unsuitable, match="discrete actions, but n_actions is 3"):
        _agent(spaces=NUMBERS)
    actions = np.full(48, 7)
    actions[0] = 0
    with pytest.raises(Unsuitable, match="found actions 0 to 7, but the network has values for 0 to 2"):
        _agent().learn(random_window(0, width=None, actions=actions))
    with pytest.raises(Unsuitable, match="expected one whole number"):
        _agent().learn(random_window(0, width=None, actions=np.zeros((48, 2))))
    with pytest.raises(ConfigurationError, match=r"epsilon_decey.*did you mean 'epsilon_decay'"):
        _agent({"epsilon_decey": 0.9})
    with pytest.raises(CheckpointError, match="found no replay"):
        _agent().load_replay_state(_agent().state())


def test_the_published_constructor_works():
    network = _network()
    agent = TorchDQNAgent(
        q_network=network, n_actions=3, optimizer=torch.optim.Adam(network.parameters(), lr=5e-4),
        hyperparams=HyperparamSet(params={"epsilon": 1.0, "epsilon_min": 0.05, "epsilon_decay": 0.995,
        "batch_size": 64, "target_update_freq": 100, "replay_capacity": 100_000, "per_alpha": 0.0,
        "per_beta": 0.4, "n_step": 1, "gamma": 0.99}, episode_id=0), device="cpu",
    )  # fmt: skip
    assert agent.get_hyperparams().params["learning_rate"] == 5e-4
    assert not agent.is_on_policy
    assert agent.default_min_episodes_before_dormant == 60
    assert agent.default_param_bounds == {"learning_rate": (1e-4, 1e-3), "gamma": (0.95, 0.999)}
