"""PPO for continuous actions: densities in the units of the environment, acted, learnt and sent."""

from __future__ import annotations

import json
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from optix_bus.agents import load_policy, make_agent
from optix_bus.agents.acting import is_portable
from optix_bus.agents.batch import STATISTICS, Batch
from optix_bus.agents.cards import card
from optix_bus.agents.heads import Gaussian, head_for
from optix_bus.agents.torch.fast_ppo import FastPPO, why_not_fast
from optix_bus.agents.torch.gaussian_ppo import TorchGaussianPPOAgent
from optix_bus.agents.torch.networks import AppendConstant
from optix_bus.agents.torch.ppo_update import AutogradPPO, ppo_loss
from optix_bus.errors import LearningFailure, Unsuitable
from optix_bus.pipelines import BatchPipeline, VectorBatchPipeline
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import ArraySpec, EpisodeData, HyperparamSet, NamedArrays, SpaceSpec
from tests.agents.windows import random_window
from tests.oracles import ppo as oracle

CPU = torch.device("cpu")
PARAMS = card("gaussian_ppo").defaults()
LOW, HIGH = (-1.0, 0.0), (3.0, 10.0)
BOUNDED, FREE = Gaussian((2,), LOW, HIGH), Gaussian((2,))
VECTOR = ArraySpec("box", (4,), "float32")
REACHING = SpaceSpec("reaching", VECTOR, ArraySpec("box", (2,), "float32", low=LOW, high=HIGH))
VARIANTS = [
    {},
    {"normalize_advantage": False},
    {"clip_value": 0.3},
    {"clip_ratio": 0.02, "entropy_coef": 0.5},
]


def _networks(constant=True, seed=0):
    torch.manual_seed(seed)
    width = 2 if constant else 4
    actor = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, width))
    if constant:
        actor.append(AppendConstant(torch.tensor([-0.3, 0.2])))
    return actor, nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))


def _adam(*modules, lr=1e-3):
    return torch.optim.Adam([p for m in modules for p in m.parameters()], lr=lr, eps=1e-5)


def _batch(head, rows=100, on_policy=False):
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((4, rows)).astype(np.float32)
    return Batch(
        observations=rng.standard_normal((rows, 4)).astype(np.float32),
        actions=head.centre + head.reach * rng.standard_normal((rows, 2)).astype(np.float32),
        log_probs=np.float32(-3.0 - np.log(head.reach).sum()) + 0.3 * numbers[0],
        advantages=numbers[1],
        returns=2 * numbers[2],
        values=numbers[3],
        on_policy=on_policy,
    )


def _tensors(batch):
    names = ("observations", "actions", "log_probs", "advantages", "returns", "values")
    return tuple(torch.from_numpy(getattr(batch, name)) for name in names)


def _agent(hyperparams=None, constant=True, lr=1e-3, **options):
    actor, critic = _networks(constant)
    return TorchGaussianPPOAgent(
        actor, critic, _adam(actor, critic, lr=lr), 2, hyperparams or {"n_epochs": 2}, seed=0, **options
    )


def _window(seed=0, **changes):
    rng = np.random.default_rng(seed + 100)
    return random_window(seed, actions=rng.standard_normal((48, 4, 2)).astype(np.float32) * 2 + 1, **changes)


def _same(first, second, **tolerance):
    one, two = first.state().arrays, second.state().arrays
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(
            one[name], two[name], err_msg=name, **(tolerance or {"rtol": 0, "atol": 0})
        )


# The update


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("head", [BOUNDED, FREE], ids=["bounded", "free"])
def test_the_loss_equals_the_formula(head, changes):
    (actor, critic), batch, params = _networks(), _batch(head), {**PARAMS, **changes}
    _, numbers, _ = ppo_loss(actor, critic, _tensors(batch), params, head=head)
    x = torch.from_numpy(batch.observations)
    with torch.no_grad():
        outputs, values = actor(x).double().tolist(), critic(x)[:, 0].double().tolist()
    bounds = (head.low, head.high) if head.low else (None, None)
    densities = [
        oracle.gaussian(row, action, *bounds)
        for row, action in zip(outputs, batch.actions.tolist(), strict=True)
    ]
    lists = (batch.log_probs, batch.advantages, batch.returns, batch.values)
    expected = oracle.loss_of(densities, values, *(a.tolist() for a in lists), params)
    found = dict(zip(STATISTICS, numbers.tolist(), strict=True))
    assert [found["loss"], found["policy_loss"], found["value_loss"], found["entropy"]] == pytest.approx(
        expected, rel=1e-5, abs=1e-5
    )
    assert 0.0 < found["clip_fraction"] < 1.0


@pytest.mark.parametrize("constant", [True, False], ids=["parameter", "function"])
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("head", [BOUNDED, FREE], ids=["bounded", "free"])
def test_gradients_by_hand_equal_those_of_torch(head, changes, constant):
    (actor, critic), batch, params = _networks(constant), _batch(head), {**PARAMS, **changes}
    loss, numbers, _ = ppo_loss(actor, critic, _tensors(batch), params, head=head)
    loss.backward()
    fast = FastPPO(actor, critic, _adam(actor, critic), head)
    fast._fetch()
    stack = np.stack([batch.log_probs, batch.advantages, batch.returns, batch.values])
    x, actions = fast._columns(batch.observations), batch.actions.T.copy()
    found, _ = fast._minds.differentiate(x, actions, stack, params)
    assert found == pytest.approx(numbers.tolist(), rel=1e-5, abs=1e-5)
    by_hand = fast._views(fast._minds.gradients)
    assert {id(p) for p, _ in by_hand} == {id(p) for m in (actor, critic) for p in m.parameters()}
    for parameter, gradient in by_hand:
        np.testing.assert_allclose(gradient, parameter.grad.numpy(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("on_policy", [True, False])
def test_a_hundred_steps_by_hand_end_where_those_of_torch_end(on_policy):
    params = {**PARAMS, "n_epochs": 10, "minibatch_size": 32}
    ends, reports = [], []
    for by_hand in (True, False):
        actor, critic = _networks()
        optimizer, batch = _adam(actor, critic, lr=3e-4), _batch(BOUNDED, 300, on_policy)
        assert why_not_fast(actor, critic, optimizer, CPU, BOUNDED) == ""
        way = (
            FastPPO(actor, critic, optimizer, BOUNDED)
            if by_hand
            else AutogradPPO(actor, critic, optimizer, CPU, BOUNDED)
        )
        if on_policy:
            old = way.log_probs(batch.observations, batch.actions)
            batch = Batch(**{**vars(batch), "log_probs": old})
        reports.append(way.update(batch, params, np.random.default_rng(0)))
        parameters = [p for m in (actor, critic) for p in m.parameters()]
        ends.append(np.concatenate([p.detach().numpy().ravel() for p in parameters]))
        moments = np.concatenate([optimizer.state[p]["exp_avg"].numpy().ravel() for p in parameters])
        ends[-1] = np.concatenate([ends[-1], moments])
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-4)
    assert reports[0] == pytest.approx(reports[1], rel=2e-3, abs=1e-4)
    assert reports[0]["updates"] == 100
    if on_policy:
        assert all(r["initial_kl"] == r["initial_ratio_error"] == 0.0 for r in reports)


def test_the_density_integrates_to_one_in_the_units_of_the_environment():
    head = Gaussian((1,), (2.0,), (10.0,))
    actor = nn.Sequential(nn.Linear(1, 2))
    way = AutogradPPO(actor, nn.Linear(1, 1), _adam(actor), CPU, head)
    grid = np.linspace(-60.0, 80.0, 20_001, dtype=np.float32)[:, None]
    density = np.exp(way.log_probs(np.ones((len(grid), 1), np.float32), grid).astype(np.float64))
    assert np.trapezoid(density, grid[:, 0]) == pytest.approx(1.0, abs=1e-4)


# Acting


def _pinned(mean, log_std):
    """An actor that always says this."""
    actor = nn.Sequential(nn.Linear(4, 2), AppendConstant(torch.tensor(log_std)))
    with torch.no_grad():
        actor[0].weight.zero_()
        actor[0].bias.copy_(torch.tensor(mean))
    return actor


def test_samples_follow_the_distribution_in_the_units_of_asymmetric_bounds():
    actor = _pinned([-1.0, 0.5], [-1.0, 0.3])
    critic = nn.Linear(4, 1)
    agent = TorchGaussianPPOAgent(actor, critic, _adam(actor, critic), 2, seed=0, spaces=REACHING)
    acted = agent.act_batch(np.zeros((20_000, 4), np.float32))
    for number, (mean, std) in enumerate([(-1.0, 2 * math.exp(-1.0)), (7.5, 5 * math.exp(0.3))]):
        assert stats.kstest(acted.actions[:, number], stats.norm(mean, std).cdf).pvalue > 0.001
    expected = [oracle.gaussian([-1.0, 0.5, -1.0, 0.3], a, LOW, HIGH)[0] for a in acted.actions[:50].tolist()]
    np.testing.assert_allclose(acted.log_probs[:50], expected, atol=1e-5, rtol=1e-5)
    assert acted.actions.dtype == acted.log_probs.dtype == np.float32
    assert acted.actions[:, 0].min() < -1.0, "a sample is not clipped: its density counts"


def test_a_deterministic_choice_is_the_mean_inside_the_bounds():
    critic = nn.Linear(4, 1)
    for mean, expected in (([0.5, -0.2], [2.0, 4.0]), ([7.0, -7.0], [3.0, 0.0])):
        actor = _pinned(mean, [0.0, 0.0])
        agent = TorchGaussianPPOAgent(actor, critic, _adam(actor, critic), 2, seed=0, spaces=REACHING)
        acted = agent.act_batch(np.zeros((3, 4), np.float32), deterministic=True)
        np.testing.assert_allclose(acted.actions, [expected] * 3, atol=1e-6)
        assert acted.log_probs is None
        with agent.evaluation_mode():
            np.testing.assert_allclose(agent.act(np.zeros(4, np.float32)), expected, atol=1e-6)


@pytest.mark.parametrize("constant", [True, False], ids=["parameter", "function"])
def test_numpy_acts_like_torch(constant):
    agent = _agent(constant=constant, spaces=REACHING, obs_normalizer=ObsNormalizer((4,)))
    agent.learn(_window())
    assert is_portable(agent.state())
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32) * 3
    scaled = torch.from_numpy(agent._obs_normalizer.normalize(x))
    with torch.no_grad():
        outputs = agent._actor(scaled).numpy()
    policy = load_policy(agent.state(), np.random.default_rng(0))
    mean = np.clip(BOUNDED.centre + BOUNDED.reach * outputs[:, :2], LOW, HIGH)
    np.testing.assert_allclose(policy.act_batch(x, deterministic=True).actions, mean, atol=1e-5, rtol=1e-5)
    acted = policy.act_batch(x)
    way = agent._way_to_update()
    expected = way.log_probs(scaled.numpy(), acted.actions)
    np.testing.assert_allclose(acted.log_probs, expected, atol=1e-5, rtol=1e-5)


class _Twisted(nn.Module):
    """No network that NumPy can run."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(x) + torch.cos(x)


def test_networks_that_numpy_cannot_run_act_and_learn_too():
    actor, critic = _Twisted(), _networks()[1]
    agent = TorchGaussianPPOAgent(
        actor, critic, _adam(actor, critic), 2, {"n_epochs": 2}, seed=0, spaces=REACHING
    )
    assert not is_portable(agent.state())
    window = _window(metadata={"policy_version": 0})
    assert agent.learn(window)["initial_ratio_error"] == 0.0
    assert agent.act(np.zeros(4, np.float32)).shape == (2,)


# What the pipeline does with it


class _Recorder(gym.Env):
    """Notes what it is sent."""

    observation_space = gym.spaces.Box(-1, 1, (4,))
    action_space = gym.spaces.Box(np.float32(LOW), np.float32(HIGH))

    def __init__(self):
        self.seen = []

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action):
        self.seen.append(np.array(action))
        return self.np_random.random(4).astype(np.float32), 1.0, False, False, {}


def test_the_environment_sees_clipped_actions_and_the_window_keeps_those_whose_density_counts():
    env = _Recorder()
    agent = make_agent(env, algorithm="gaussian_ppo", seed=0)
    with torch.no_grad():
        agent._actor[-1].value.fill_(1.0)
    window = BatchPipeline(env, agent, window_size=64, seed=0).collect()
    sent = np.array(env.seen)
    assert (sent >= LOW).all()
    assert (sent <= HIGH).all()
    np.testing.assert_array_equal(np.clip(window.actions, LOW, HIGH).astype(np.float32), sent)
    assert window.metadata["clipped_actions"] > 10
    way = agent._way_to_update()
    scaled = agent._obs_normalizer.normalize(window.observations)
    np.testing.assert_allclose(window.log_probs, way.log_probs(scaled, window.actions), atol=1e-5, rtol=1e-5)
    # As from an older policy, so that what was recorded counts, and as from this one.
    for version, error in ((-1, 1e-4), (0, 0.0)):
        twin = make_agent(env, algorithm="gaussian_ppo", seed=0)
        twin.load_state(agent.state())
        window.metadata |= {"policy_version": version, "learner_version": 0}
        assert twin.learn(window)["initial_ratio_error"] <= error


def test_several_environments_and_actions_of_more_than_one_axis():
    class Matrix(_Recorder):
        action_space = gym.spaces.Box(-2, 2, (2, 3))

    agent = make_agent(Matrix(), algorithm="ppo", seed=0)
    pipeline = VectorBatchPipeline([Matrix] * 3, agent, window_size=16, seed=0)
    window = pipeline.collect()
    assert window.actions.shape == (16, 3, 2, 3)
    assert agent.learn(window)["samples"] == 48
    assert agent.act(np.zeros(4, np.float32)).shape == (2, 3)


# Building it


def test_ppo_on_continuous_actions_is_the_gaussian_one_with_normalisation():
    env = gym.make("Pendulum-v1")
    agent = make_agent(env, algorithm="ppo", seed=0, hyperparams={"gamma": 0.9})
    assert isinstance(agent, TorchGaussianPPOAgent)
    assert agent.state().metadata["algorithm"] == "gaussian_ppo"
    assert agent._reward_normalizer.gamma == 0.9
    assert agent._obs_normalizer.shape == (3,)
    assert agent._way_to_update().__class__ is FastPPO
    acted = agent.act_batch(np.zeros((2000, 3), np.float32)).actions
    assert acted.std() == pytest.approx(1.0, rel=0.1), "half of the reach of 2"


def test_the_published_constructor_works_by_keyword_and_acts_in_the_units_of_the_actor():
    actor, critic = _networks(constant=False)
    agent = TorchGaussianPPOAgent(
        actor=actor, critic=critic, optimizer=_adam(actor, critic, lr=7e-4), action_dim=2,
        hyperparams=HyperparamSet(params={"clip_ratio": 0.1}, episode_id=0), device="cpu",
        reward_normalizer=RewardNormalizer(),
    )  # fmt: skip
    params = agent.get_hyperparams().params
    assert (params["clip_ratio"], params["learning_rate"]) == (0.1, 7e-4)
    x = np.ones((1, 4), np.float32)
    with torch.no_grad():
        mean = actor(torch.from_numpy(x))[:, :2].numpy()
    np.testing.assert_allclose(agent.act_batch(x, deterministic=True).actions, mean, atol=1e-6)
    assert not hasattr(agent, "action_probs")


def test_an_actor_without_standard_deviations_is_refused_with_the_cure():
    actor, critic = nn.Sequential(nn.Linear(4, 2)), nn.Linear(4, 1)
    with pytest.raises(Unsuitable, match=r"gives 2 numbers, expected 4: \[mean \| log_std\].*AppendConstant"):
        TorchGaussianPPOAgent(actor, critic, _adam(actor, critic), 2)
    with pytest.raises(Unsuitable, match=r"action_dim is 3, but actions of reaching are box of shape \[2\]"):
        TorchGaussianPPOAgent(actor, critic, _adam(actor, critic), 3, spaces=REACHING)


def test_actions_of_another_size_and_those_that_are_no_numbers_are_refused():
    with pytest.raises(Unsuitable, match="actions of 3 numbers in the window, expected 2"):
        _agent().learn(random_window(0, actions=np.zeros((48, 4, 3))))
    with pytest.raises(Unsuitable, match="384 of 384 numbers in the window's actions that are not finite"):
        _agent().learn(random_window(0, actions=np.full((48, 4, 2), np.nan)))


@pytest.mark.parametrize(
    ("space", "low"),
    [
        (gym.spaces.Box(-np.inf, np.inf, (2,)), ()),
        (gym.spaces.Box(np.float32([0, -np.inf]), np.float32([1, 5])), ()),
        (gym.spaces.Box(-3.4e38, 3.4e38, (2,)), ()),
        (gym.spaces.Box(-2.0, 1.0, (2,)), (-2.0, -2.0)),
    ],
)
def test_only_whole_bounds_give_the_outputs_their_units(space, low):
    env = gym.Env()
    env.observation_space, env.action_space = gym.spaces.Box(-1, 1, (4,)), space
    agent = make_agent(env, algorithm="gaussian_ppo", seed=0)
    assert agent._actions().low == low
    assert np.isfinite(agent.act_batch(np.zeros((100, 4), np.float32)).actions).all()


def test_spaces_without_a_head_are_refused():
    with pytest.raises(Unsuitable, match="expected low < high"):
        head_for(ArraySpec("box", (1,), "float32", low=(1.0,), high=(1.0,)))
    with pytest.raises(Unsuitable, match="actions of box int64"):
        head_for(ArraySpec("box", (1,), "int64", low=(0.0,), high=(1.0,)))


# State


def test_a_restored_agent_goes_on_to_the_bit():
    first, second = (
        _agent(spaces=REACHING, obs_normalizer=ObsNormalizer((4,)), reward_normalizer=RewardNormalizer())
        for _ in range(2)
    )
    for number in range(2):
        first.learn(_window(number))
    state = first.state()
    assert "actor.3.value" in state.arrays
    second.load_state(NamedArrays(state.arrays, json.loads(json.dumps(dict(state.metadata)))))
    answers = []
    for agent in (first, second):
        agent.reseed(np.random.default_rng(3))
        answers.append(agent.act_batch(np.ones((9, 4), np.float32)))
        agent.learn(_window(5))
    _same(first, second)
    assert answers[0].actions.tobytes() == answers[1].actions.tobytes()
    assert answers[0].log_probs.tobytes() == answers[1].log_probs.tobytes()


def test_by_hand_and_by_torch_the_agent_learns_the_same():
    agents = [
        _agent(fast=fast, spaces=REACHING, reward_normalizer=RewardNormalizer()) for fast in (True, False)
    ]
    for number in range(4):
        reports = [agent.learn(_window(number)) for agent in agents]
        assert reports[0] == pytest.approx(reports[1], rel=1e-3, abs=1e-4)
    _same(*agents, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("fast", [True, False])
def test_a_failure_leaves_the_agent_as_it_was(fast):
    agent, twin = (_agent(fast=fast, reward_normalizer=RewardNormalizer()) for _ in range(2))
    for each in (agent, twin):
        each.learn(_window(0))
        each.set_hyperparams({"learning_rate": 1e30})
    with pytest.raises(LearningFailure, match=r"window 9: .* not finite"):
        agent.learn(_window(9))
    _same(agent, twin)


def test_a_window_of_lists_is_learnt_from():
    agent = _agent()
    rows = list(np.random.default_rng(0).standard_normal((30, 4)))
    acted = [agent.act(row) for row in rows]
    window = EpisodeData(rows, acted, [1.0] * 30, [False] * 29 + [True], [False] * 30, [{}] * 30, 0)
    assert agent.learn(window)["samples"] == 30
