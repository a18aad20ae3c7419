"""PPO with several choices at once, and with yes-or-no actions."""

from __future__ import annotations

import json
import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from optix_bus.agents import load_policy, make_agent, space_spec
from optix_bus.agents.acting import is_portable
from optix_bus.agents.batch import STATISTICS, Batch
from optix_bus.agents.heads import Bernoulli, MultiCategorical
from optix_bus.agents.torch.fast_ppo import FastPPO
from optix_bus.agents.torch.ppo import TorchPPOAgent
from optix_bus.agents.torch.ppo_update import AutogradPPO, ppo_loss
from optix_bus.errors import Unsuitable
from optix_bus.pipelines import BatchPipeline, VectorBatchPipeline
from optix_bus.testing.agent_contract import AgentContract
from optix_bus.types import ArraySpec, NamedArrays, SpaceSpec
from tests.agents.windows import random_window
from tests.oracles import ppo as oracle

SEEN = ArraySpec("box", (4,), "float32")
CHOICES = SpaceSpec("choices", SEEN, ArraySpec("multi_discrete", (2, 1), "int64", nvec=(3, 2)))
SWITCHES = SpaceSpec("switches", SEEN, ArraySpec("multi_binary", (3,), "int8"))
both = pytest.mark.parametrize("spaces", [CHOICES, SWITCHES], ids=lambda s: s.environment)


def _agent(spaces, **options):
    agent = make_agent(spaces, seed=0, hyperparams={"n_epochs": 2}, **options)
    with torch.no_grad():
        agent._actor[-1].weight.mul_(80.0)
    return agent


def _actions(spaces, shape, seed=0):
    rng = np.random.default_rng(seed)
    if spaces is SWITCHES:
        return rng.integers(0, 2, (*shape, 3)).astype(np.int8)
    return np.stack([rng.integers(0, n, shape) for n in (3, 2)], -1)[..., None]


def _window(spaces, seed=0, **changes):
    return random_window(seed, actions=_actions(spaces, (48, 4), seed), **changes)


def _density(spaces, row, action):
    """Log-probability and entropy by the formula, from one row of outputs."""
    if spaces is SWITCHES:
        parts = [oracle.categorical([0.0, logit], int(a)) for logit, a in zip(row, action, strict=True)]
    else:
        parts = [oracle.categorical(row[:3], int(action[0])), oracle.categorical(row[3:], int(action[1]))]
    return tuple(map(sum, zip(*parts, strict=True)))


def _outputs(agent, x):
    with torch.no_grad():
        return agent._actor(torch.from_numpy(x)).double().tolist()


@both
def test_loss_and_gradients_equal_the_formula_and_each_other(spaces):
    agent, rng = _agent(spaces), np.random.default_rng(0)
    numbers = rng.standard_normal((4, 100)).astype(np.float32)
    head = agent._actions()
    batch = Batch(
        observations=rng.standard_normal((100, 4)).astype(np.float32),
        actions=head.read(_actions(spaces, (100,)).reshape(100, -1)),
        log_probs=np.float32(-1.8) + 0.3 * numbers[0],
        advantages=numbers[1],
        returns=numbers[2],
        values=numbers[3],
        on_policy=False,
    )
    names = ("observations", "actions", "log_probs", "advantages", "returns", "values")
    part = tuple(torch.from_numpy(getattr(batch, name)) for name in names)
    params = {**agent.get_hyperparams().params, "entropy_coef": 0.3}
    loss, found, _ = ppo_loss(agent._actor, agent._critic, part, params, head=head)
    loss.backward()
    densities = [
        _density(spaces, row, action)
        for row, action in zip(_outputs(agent, batch.observations), batch.actions, strict=True)
    ]
    with torch.no_grad():
        values = agent._critic(part[0])[:, 0].double().tolist()
    lists = (batch.log_probs, batch.advantages, batch.returns, batch.values)
    expected = oracle.loss_of(densities, values, *(a.tolist() for a in lists), params)
    by_name = dict(zip(STATISTICS, found.tolist(), strict=True))
    assert [by_name[n] for n in ("loss", "policy_loss", "value_loss", "entropy")] == pytest.approx(
        expected, rel=1e-5, abs=1e-5
    )
    fast = agent._way_to_update()
    assert isinstance(fast, FastPPO)
    fast._fetch()
    stack = np.stack([batch.log_probs, batch.advantages, batch.returns, batch.values])
    x, actions = fast._columns(batch.observations), np.ascontiguousarray(batch.actions.T)
    by_hand, _ = fast._minds.differentiate(x, actions, stack, params)
    assert by_hand == pytest.approx(found.tolist(), rel=1e-5, abs=1e-5)
    for parameter, gradient in fast._views(fast._minds.gradients):
        np.testing.assert_allclose(gradient, parameter.grad.numpy(), atol=1e-5, rtol=1e-4)


@both
@pytest.mark.parametrize("fast", [True, False])
def test_the_first_ratio_is_one_and_what_was_recorded_agrees(spaces, fast):
    for version, error in ((0, 0.0), (-1, 1e-5)):
        agent = _agent(spaces)
        agent._fast = fast
        window = _window(spaces, metadata={"policy_version": version, "learner_version": 0})
        acted = agent.act_batch(window.observations.reshape(-1, 4))
        window.actions = acted.actions.reshape(48, 4, *spaces.action.shape)
        window.log_probs = acted.log_probs.reshape(48, 4)
        report = agent.learn(window)
        assert report["initial_ratio_error"] <= error
        assert abs(report["initial_kl"]) <= error


@both
def test_acting_follows_the_probabilities_in_numpy_and_on_paper(spaces):
    agent, x = _agent(spaces), np.random.default_rng(2).standard_normal((1, 4)).astype(np.float32)
    assert is_portable(agent.state())
    policy = load_policy(agent.state(), np.random.default_rng(0))
    row = _outputs(agent, x)[0]
    acted = policy.act_batch(np.repeat(x, 20_000, axis=0))
    assert acted.actions.shape == (20_000, *spaces.action.shape)
    assert acted.actions.dtype.kind == "i"
    flat = acted.actions.reshape(20_000, -1)
    expected = [_density(spaces, row, action)[0] for action in flat[:100]]
    np.testing.assert_allclose(acted.log_probs[:100], expected, atol=1e-5, rtol=1e-5)
    kinds, counts = np.unique(flat, axis=0, return_counts=True)
    for kind, count in zip(kinds, counts, strict=True):
        p = math.exp(_density(spaces, row, kind)[0])
        assert abs(count - 20_000 * p) < 5 * math.sqrt(20_000 * p * (1 - p)) + 1
    probabilities = policy.action_probs(x)[0]
    best = policy.act_batch(x, deterministic=True).actions.ravel().tolist()
    if spaces is SWITCHES:
        assert probabilities == pytest.approx([1 / (1 + math.exp(-logit)) for logit in row], abs=1e-5)
        assert best == [int(logit > 0) for logit in row]
    else:
        assert probabilities[:3].sum() == pytest.approx(1.0, abs=1e-5)
        assert best == [int(np.argmax(row[:3])), int(np.argmax(row[3:]))]


@both
def test_by_hand_and_by_torch_the_agent_learns_the_same(spaces):
    agents = [_agent(spaces) for _ in range(2)]
    agents[1]._fast = False
    assert isinstance(agents[1]._way_to_update(), AutogradPPO)
    for number in range(3):
        reports = [agent.learn(_window(spaces, number)) for agent in agents]
        assert reports[0] == pytest.approx(reports[1], rel=1e-3, abs=1e-4)
    one, two = (agent.state().arrays for agent in agents)
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=1e-4, rtol=1e-3, err_msg=name)


@both
def test_a_restored_agent_goes_on_to_the_bit(spaces):
    first, second = _agent(spaces), make_agent(spaces, seed=9, hyperparams={"n_epochs": 2})
    first.learn(_window(spaces))
    state = first.state()
    second.load_state(NamedArrays(state.arrays, json.loads(json.dumps(dict(state.metadata)))))
    answers = []
    for agent in (first, second):
        agent.reseed(np.random.default_rng(3))
        answers.append(agent.act_batch(np.ones((9, 4), np.float32)))
        agent.learn(_window(spaces, 1))
    assert answers[0].actions.tobytes() == answers[1].actions.tobytes()
    for name, array in first.state().arrays.items():
        np.testing.assert_array_equal(array, second.state().arrays[name], err_msg=name)


def test_actions_that_cannot_have_been_chosen_are_refused():
    with pytest.raises(Unsuitable, match=r"from \[0, 0\] to \[2, 2\] in the window, .* below \[3, 2\]"):
        _agent(CHOICES).learn(random_window(0, actions=np.arange(384).reshape(48, 4, 2, 1) // 2 % 3))
    with pytest.raises(Unsuitable, match="actions of 3 numbers in the window, expected 2"):
        _agent(CHOICES).learn(random_window(0, actions=np.zeros((48, 4, 3), int)))
    with pytest.raises(Unsuitable, match=r"from 0\.0 to 2\.0 in the window, expected 0 and 1"):
        _agent(SWITCHES).learn(random_window(0, actions=np.arange(576).reshape(48, 4, 3) % 3))
    with pytest.raises(Unsuitable, match=r"masks of 3 entries in the window, which do not fit .* bernoulli"):
        _agent(SWITCHES).learn(_window(SWITCHES, action_masks=np.ones((48, 4, 3), bool)))


class _Panel(gym.Env):
    """Rewards the choice that the observation shows."""

    observation_space = gym.spaces.Box(0, 1, (4,))

    def __init__(self, space, mask=None):
        self.action_space = space
        self.info = {} if mask is None else {"action_mask": mask}

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.seen = (self.np_random.random(4) < 0.5).astype(np.float32)
        return self.seen, self.info

    def step(self, action):
        assert self.action_space.contains(np.asarray(action, self.action_space.dtype))
        wanted = self.seen[: action.size].astype(int)
        self.steps += 1
        reward = float((np.asarray(action).ravel() == wanted).mean())
        self.seen = (self.np_random.random(4) < 0.5).astype(np.float32)
        return self.seen, reward, self.steps == 20, False, self.info


@pytest.mark.parametrize(
    "space", [gym.spaces.MultiDiscrete([3, 2]), gym.spaces.MultiBinary(3)], ids=["choices", "switches"]
)
def test_it_is_chosen_and_learns_through_the_pipeline(space):
    agent = make_agent(_Panel(space), seed=0, hyperparams={"learning_rate": 3e-3, "entropy_coef": 0.0})
    assert isinstance(agent, TorchPPOAgent)
    pipeline = VectorBatchPipeline([lambda: _Panel(space)] * 4, agent, window_size=128, seed=0)
    for number in range(16):
        agent.learn(pipeline.collect(number, np.random.default_rng(number)))
    data = pipeline.evaluate(5)
    assert data.rewards.mean() > 0.95


@both
@pytest.mark.parametrize("framework", ["tensorflow", "jax"])
def test_the_other_frameworks_choose_and_learn_the_same(spaces, framework):
    """From the weights of PyTorch: one step's report to 1e-5, the weights after three to 1e-4."""
    pytest.importorskip(framework)
    theirs = _agent(spaces, hidden_sizes=(8,))
    ours = make_agent(spaces, framework, "ppo", seed=0, hidden_sizes=(8,), hyperparams={"n_epochs": 2})
    networks = {n: a for n, a in theirs.state().arrays.items() if n.startswith(("actor.", "critic."))}
    ours.load_state(NamedArrays({**ours.state().arrays, **networks}, ours.state().metadata))
    x = np.random.default_rng(0).standard_normal((100, 4)).astype(np.float32)
    acted = []
    for agent in (ours, theirs):
        agent.reseed(np.random.default_rng(1))
        acted.append(agent.act_batch(x))
    np.testing.assert_array_equal(acted[0].actions, acted[1].actions)
    np.testing.assert_allclose(acted[0].log_probs, acted[1].log_probs, atol=1e-5)
    masks = None if spaces is SWITCHES else np.ones((48, 4, 5), bool)
    window = _window(spaces, 3, action_masks=masks, log_probs=np.full((48, 4), -2.0))
    window.metadata = {"policy_version": -1}
    if masks is not None:
        chosen = np.concatenate(
            [np.eye(3)[window.actions[..., 0, 0]], np.eye(2)[window.actions[..., 1, 0]]], -1
        )
        masks &= (np.random.default_rng(2).random(masks.shape) < 0.5) | (chosen > 0)
    for tolerance in (1e-5, 1e-4, 1e-4):
        reports = []
        for agent in (ours, theirs):
            agent.set_hyperparams({"n_epochs": 1, "minibatch_size": 1000})
            reports.append(agent.learn(window))
        assert reports[0] == pytest.approx(reports[1], rel=tolerance, abs=tolerance)
    for name in networks:
        np.testing.assert_allclose(
            ours.state().arrays[name], theirs.state().arrays[name], atol=1e-4, err_msg=name
        )


@pytest.mark.parametrize("mask", [np.array([1, 0, 1, 0, 1]), (np.array([1, 0, 1]), np.array([0, 1]))])
def test_masks_of_several_choices_stand_side_by_side(mask):
    space = gym.spaces.MultiDiscrete([3, 2])
    agent = make_agent(_Panel(space), seed=0)
    window = BatchPipeline(_Panel(space, mask), agent, window_size=64, seed=0).collect()
    assert set(window.actions[:, 0].tolist()) == {0, 2}
    assert set(window.actions[:, 1].tolist()) == {1}
    assert agent.learn(window)["entropy"] < math.log(2) + 1e-6


def test_spaces_are_described_with_their_numbers_of_choices():
    found = space_spec(_Panel(gym.spaces.MultiDiscrete([[3, 2], [2, 2]]))).action
    assert found == ArraySpec("multi_discrete", (2, 2), "int64", nvec=(3, 2, 2, 2))
    assert space_spec(_Panel(gym.spaces.MultiBinary((2, 3)))).action.shape == (2, 3)
    assert MultiCategorical((2, 2), (3, 2, 2, 2)).outputs == 9
    assert Bernoulli((2, 3)).outputs == 6


class TestChoices(AgentContract):
    spaces = CHOICES

    def make_agent(self):
        return make_agent(CHOICES, seed=0, hyperparams={"n_epochs": 2})


class TestSwitches(AgentContract):
    spaces = SWITCHES

    def make_agent(self):
        return make_agent(SWITCHES, seed=0, hyperparams={"n_epochs": 2})
