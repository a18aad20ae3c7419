"""Cells in NumPy equal those of torch, and a policy remembers each environment on its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from optix_bus.agents import load_policy, make_agent
from optix_bus.agents.acting import is_portable
from optix_bus.agents.acting.recurrent import RecurrentForward
from optix_bus.agents.torch.networks import OneHot
from optix_bus.agents.torch.recurrent_acting import TorchRecurrentStep
from optix_bus.agents.torch.recurrent_ppo import TorchRecurrentPPOAgent
from optix_bus.errors import ConfigurationError, Unsuitable
from optix_bus.interfaces import Policy, Remembering
from optix_bus.rl import ObsNormalizer
from optix_bus.types import SpaceSpec
from tests.agents.windows import NUMBERS, VECTOR
from tests.oracles.recurrent import gru_step, lstm_step


class Mystery(nn.Module):
    """Something that NumPy does not know."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).sin()


def networks(kind: type[nn.GRU | nn.LSTM] = nn.GRU, head: type[nn.Module] = nn.Linear, **options: Any) -> Any:
    torch.manual_seed(3)
    rnn = kind(4, 6, **options)
    return rnn, head(6, 3), nn.Linear(6, 1)


def agent_of(*modules: nn.Module, **options: Any) -> TorchRecurrentPPOAgent:
    parameters = [p for module in modules for p in module.parameters()]
    return TorchRecurrentPPOAgent(*modules, torch.optim.Adam(parameters), seed=0, **options)  # type: ignore[arg-type, misc]


CELLS = [
    (kind, options)
    for kind in (nn.GRU, nn.LSTM)
    for options in ({}, {"num_layers": 2}, {"bias": False}, {"batch_first": True, "num_layers": 3})
]


@pytest.mark.parametrize("rows", [1, 3, 8, 13])
@pytest.mark.parametrize(("kind", "options"), CELLS)
def test_the_steps_of_a_cell_equal_a_sequence_of_torch(kind: Any, options: Any, rows: int) -> None:
    rnn, actor_head, critic_head = networks(kind, **options)
    agent = agent_of(rnn, actor_head, critic_head)
    state = agent.state()
    assert is_portable(state)
    step = RecurrentForward(state.metadata["policy"], state.arrays)
    x = np.random.default_rng(0).standard_normal((20, rows, 4)).astype(np.float32)
    memory = np.zeros((rows, step.size), np.float32)
    found = []
    for row in x:
        outputs, count, memory = step(row, memory)
        found.append(outputs[:count].copy())
    with torch.no_grad():
        given = torch.from_numpy(x)
        outputs, last = rnn(given.transpose(0, 1) if rnn.batch_first else given)
        expected = actor_head(outputs.transpose(0, 1) if rnn.batch_first else outputs).numpy()
    np.testing.assert_allclose(np.array(found), expected, atol=1e-5, rtol=1e-5)
    parts = (last,) if kind is nn.GRU else last
    behind = np.concatenate([part.transpose(0, 1).reshape(rows, -1).numpy() for part in parts], axis=1)
    np.testing.assert_allclose(memory, behind, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_the_steps_of_a_cell_equal_the_formulas(kind: Any) -> None:
    rnn, actor_head, critic_head = networks(kind)
    state = agent_of(rnn, actor_head, critic_head).state()
    step = RecurrentForward(state.metadata["policy"], state.arrays)
    weights = {name.removeprefix("rnn."): array.astype(np.float64) for name, array in state.arrays.items()}
    rng = np.random.default_rng(1)
    h, c, memory = np.zeros(6), np.zeros(6), np.zeros((1, step.size), np.float32)
    for _ in range(10):
        x = rng.standard_normal(4).astype(np.float32)
        _, _, memory = step(x[None], memory)
        if kind is nn.GRU:
            h = gru_step(x, h, weights)
        else:
            h, c = lstm_step(x, h, c, weights)
        np.testing.assert_allclose(memory[0, :6], h, atol=1e-6)
    if kind is nn.LSTM:
        np.testing.assert_allclose(memory[0, 6:], c, atol=1e-6)


@pytest.mark.parametrize("normalizer", [False, True])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_head_that_numpy_does_not_know_acts_in_torch_with_the_same_memory(
    kind: Any, normalizer: bool
) -> None:
    rnn, head, critic_head = networks(kind, Mystery, num_layers=2)
    statistics = ObsNormalizer((4,)) if normalizer else None
    if statistics is not None:
        statistics.update(np.random.default_rng(5).standard_normal((50, 4)) * 3 + 2)
    agent = agent_of(rnn, head, critic_head, obs_normalizer=statistics)
    assert not is_portable(agent.state())
    policy = agent.policy()
    x = np.random.default_rng(0).standard_normal((12, 2, 4)).astype(np.float32)
    policy.reseed(np.random.default_rng(0))
    chosen = [policy.act_batch(row) for row in x]
    with torch.no_grad():
        scaled = x if statistics is None else statistics.normalize(x)
        outputs = head(rnn(torch.from_numpy(np.asarray(scaled, np.float32)))[0])
        log_all = torch.log_softmax(outputs, -1).numpy()
    for acting, expected in zip(chosen, log_all, strict=True):
        np.testing.assert_allclose(acting.log_probs, expected[[0, 1], acting.actions], atol=1e-5)


@pytest.mark.parametrize("spaces", [VECTOR, NUMBERS], ids=lambda spaces: spaces.environment)
def test_an_encoder_of_vectors_or_numbers_acts_in_numpy_too(spaces: SpaceSpec) -> None:
    torch.manual_seed(3)
    one_hot = spaces is NUMBERS
    encoder = nn.Sequential(*([OneHot(5)] if one_hot else []), nn.Linear(5 if one_hot else 4, 7), nn.Tanh())
    modules = nn.GRU(7, 6), nn.Linear(6, spaces.action.n), nn.Linear(6, 1)
    statistics = None if one_hot else ObsNormalizer((4,))
    if statistics is not None:
        statistics.update(np.random.default_rng(5).standard_normal((50, 4)) * 3 + 2)
    agent = agent_of(*modules, spaces=spaces, encoder=encoder, obs_normalizer=statistics)
    agent.perturb_weights(1.0)
    state = agent.state()
    assert is_portable(state)
    step = RecurrentForward(state.metadata["policy"], state.arrays)
    torchs = TorchRecurrentStep(agent._actor(), statistics, torch.device("cpu"))
    rng, memories = np.random.default_rng(0), [np.zeros((3, 6), np.float32)] * 2
    for _ in range(10):
        x = rng.integers(0, 5, 3) if one_hot else rng.standard_normal((3, 4)).astype(np.float32)
        found, rows, memories[0] = step(x, memories[0])
        expected, _, memories[1] = torchs(x, memories[1])
        np.testing.assert_allclose(found[:rows], expected, atol=1e-5)
        np.testing.assert_allclose(*memories, atol=1e-5)
    assert np.abs(memories[0]).max() > 0.05


@pytest.mark.parametrize("rnn", ["gru", "lstm"])
def test_a_loaded_policy_acts_like_the_agent_normaliser_included(rnn: str) -> None:
    agent = make_agent(VECTOR, algorithm="recurrent_ppo", rnn=rnn, seed=0)
    agent._obs_normalizer.update(np.random.default_rng(5).standard_normal((50, 4)) * 3 + 2)  # type: ignore[attr-defined]
    policy = load_policy(agent.state())  # type: ignore[attr-defined]
    assert isinstance(policy, Policy)
    assert isinstance(policy, Remembering)
    assert isinstance(agent, Remembering)
    for each in (agent, policy):
        each.reseed(np.random.default_rng(1))
    for row in np.random.default_rng(0).standard_normal((9, 5, 4)).astype(np.float32):
        one, two = agent.act_batch(row), policy.act_batch(row)
        np.testing.assert_array_equal(one.actions, two.actions)
        np.testing.assert_array_equal(one.log_probs, two.log_probs)
    np.testing.assert_array_equal(agent.memory(), policy.memory())


def policy() -> Any:
    return agent_of(*networks()).policy()


def test_an_episode_start_forgets_its_own_row_and_no_other() -> None:
    remembering = policy()
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    remembering.act_batch(x)
    before = remembering.memory()
    remembering.episode_start(np.array([False, True, False]))
    after = remembering.memory()
    assert not after[1].any()
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert before[1].any()
    fresh = policy()
    fresh.act_batch(x[[1, 1, 1]])
    remembering.act_batch(x[[1, 1, 1]])
    np.testing.assert_array_equal(remembering.memory()[1], fresh.memory()[1])
    assert np.abs(remembering.memory()[0] - fresh.memory()[0]).max() > 1e-3


def test_a_memory_goes_on_in_another_policy_and_what_does_not_fit_is_forgotten() -> None:
    one, two = policy(), policy()
    assert one.memory() is None
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    one.act_batch(x[0])
    two.load_memory(one.memory())
    one.act_batch(x[1])
    two.act_batch(x[1])
    np.testing.assert_array_equal(one.memory(), two.memory())
    two.load_memory(np.ones((3, 99), np.float32))
    assert two.memory().shape == (3, 6)
    assert not two.memory().any()
    two.load_memory(None)
    assert two.memory() is None


def test_another_number_of_environments_begins_with_an_empty_memory() -> None:
    one, two = policy(), policy()
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    one.act_batch(x)
    one.act_batch(x[:2])
    two.act_batch(x[:2])
    np.testing.assert_array_equal(one.memory(), two.memory())


def test_looking_at_probabilities_adds_nothing_to_the_memory() -> None:
    agent = agent_of(*networks())
    x = np.random.default_rng(0).standard_normal(4).astype(np.float32)
    agent.act(x)
    before = agent.memory()
    assert agent.action_probs(x).sum() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_array_equal(agent.memory(), before)
    agent.act(x)
    assert np.abs(agent.memory() - before).max() > 1e-4


def test_learning_and_new_weights_leave_the_memory_of_open_episodes() -> None:
    agent = agent_of(*networks())
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    agent.act_batch(x)
    before = agent.memory()
    agent.perturb_weights(0.1)
    np.testing.assert_array_equal(agent.memory(), before)
    with torch.no_grad():
        agent._rnn.weight_hh_l0.mul_(1.5)
    np.testing.assert_array_equal(agent.memory(), before)
    agent.act_batch(x)
    agent.reset_hidden()
    assert agent.memory() is None


def test_discrete_observations_are_remembered() -> None:
    agent = make_agent(NUMBERS, algorithm="recurrent_ppo", seed=0)
    assert agent.act(4) in (0, 1)
    with pytest.raises(Unsuitable, match=r"outside 0\.\.4"):
        agent.act(5)


def test_what_the_network_does_not_take_is_refused() -> None:
    with pytest.raises(Unsuitable, match=r"shape \(3,\), but the recurrent network takes 4"):
        policy().act_batch(np.zeros((2, 3), np.float32))


def test_a_description_of_another_cell_is_refused() -> None:
    state = agent_of(*networks()).state()
    state.metadata["policy"]["cell"] = "elman"
    with pytest.raises(ConfigurationError, match="found a cell 'elman', expected one of gru, lstm"):
        load_policy(state)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ((nn.RNN(4, 6), nn.Linear(6, 3), nn.Linear(6, 1)), "the rnn is a RNN, expected"),
        ((nn.GRU(4, 6, bidirectional=True), nn.Linear(12, 3), nn.Linear(12, 1)), "into the future"),
        ((nn.LSTM(4, 6, proj_size=2), nn.Linear(2, 3), nn.Linear(2, 1)), "proj_size"),
        ((nn.GRU(4, 6, 2, dropout=0.1), nn.Linear(6, 3), nn.Linear(6, 1)), "drops units"),
        ((nn.GRU(5, 6), nn.Linear(6, 3), nn.Linear(6, 1)), "the rnn takes 5 numbers, but vector shows 4"),
        ((nn.GRU(4, 6), nn.Linear(5, 3), nn.Linear(6, 1)), "actor_head does not take the 6 outputs"),
        ((nn.GRU(4, 6), nn.Linear(6, 2), nn.Linear(6, 1)), r"actor_head gives \[2, 2\] .* expected \[2, 3\]"),
        ((nn.GRU(4, 6), nn.Linear(6, 3), nn.Linear(6, 2)), r"critic_head gives \[2, 2\]"),
    ],
)
def test_networks_that_do_not_fit_are_refused_by_name(made: Any, message: str) -> None:
    with pytest.raises(Unsuitable, match=message):
        agent_of(*made, spaces=VECTOR)
