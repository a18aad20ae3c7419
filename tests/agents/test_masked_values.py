"""Action values where some actions are forbidden: acting, what a replay keeps, and the next best action."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy import stats

from optix_bus.agents import load_policy, make_agent
from optix_bus.agents.acting.epsilon_greedy import EpsilonGreedyPolicy
from optix_bus.agents.experience import read_experience
from optix_bus.agents.torch.dqn_update import DQNUpdate
from optix_bus.agents.torch.fast_dqn import FastDQN
from optix_bus.agents.torch.noisy import noisy_layers
from optix_bus.agents.torch.rainbow_update import RainbowUpdate
from optix_bus.errors import ConfigurationError, Unsuitable
from optix_bus.pipelines import BatchPipeline, VectorBatchPipeline
from optix_bus.rl.c51 import atoms
from optix_bus.rl.replay import ReplayBuffer
from optix_bus.types import NamedArrays
from optix_bus.windows import pack, unpack
from tests.agents.test_action_masks import MODES, Doors, masked_window
from tests.agents.test_torch_dqn import _batch, _layers, _network, _rows
from tests.agents.test_torch_rainbow import _network as rainbow_network
from tests.agents.windows import VECTOR, random_window
from tests.oracles import c51 as c51_oracle
from tests.oracles import dqn as oracle

QUICK = {"learning_starts": 0, "train_freq": 4, "gradient_steps": 1, "batch_size": 16}
KINDS = [("torch", "dqn"), ("torch", "rainbow"), ("tf", "dqn")]


def _masks(rows, seed=0, n=3):
    rng = np.random.default_rng(seed)
    masks = rng.random((rows, n)) < 0.4
    masks[np.arange(rows), rng.integers(0, n, rows)] = True
    return masks


def _masked_batch(rows=40):
    return dataclasses.replace(_batch(rows=rows), next_masks=_masks(rows))


# The update


def _outcome(kind, batch, double):
    network, target = _network(0), _network(1)
    params = {"double": double, "max_grad_norm": 1e9}
    if kind == "tensorflow":
        keras = pytest.importorskip("keras")
        from optix_bus.agents.tensorflow.dqn_update import GraphDQN
        from optix_bus.agents.tensorflow.networks import build_relu_mlp, held

        sizes = [layer.out_features for layer in network if isinstance(layer, torch.nn.Linear)][:-1]
        models = [build_relu_mlp(4, sizes, 3, rng=np.random.default_rng(0)) for _ in range(2)]
        for model, module in zip(models, (network, target), strict=True):
            weights = {f"x.{name}": value.numpy() for name, value in module.state_dict().items()}
            for each in held(model, "x"):
                each.assign(weights[each.name])
        optimizer = keras.optimizers.SGD(0.0)
        optimizer.build(models[0].trainable_variables)
        return GraphDQN(*models, optimizer).update(batch, 1, params)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    if kind == "by hand":
        way = FastDQN(network, target, optimizer)
        way.remember()
    else:
        way = DQNUpdate(network, target, optimizer, torch.device("cpu"))
    return way.update(batch, 1, params)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("kind", ["differentiated", "by hand", "tensorflow"])
def test_the_best_next_action_is_one_of_those_that_are_allowed(kind, double):
    batch = _masked_batch()
    rows = [(*row, mask) for row, mask in zip(_rows(batch), batch.next_masks, strict=True)]
    layers = _layers(_network(0)), _layers(_network(1))
    loss, gradient, errors = oracle.loss(*layers, rows, double)
    assert loss != oracle.loss(*layers, _rows(batch), double)[0], "masks that change nothing prove nothing"
    outcome = _outcome(kind, batch, double)
    np.testing.assert_allclose(outcome.loss, [loss], rtol=1e-5)
    np.testing.assert_allclose(outcome.errors, errors, rtol=1e-5, atol=1e-5)
    norm = np.linalg.norm(np.concatenate([part.ravel() for pair in gradient for part in pair]))
    np.testing.assert_allclose(outcome.grad_norm, [norm], rtol=1e-5)


def test_rainbow_takes_the_distribution_of_the_best_allowed_action():
    network, target, batch = rainbow_network(0), rainbow_network(1), _masked_batch(12)
    with torch.no_grad():
        for layer in (*noisy_layers(network), *noisy_layers(target)):
            layer.weight_sigma.zero_()
            layer.bias_sigma.zero_()
        observations, following = (torch.from_numpy(a) for a in (batch.observations, batch.next_observations))
        support = atoms(-2.0, 2.0, 11)
        q = (torch.softmax(network(following).double(), 2) @ torch.from_numpy(support)).numpy()
        ahead = torch.softmax(target(following).double(), 2).numpy()
        taken = network(observations).double().numpy()[np.arange(12), batch.actions]
    chosen = [max(np.flatnonzero(m), key=lambda a: v[a]) for v, m in zip(q, batch.next_masks, strict=True)]
    assert chosen != q.argmax(1).tolist()
    losses = [
        c51_oracle.loss(c51_oracle.project(p[a].tolist(), float(r), float(d), -2.0, 2.0), row.tolist())
        for p, a, r, d, row in zip(ahead, chosen, batch.rewards, batch.discounts, taken, strict=True)
    ]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    way = RainbowUpdate(network, target, optimizer, torch.device("cpu"), 3, torch.Generator().manual_seed(0))
    outcome = way.update(batch, 1, {"v_min": -2.0, "v_max": 2.0, "n_atoms": 11, "max_grad_norm": 10.0})
    np.testing.assert_allclose(outcome.loss, [np.mean(batch.weights * losses)], rtol=1e-5)


# Acting


def test_exploring_draws_each_allowed_action_alike_and_no_other():
    values = np.tile(np.array([9.0, 5.0, 1.0, 7.0], np.float32), (40_000, 1))
    policy = EpsilonGreedyPolicy(
        lambda x: (values.copy(), len(values)), 0.6, 0.6, 1.0, np.random.default_rng(0)
    )
    masks = np.tile([False, True, True, True], (40_000, 1))
    counts = np.bincount(policy.act_batch(values, action_masks=masks).actions, minlength=4)
    assert counts[0] == 0
    expected = np.array([0.2, 0.2, 0.6]) * 40_000  # 7 is the best that is allowed
    assert stats.chisquare(counts[1:], expected).pvalue > 0.001
    best = policy.act_batch(values, deterministic=True, action_masks=masks).actions
    assert set(best.tolist()) == {3}


@pytest.mark.parametrize(("framework", "algorithm"), KINDS)
def test_an_agent_with_action_values_chooses_what_is_allowed_and_so_does_its_policy(framework, algorithm):
    agent = make_agent(VECTOR, framework, algorithm, hidden_sizes=(8,), hyperparams=QUICK, seed=0)
    x, masks = np.random.default_rng(1).standard_normal((300, 4)).astype(np.float32), _masks(300)
    for policy in (agent, load_policy(agent.state(), np.random.default_rng(0))):
        for deterministic in (False, True):
            acted = policy.act_batch(x, deterministic=deterministic, action_masks=masks)
            assert masks[np.arange(300), acted.actions].all()
    assert agent.act(x[0], action_mask=[False, True, False]) == 1
    with pytest.raises(Unsuitable, match="allows nothing, in row 0"):
        agent.act(x[0], action_mask=[False, False, False])


def test_what_has_no_choices_cannot_be_masked():
    box = make_agent(gym.make("Pendulum-v1"), algorithm="a2c", hidden_sizes=(8,), seed=0)
    with pytest.raises(
        Unsuitable, match="masks for a policy with head gaussian, expected one of categorical"
    ):
        box.act(np.zeros(3, np.float32), action_mask=[True])


# What windows and replay keep


@pytest.mark.parametrize("mode", [None, *MODES], ids=str)
def test_the_window_says_what_was_allowed_where_each_step_led_before_any_reset(mode):
    class Cut(Doors):
        def step(self, action):
            observation, reward, ended, _, info = super().step(action)
            return observation, reward, False, ended, info

    options = {"window_size": 17, "seed": 0}
    agent = make_agent(Cut(), seed=0)
    if mode is None:
        pipeline = VectorBatchPipeline([Cut] * 3, agent, **options)
    else:
        pipeline = VectorBatchPipeline(
            envs=gym.vector.SyncVectorEnv([Cut] * 3, autoreset_mode=mode), agent=agent, **options
        )
    for _ in range(3):
        window = pipeline.collect()
        rows = slice(None) if window.valid is None else window.valid
        allowed = window.final_action_masks
        np.testing.assert_array_equal(allowed[rows], window.final_observations[rows] > 0.5)
        np.testing.assert_array_equal(unpack(pack(window), 0.0).final_action_masks, allowed)
        experience = read_experience(window)
        np.testing.assert_array_equal(experience.next_masks[rows], allowed[rows])
        assert window.truncated.any()


def test_a_window_of_a_pipeline_of_ones_own_needs_no_masks_of_what_followed():
    window = masked_window(0)
    experience = read_experience(window)
    follows = ~(window.terminated | window.truncated)[:-1]
    np.testing.assert_array_equal(experience.next_masks[:-1][follows], window.action_masks[1:][follows])
    assert experience.next_masks[:-1][~follows].all()
    assert experience.next_masks[-1].all()
    window.final_action_masks = np.ones((48, 4, 2), bool)
    with pytest.raises(
        ConfigurationError, match=r"final_action_masks have shape \(48, 4, 2\), expected that"
    ):
        read_experience(window)


def _bits(observations):
    """The mask that belongs to an observation."""
    return (np.asarray(observations)[..., 0].astype(int)[..., None] >> np.arange(3)) % 2 == 1


def _counted(first, steps=30, width=2, ends=0.2, masks=True, seed=0):
    """Observations that count up, an environment each; what is allowed is written in their bits."""
    rng = np.random.default_rng(seed)
    observations = (first + np.arange(steps)[:, None] + np.array([0, 1000])[None, :width])[..., None] * 1.0
    following = observations + 1
    terminated = rng.random((steps, width)) < ends
    after = np.arange(steps * width)[-width:]
    return SimpleNamespace(
        observations=observations, actions=np.zeros((steps, width), int), rewards=np.ones((steps, width)),
        terminated=terminated, truncated=np.zeros_like(terminated), valid=np.ones_like(terminated),
        after_rows=after, after=following[-1], next_masks=_bits(following) if masks else None,
    )  # fmt: skip


@pytest.mark.parametrize("n_step", [1, 3])
def test_a_transition_carries_the_mask_of_where_it_ends_over_steps_windows_and_changes_of_size(n_step):
    replay = ReplayBuffer(200, ((1,), np.float32), ((), np.int64), n_step, 0.9, mask_entries=3)
    replay.add(_counted(0))
    replay.add(_counted(30, seed=1))
    restored = ReplayBuffer(200, ((1,), np.float32), ((), np.int64), n_step, 0.9, mask_entries=3)
    restored.load_state(replay.state())
    for each in (replay, restored, replay.resized(50), replay.resized(200, n_step=2)):
        each.add(_counted(60, seed=2))
        found = each.sample(2000, np.random.default_rng(0))
        lives = ~found.terminated
        assert lives.any()
        np.testing.assert_array_equal(found.next_masks[lives], _bits(found.next_observations[lives]))


@pytest.mark.parametrize("n_step", [1, 3])
def test_what_was_stored_before_the_first_mask_allowed_everything(n_step):
    plain = ReplayBuffer(200, ((1,), np.float32), ((), np.int64), n_step, 0.9)
    plain.add(_counted(0, masks=False))
    with pytest.raises(ConfigurationError, match="masks of 3 entries for a replay that keeps 0"):
        plain.add(_counted(30))
    masked = plain.resized(200, mask_entries=3)
    masked.add(_counted(30, seed=1))
    masked.add(_counted(60, seed=2, masks=False))
    found = masked.sample(3000, np.random.default_rng(0))
    times = found.next_observations[:, 0] % 1000
    told = ~found.terminated & (times > 30) & (times <= 60)
    np.testing.assert_array_equal(found.next_masks[told], _bits(found.next_observations[told]))
    assert found.next_masks[(times <= 30) | (times > 60)].all()


# Agents


@pytest.mark.parametrize(("framework", "algorithm"), KINDS)
def test_masks_may_come_late_and_a_resumed_agent_goes_on_to_the_bit(framework, algorithm):
    first, second = (
        make_agent(
            VECTOR, framework, algorithm, hidden_sizes=(8,), hyperparams={**QUICK, "n_step": 2}, seed=0
        )
        for _ in range(2)
    )
    first.learn(random_window(0))
    assert "next_masks" not in first.replay_state().arrays
    first.learn(masked_window(1))
    assert first.replay_state().arrays["next_masks"].shape[1:] == (3,)
    second.load_state(first.state())
    second.load_replay_state(first.replay_state())
    for agent in (first, second):
        agent.reseed(np.random.default_rng(5))
        agent.learn(masked_window(2))
    for one, two in ((first.state(), second.state()), (first.replay_state(), second.replay_state())):
        assert one.arrays.keys() == two.arrays.keys()
        for name, array in one.arrays.items():
            np.testing.assert_array_equal(array, two.arrays[name], err_msg=name)
    window = masked_window(3)
    window.action_masks[:] = False
    before = first.replay_state()
    with pytest.raises(Unsuitable, match="actions that their own action mask forbids"):
        first.learn(window)
    with pytest.raises(Unsuitable, match=r"masks of \[7\] entries, expected \[3\]"):
        first.learn(random_window(3, action_masks=np.ones((48, 4, 7), bool)))
    for name, array in first.replay_state().arrays.items():
        np.testing.assert_array_equal(array, before.arrays[name])


def test_a_replay_from_before_there_were_masks_is_taken_up():
    agent, other = (make_agent(VECTOR, algorithm="dqn", hyperparams=QUICK, seed=0) for _ in range(2))
    agent.learn(random_window(0))
    other.learn(masked_window(0))
    state = agent.replay_state()
    other.load_replay_state(NamedArrays(state.arrays, state.metadata))
    assert other.replay_state().arrays["next_masks"].all()


@pytest.mark.parametrize("algorithm", ["dqn", pytest.param("rainbow", marks=pytest.mark.slow)])
def test_doors_are_learnt_through_the_pipeline(algorithm):
    """The value of a shut door is never learnt: it would be wrong by all that the network makes up."""
    settings = {
        "learning_starts": 200, "train_freq": 4, "gradient_steps": 2, "batch_size": 32, "learning_rate": 3e-3,
    }  # fmt: skip
    own = (
        {"epsilon_decay_steps": 5, "target_update_freq": 50}
        if algorithm == "dqn"
        else {"v_min": 0.0, "v_max": 20.0}
    )
    agent = make_agent(
        Doors(), algorithm=algorithm, seed=0, hidden_sizes=(32, 32), hyperparams={**settings, **own}
    )
    pipeline = BatchPipeline(Doors(), agent, window_size=250, seed=0)
    for number in range(6):
        agent.learn(pipeline.collect(number, np.random.default_rng(number)))
    data = pipeline.evaluate(20)
    best = np.where(data.observations > 0.5, np.arange(4), -1).max(axis=1)
    assert np.mean(data.actions == best) > 0.9
