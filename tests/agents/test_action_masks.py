"""Actions that an environment forbids are never chosen, and learning knows of it."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from optix_bus.agents import load_policy, make_agent
from optix_bus.agents.batch import STATISTICS
from optix_bus.agents.torch.fast_ppo import FastPPO
from optix_bus.agents.torch.ppo import TorchPPOAgent
from optix_bus.agents.torch.ppo_update import AutogradPPO, ppo_loss
from optix_bus.errors import EnvironmentFailure, Unsuitable
from optix_bus.pipelines import BatchPipeline, VectorBatchPipeline
from optix_bus.types import ArraySpec, SpaceSpec
from optix_bus.windows import pack, unpack
from tests.agents.windows import VECTOR, random_window
from tests.oracles import ppo as oracle

PAIRS = SpaceSpec(
    "pairs", ArraySpec("box", (4,), "float32"), ArraySpec("multi_discrete", (2,), "int64", nvec=(3, 2))
)


class Doors(gym.Env):
    """Shows which of its doors are open, in numbers, and says so in its info; a shut one ends all."""

    observation_space = gym.spaces.Box(0, 1, (4,))
    action_space = gym.spaces.Discrete(4)
    says = staticmethod(lambda mask: {"action_mask": mask.astype(np.int8)})

    def _look(self):
        self.open = self.np_random.random(4) < 0.5
        self.open[self.np_random.integers(4)] = True
        return self.open.astype(np.float32), self.says(self.open)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._look()

    def step(self, action):
        assert self.open[action], "a shut door"
        self.steps += 1
        reward = float(action)
        return (self._look()[0], reward, self.steps == 5, False, self.says(self.open))


def _agent(hyperparams=None, **options):
    return make_agent(Doors(), seed=0, hyperparams=hyperparams or {"n_epochs": 2}, **options)


# What pipelines keep


def _vector(mode):
    return lambda: gym.vector.SyncVectorEnv([Doors] * 3, autoreset_mode=mode)


MODES = [
    gym.vector.AutoresetMode.NEXT_STEP,
    gym.vector.AutoresetMode.SAME_STEP,
    gym.vector.AutoresetMode.DISABLED,
]


@pytest.mark.parametrize("mode", [None, *MODES], ids=str)
def test_the_mask_in_the_window_is_that_of_its_observation_across_ends_and_windows(mode):
    agent = _agent()
    pipeline = (
        VectorBatchPipeline([Doors] * 3, agent, window_size=17, seed=0)
        if mode is None
        else VectorBatchPipeline(envs=_vector(mode)(), agent=agent, window_size=17, seed=0)
    )
    for _ in range(3):
        window = pipeline.collect()
        assert window.action_masks.shape == (17, 3, 4)
        np.testing.assert_array_equal(window.action_masks, window.observations > 0.5)
        rows = slice(None) if window.valid is None else window.valid
        chosen = np.take_along_axis(window.action_masks, window.actions[..., None], -1)[..., 0]
        assert chosen[rows].all()
        assert window.terminated.any()


def test_one_environment_has_masks_without_the_axis_of_environments():
    window = BatchPipeline(Doors(), _agent(), window_size=12, seed=0).collect()
    assert window.action_masks.shape == (12, 4)
    moved = unpack(pack(window), 0.0)
    np.testing.assert_array_equal(moved.action_masks, window.action_masks)


def test_an_evaluation_never_chooses_a_shut_door():
    data = VectorBatchPipeline([Doors] * 4, _agent(), seed=0).evaluate(10)
    assert data.length == 50
    chosen = data.observations[np.arange(50), data.actions]
    assert (chosen == 1.0).all()


def test_silence_allows_everything_and_only_until_the_next_mask():
    class Sometimes(Doors):
        def reset(self, seed=None, options=None):
            gym.Env.reset(self, seed=seed)
            self.steps, self.open = 0, np.ones(4, bool)
            return np.ones(4, np.float32), {}

        def step(self, action):
            assert self.open[action]
            self.steps += 1
            self.open = np.arange(4) != self.steps % 6
            info = {"action_mask": self.open} if self.steps % 6 < 4 else {}
            return self.open.astype(np.float32), 0.0, self.steps == 9, False, info

    window = BatchPipeline(Sometimes(), _agent(), window_size=60, seed=1).collect()
    np.testing.assert_array_equal(window.action_masks, window.observations > 0.5)
    assert {3, 4} == set(window.action_masks.sum(axis=1).tolist())


def test_environments_that_say_nothing_have_windows_without_masks():
    window = BatchPipeline(
        gym.make("CartPole-v1"), make_agent(gym.make("CartPole-v1")), window_size=8
    ).collect()
    assert window.action_masks is None
    assert "action_masks" not in pack(window).arrays


@pytest.mark.parametrize(
    ("mask", "message"),
    [(np.zeros(4), "allows no action"), (np.ones(3), "has 3 entries, expected 4")],
)
def test_a_mask_that_cannot_be_is_the_environments_failure(mask, message):
    class Wrong(Doors):
        says = staticmethod(lambda _: {"action_mask": mask})

    with pytest.raises(EnvironmentFailure, match=message):
        BatchPipeline(Wrong, _agent(), window_size=8, seed=0).collect()


def test_an_agent_that_knows_nothing_of_masks_acts_as_before():
    class Free(Doors):
        def step(self, action):
            self.open[:] = True
            return super().step(action)

    class First:
        def act(self, observation):
            return 3

    class Told:
        def act(self, observation, action_mask=None):
            return int(np.flatnonzero(action_mask)[0])

    assert set(BatchPipeline(Free(), First(), window_size=8, seed=0).collect().actions) == {3}
    window = BatchPipeline(Doors(), Told(), window_size=20, seed=0).collect()
    np.testing.assert_array_equal(window.actions, window.action_masks.argmax(axis=1))


def test_a_taken_up_pipeline_has_the_masks_of_its_open_episodes():
    windows = []
    for again in (False, True):
        agent = _agent()
        pipeline = VectorBatchPipeline([Doors] * 2, agent, window_size=7, seed=3)
        pipeline.collect(0, np.random.default_rng(0))
        if again:
            progress = pipeline.progress()
            pipeline = VectorBatchPipeline([Doors] * 2, agent, window_size=7, seed=3)
            assert pipeline.rebuild(progress) == []
        windows.append(pipeline.collect(1, np.random.default_rng(1)))
    np.testing.assert_array_equal(windows[0].action_masks, windows[1].action_masks)
    np.testing.assert_array_equal(windows[0].actions, windows[1].actions)


# Acting


def _masks(rows, entries, seed=0):
    rng = np.random.default_rng(seed)
    masks = rng.random((rows, entries)) < 0.5
    masks[np.arange(rows), rng.integers(0, entries, rows)] = True
    return masks


@pytest.mark.parametrize("portable", [True, False])
def test_the_allowed_actions_share_all_probability(portable):
    agent = make_agent(VECTOR, seed=0)
    with torch.no_grad():
        agent._actor[-1].weight.mul_(100.0)
    policy = load_policy(agent.state(), np.random.default_rng(0)) if portable else agent
    agent.reseed(np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((5000, 4)).astype(np.float32)
    masks = _masks(5000, 3)
    with torch.no_grad():
        logits = agent._actor(torch.from_numpy(x)).masked_fill(~torch.from_numpy(masks), -torch.inf)
    expected = torch.log_softmax(logits, -1).numpy()
    acted = policy.act_batch(x, action_masks=masks)
    assert masks[np.arange(5000), acted.actions].all()
    np.testing.assert_allclose(
        acted.log_probs, expected[np.arange(5000), acted.actions], atol=1e-5, rtol=1e-5
    )
    best = policy.act_batch(x, deterministic=True, action_masks=masks).actions
    np.testing.assert_array_equal(best, expected.argmax(1))
    assert np.bincount(acted.actions, minlength=3).min() > 500


def test_rounding_never_leads_to_a_forbidden_last_action():
    class Ones(np.random.Generator):
        def random(self, dtype=None, out=None):
            out[:] = np.nextafter(np.float32(1), np.float32(0))

    module = nn.Sequential(nn.Linear(1, 4))
    critic = nn.Linear(1, 1)
    agent = TorchPPOAgent(module, critic, torch.optim.Adam([*module.parameters(), *critic.parameters()]))
    agent.reseed(Ones(np.random.PCG64(0)))
    mask = np.array([[True, True, False, False]] * 64)
    x = np.random.default_rng(0).standard_normal((64, 1)).astype(np.float32)
    assert set(agent.act_batch(x, action_masks=mask).actions.tolist()) == {1}


def test_one_observation_may_come_with_its_mask():
    agent = _agent()
    for allowed in range(4):
        mask = np.arange(4) == allowed
        assert agent.act(np.zeros(4, np.float32), action_mask=mask) == allowed


def test_masks_of_another_size_and_those_that_allow_nothing_are_refused():
    agent, x = _agent(), np.zeros((2, 4), np.float32)
    with pytest.raises(Unsuitable, match=r"masks of shape \[2, 3\], expected \[2, 4\]"):
        agent.act_batch(x, action_masks=np.ones((2, 3), bool))
    with pytest.raises(Unsuitable, match="allows nothing, in row 1"):
        agent.act_batch(x, action_masks=np.array([[1, 0, 0, 0], [0, 0, 0, 0]]))


# Learning


def masked_window(seed=0, spaces=VECTOR, entries=3, **changes):
    masks = _masks(48 * 4, entries, seed)
    draws = np.random.default_rng(seed).random(masks.shape) * masks
    if entries == 3:
        actions = draws.argmax(1).reshape(48, 4)
    else:
        masks[:, 0] = masks[:, 3] = True
        draws = np.random.default_rng(seed).random(masks.shape) * masks
        actions = np.stack([draws[:, :3].argmax(1), draws[:, 3:].argmax(1)], -1).reshape(48, 4, 2)
    return random_window(seed, actions=actions, action_masks=masks.reshape(48, 4, entries), **changes)


def _batch(agent, window, metadata):
    from optix_bus.agents.experience import read_experience
    from optix_bus.agents.ppo_batch import make_batch

    window.metadata = metadata
    return make_batch(
        read_experience(window), agent._way_to_update(), agent._hyperparams.params, policy_version=0,
        head=agent._actions(),
    )  # fmt: skip


@pytest.mark.parametrize("spaces", [VECTOR, PAIRS], ids=lambda s: s.environment)
def test_loss_and_gradients_are_those_of_the_allowed_actions_alone(spaces):
    agent = make_agent(spaces, seed=0)
    with torch.no_grad():
        agent._actor[-1].weight.mul_(50.0)
    entries = agent._actions().outputs
    batch = _batch(
        agent, masked_window(0, spaces, entries, log_probs=np.full((48, 4), -0.8)), {"policy_version": -1}
    )
    params, actor, critic = agent._hyperparams.params, agent._actor, agent._critic
    names = ("observations", "actions", "log_probs", "advantages", "returns", "values", "masks")
    part = tuple(torch.from_numpy(getattr(batch, name)) for name in names)
    loss, numbers, _ = ppo_loss(actor, critic, part, params, head=agent._actions())
    loss.backward()
    with torch.no_grad():
        logits = actor(part[0]).double().numpy()
        values = critic(part[0])[:, 0].double().tolist()
    densities = []
    for row, action, mask in zip(logits, batch.actions.reshape(len(logits), -1), batch.masks, strict=True):
        found = [0.0, 0.0]
        for k, (low, high) in enumerate([(0, 3), (3, 5)][: len(action)]):
            allowed = np.flatnonzero(mask[low:high])
            place = allowed.tolist().index(action[k])
            for i, number in enumerate(oracle.categorical(row[low:high][allowed].tolist(), place)):
                found[i] += number
        densities.append(found)
    lists = (batch.log_probs, batch.advantages, batch.returns, batch.values)
    expected = oracle.loss_of(densities, values, *(a.tolist() for a in lists), params)
    found = dict(zip(STATISTICS, numbers.tolist(), strict=True))
    assert [found["loss"], found["policy_loss"], found["value_loss"], found["entropy"]] == pytest.approx(
        expected, rel=1e-5, abs=1e-5
    )
    fast = agent._way_to_update()
    assert isinstance(fast, FastPPO)
    fast._fetch()
    stack = np.stack([batch.log_probs, batch.advantages, batch.returns, batch.values])
    x, actions = fast._columns(batch.observations), batch.actions.T.copy()
    by_hand, _ = fast._minds.differentiate(x, actions, stack, params, masks=batch.masks.T.copy())
    assert by_hand == pytest.approx(numbers.tolist(), rel=1e-5, abs=1e-5)
    for parameter, gradient in fast._views(fast._minds.gradients):
        np.testing.assert_allclose(gradient, parameter.grad.numpy(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("spaces", [VECTOR, PAIRS], ids=lambda s: s.environment)
def test_the_first_ratio_is_one_and_what_was_recorded_agrees(spaces, fast):
    agents = [make_agent(spaces, seed=0, hyperparams={"n_epochs": 2}) for _ in range(2)]
    window = masked_window(0, spaces, agents[0]._actions().outputs)
    shape = window.action_masks.shape
    acted = agents[0].act_batch(
        window.observations.reshape(-1, 4), action_masks=window.action_masks.reshape(-1, shape[-1])
    )
    window.actions = acted.actions.reshape(48, 4, *agents[0]._actions().description().get("shape", ()))
    window.log_probs = acted.log_probs.reshape(48, 4)
    for agent, version, error in zip(agents, (0, -1), (0.0, 1e-5), strict=True):
        agent._fast = fast
        window.metadata = {"policy_version": version, "learner_version": 0}
        report = agent.learn(window)
        assert report["initial_ratio_error"] <= error
        assert abs(report["initial_kl"]) <= error
        entropy = report["entropy"]
        assert 0.0 < entropy < np.log(agent._actions().outputs), "over the allowed ones alone"


def test_by_hand_and_by_torch_a_masked_agent_learns_the_same():
    agents = [make_agent(VECTOR, seed=0, hyperparams={"n_epochs": 2}) for _ in range(2)]
    agents[1]._fast = False
    assert isinstance(agents[1]._way_to_update(), AutogradPPO)
    for number in range(3):
        reports = [agent.learn(masked_window(number)) for agent in agents]
        assert reports[0] == pytest.approx(reports[1], rel=1e-3, abs=1e-4)
    one, two = (agent.state().arrays for agent in agents)
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=1e-4, rtol=1e-3, err_msg=name)


def test_masks_that_do_not_fit_the_window_are_refused():
    agent = make_agent(VECTOR, seed=0)
    window = masked_window()
    window.action_masks = np.zeros((48, 4, 3), bool)
    with pytest.raises(Unsuitable, match=r"of \d+ actions in the window that their own action mask forbids"):
        agent.learn(window)
    window.action_masks = np.ones((48, 4, 7), bool)
    with pytest.raises(Unsuitable, match="masks of 7 entries in the window, which do not fit"):
        agent.learn(window)


def test_doors_are_learnt_through_the_pipeline():
    agent = make_agent(Doors(), seed=0, hyperparams={"learning_rate": 3e-3, "entropy_coef": 0.0})
    pipeline = VectorBatchPipeline([Doors] * 4, agent, window_size=128, seed=0)
    for number in range(8):
        window = pipeline.collect(number, np.random.default_rng(number))
        agent.learn(window)
    data = pipeline.evaluate(20)
    best = np.where(data.observations > 0.5, np.arange(4), -1).max(axis=1)
    assert (data.actions == best).mean() > 0.95
