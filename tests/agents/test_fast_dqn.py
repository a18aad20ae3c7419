"""Deep Q-learning by hand: the formula, and what PyTorch's differentiation computes, step after step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optix_bus.agents.fast.adam import FlatAdam
from optix_bus.agents.fast.dqn import HandmadeDQN
from optix_bus.agents.fast.mlp import with_ones
from optix_bus.agents.torch.dqn import TorchDQNAgent
from optix_bus.agents.torch.dqn_update import DQNUpdate
from optix_bus.agents.torch.fast_dqn import FastDQN
from optix_bus.agents.torch.flat import FlatNetwork
from optix_bus.agents.torch.networks import OneHot
from optix_bus.errors import LearningFailure, Unsuitable
from tests.agents.test_torch_dqn import QUICK, _agent, _batch, _layers, _network, _rows, _same, _weights
from tests.agents.windows import NUMBERS, random_window
from tests.oracles import dqn as oracle

CPU = torch.device("cpu")
VARIANTS = [{}, {"double": False}, {"max_grad_norm": 0.05}]
PARAMS = {"double": True, "max_grad_norm": 10.0}


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("scale", [0.3, 5.0])
def test_loss_errors_and_gradients_are_those_of_the_formula(double, scale):
    network, target, batch = _network(0), _network(1), _batch(scale=scale)
    loss, gradient, errors = oracle.loss(_layers(network), _layers(target), _rows(batch), double)
    flat = FlatNetwork(network)
    mind = HandmadeDQN(flat.mlp)
    flat.fetch(mind.parameters)
    FlatNetwork(target).fetch(mind.target)
    x, following = with_ones(batch.observations), with_ones(batch.next_observations)
    adam = FlatAdam(len(mind.parameters), learning_rate=0.0)
    outcome = mind.update(x, following, batch, 1, {"double": double, "max_grad_norm": 1e9}, adam)
    np.testing.assert_allclose(outcome.loss, [loss], rtol=1e-5)
    np.testing.assert_allclose(outcome.errors, errors, rtol=1e-5, atol=1e-5)
    for layer, (weight, bias) in zip(flat.mlp.split(mind.gradients), gradient, strict=True):
        np.testing.assert_allclose(layer, np.column_stack([weight, bias]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_a_hundred_steps_go_where_differentiation_goes(changes, activation):
    params, ends = {**PARAMS, **changes}, []
    for kind in (DQNUpdate, FastDQN):
        torch.manual_seed(0)
        network, target = (
            nn.Sequential(nn.Linear(4, 16), activation(), nn.Linear(16, 8), activation(), nn.Linear(8, 3))
            for _ in range(2)
        )
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        way = FastDQN(network, target, optimizer)
        if kind is DQNUpdate:
            way = DQNUpdate(network, target, optimizer, CPU)
        way.remember()
        found = []
        for number in range(10):
            found.append(way.update(_batch(rows=200, seed=number, scale=2.0), 10, params))
            way.synchronise()
        way.finish()
        moments = [optimizer.state[p]["exp_avg"].numpy().ravel() for p in network.parameters()]
        counts = {float(optimizer.state[p]["step"]) for p in network.parameters()}
        assert counts == {100.0}
        reports = [np.concatenate([getattr(o, n) for o in found]) for n in ("loss", "q_mean", "grad_norm")]
        ends.append((_weights(network), _weights(target), np.concatenate(moments), *reports))
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", [{}, {"per_alpha": 0.6, "n_step": 3}, {"double": False}])
def test_an_agent_learns_alike_by_hand_and_by_differentiation_and_may_change_over(changes):
    hand, machine, both = (_agent(changes, fast=fast) for fast in (True, False, True))
    for number in range(4):
        both._fast = number % 2 == 0
        for agent in (hand, machine, both):
            agent.reseed(np.random.default_rng(number))
            report = agent.learn(random_window(number, steps=24))
            assert report["updates"] == 24.0
    for other in (machine, both):
        np.testing.assert_allclose(_weights(other._q_network), _weights(hand._q_network), atol=2e-4)
    assert isinstance(hand._way_to_update(), FastDQN)
    assert isinstance(machine._way_to_update(), DQNUpdate)


def test_discrete_observations_are_learnt_by_hand_too():
    agents = []
    for fast in (True, False):
        torch.manual_seed(0)
        network = nn.Sequential(OneHot(5), nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        agents.append(TorchDQNAgent(network, 2, optimizer, QUICK, fast=fast, seed=0, spaces=NUMBERS))
    for agent in agents:
        agent.learn(random_window(0, spaces=NUMBERS))
    one, two = (_weights(agent._q_network) for agent in agents)
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_an_update_by_hand_that_is_not_finite_leaves_everything_as_it_was():
    agent, twin = _agent(fast=True), _agent(fast=True)
    for each in (agent, twin):
        each.learn(random_window(0))
    with pytest.raises(LearningFailure, match="window 9"):
        agent.learn(random_window(9, rewards=np.full((48, 4), 1e38)))
    _same(agent, twin)


def test_what_it_cannot_do_is_refused_where_it_is_insisted_on_and_left_to_torch_otherwise():
    network = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 3))
    with pytest.raises(Unsuitable, match=r"fast=True, but the update cannot be computed by hand: .*gelu"):
        _agent(network=network, fast=True)
    assert isinstance(_agent(network=network)._way_to_update(), DQNUpdate)
    network = _network()
    agent = TorchDQNAgent(network, 3, torch.optim.AdamW(network.parameters()), QUICK, seed=0)
    assert isinstance(agent._way_to_update(), DQNUpdate)
