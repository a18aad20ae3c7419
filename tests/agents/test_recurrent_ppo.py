"""Recurrent PPO: a window is learnt with the memory that it was acted with, and no episode sees another."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import nn

from optix_bus import BatchPipeline, TorchRecurrentPPOAgent, VectorBatchPipeline
from optix_bus.agents import load_policy, make_agent
from optix_bus.agents.acting import is_portable
from optix_bus.agents.experience import read_experience
from optix_bus.agents.heads import Categorical
from optix_bus.agents.ppo_batch import make_batch
from optix_bus.agents.torch.ppo_update import ppo_loss
from optix_bus.agents.torch.recurrent_networks import cut, features_of
from optix_bus.agents.torch.recurrent_update import RecurrentPPO, Unrolled, unroll
from optix_bus.errors import ConfigurationError, LearningFailure, Unsuitable
from optix_bus.pipelines import build_environment
from optix_bus.types import EpisodeData
from tests.agents.test_action_masks import Doors
from tests.agents.windows import NUMBERS, VECTOR, random_window
from tests.oracles import gae
from tests.oracles import recurrent as oracle

ID = "optix_bus/CartPoleNoVel-v1"
KINDS = [nn.GRU, nn.LSTM]


def agent_of(
    kind: Any = nn.GRU, dtype: torch.dtype = torch.float32, **options: Any
) -> TorchRecurrentPPOAgent:
    torch.manual_seed(7)
    inputs, layers = options.pop("inputs", 4), options.pop("num_layers", 1)
    first = options.pop("batch_first", False)
    rnn = kind(inputs, 6, layers, batch_first=first).to(dtype)
    actor = nn.Linear(6, options.pop("n_actions", 3)).to(dtype)
    critic = nn.Linear(6, 1).to(dtype)
    parameters = [p for module in (rnn, actor, critic) for p in module.parameters()]
    optimizer = options.pop("optimizer", torch.optim.Adam)(parameters, lr=1e-2)
    return TorchRecurrentPPOAgent(rnn, actor, critic, optimizer, device="cpu", seed=0, **options)


def unrolled(agent: TorchRecurrentPPOAgent, data: EpisodeData) -> Unrolled:
    length = agent.get_hyperparams().params["bptt_len"]
    return unroll(data, read_experience(data), agent._rnn, length, agent._obs_normalizer, agent._device)


def recomputed(agent: TorchRecurrentPPOAgent, data: EpisodeData) -> Any:
    window = unrolled(agent, data)
    with torch.no_grad():
        logits = agent._actor_head(torch.from_numpy(window.experience.observations))
    log_all = torch.log_softmax(logits, -1).numpy()
    return np.take_along_axis(log_all, window.experience.actions.reshape(*log_all.shape[:2], 1), -1)[..., 0]


def collecting(agent: Any, mode: AutoresetMode | None, window: int = 33) -> VectorBatchPipeline:
    """Five environments whose episodes of some 20 steps end in the middle of windows and sequences."""
    makers = [lambda: build_environment(ID)] * 5
    if mode is None:
        return VectorBatchPipeline(makers, agent, window_size=window, seed=3)
    return VectorBatchPipeline(
        envs=SyncVectorEnv(makers, autoreset_mode=mode), agent=agent, window_size=window, seed=3
    )


@pytest.mark.parametrize("mode", [None, *AutoresetMode])
@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_of_a_window_are_those_that_were_acted_in_every_mode(kind: Any, mode: Any) -> None:
    agent = agent_of(kind, inputs=2, n_actions=2, num_layers=2)
    pipeline = collecting(agent, mode)
    for number in range(4):
        data = pipeline.collect(number, np.random.default_rng(number))
        data.metadata["policy_version"] = agent.policy_version
        valid = np.ones(data.rewards.shape, bool) if data.valid is None else data.valid
        assert data.dones.any()
        assert np.abs(recomputed(agent, data) - data.log_probs)[valid].max() < 1e-5
        report = agent.learn(data)
        assert (report["initial_ratio_error"], report["initial_kl"]) == (0.0, 0.0)
    assert np.abs(data.hidden_states).max() > 0.05, "the last window began in the middle of episodes"


def test_the_first_ratio_is_1_also_by_the_recorded_log_probabilities() -> None:
    agent = agent_of(inputs=2, n_actions=2)
    data = collecting(agent, None).collect(0, np.random.default_rng(0))
    data.metadata["policy_version"] = agent.policy_version + 5
    report = agent.learn(data)
    assert 0.0 < report["initial_ratio_error"] < 1e-5
    assert abs(report["initial_kl"]) < 1e-8


def test_a_memory_that_leaked_into_the_next_episode_would_be_seen() -> None:
    agent = agent_of(inputs=2, n_actions=2)
    data = collecting(agent, None).collect(0, np.random.default_rng(0))
    leaking = copy.copy(data)
    leaking.episode_starts = np.zeros_like(data.episode_starts)
    leaking.terminated = leaking.truncated = np.zeros_like(data.terminated)
    assert np.abs(recomputed(agent, leaking) - data.log_probs).max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_no_episode_sees_or_teaches_what_another_observed(kind: Any) -> None:
    agent = agent_of(kind)
    window = random_window(
        steps=30, width=2, terminated=np.zeros((30, 2), bool), truncated=np.zeros((30, 2), bool)
    )
    window.terminated[11, 0] = True
    length = agent.get_hyperparams().params["bptt_len"]

    def outputs(data: EpisodeData) -> Any:
        return unrolled(agent, data).experience.observations

    plain = outputs(window)
    changed = copy.deepcopy(window)
    changed.observations[:12, 0] += 1.0
    found = outputs(changed)
    np.testing.assert_array_equal(found[12:, 0], plain[12:, 0])
    np.testing.assert_array_equal(found[:, 1], plain[:, 1])
    assert (found[:12, 0] != plain[:12, 0]).any(axis=1).all()

    unrolling = unrolled(agent, window)
    inputs = unrolling.inputs.clone().requires_grad_()
    every = np.arange(len(unrolling.memories))
    features, steps, rows = features_of(agent._rnn, inputs, unrolling.pieces.of(every), unrolling.memories)
    late = torch.from_numpy((rows == 0) & (steps >= 12) & (steps < length))
    (gradient,) = torch.autograd.grad(features[late].sum(), inputs)
    assert not gradient[:12].any(), "nothing flows back over the end of the episode"
    assert not gradient[:, 1].any(), "nor into another environment"
    assert gradient[12:length, 0].abs().sum(-1).all()


def test_sequences_are_cut_at_their_length_and_at_resets() -> None:
    resets = np.zeros((7, 2), bool)
    resets[[0, 2, 5], [0, 1, 1]] = True
    pieces = cut(resets, 3)
    found = list(
        zip(pieces.sequence, pieces.row, pieces.first, pieces.length, pieces.fresh.tolist(), strict=True)
    )
    assert found == [
        (0, 0, 0, 3, True),
        (1, 1, 0, 2, False),
        (1, 1, 2, 1, True),
        (2, 0, 3, 3, False),
        (3, 1, 3, 2, False),
        (3, 1, 5, 1, True),
        (4, 0, 6, 1, False),
        (5, 1, 6, 1, False),
    ]
    assert pieces.of([3]).length.tolist() == [2, 1]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_equal_a_plain_loop_over_single_steps(
    kind: Any, batch_first: bool, dtype: torch.dtype, masked: bool
) -> None:
    params = {"bptt_len": 5, "minibatch_size": 1000, "n_epochs": 1, "gamma": 0.9, "gae_lambda": 0.8}
    agent = agent_of(kind, dtype, num_layers=2, batch_first=batch_first, hyperparams=params)
    settings = agent.get_hyperparams().params
    rng = np.random.default_rng(4)
    rnn, actor, critic = agent._rnn, agent._actor_head, agent._critic_head
    size = 12 if kind is nn.GRU else 24
    data = random_window(
        2, steps=17, width=3, hidden_states=rng.standard_normal((3, size)).astype(np.float32)
    )
    starts = np.zeros((17, 3), bool)
    starts[0, 1] = starts[8, 0] = True  # a start without an end before it: an episode was given up
    data.episode_starts = starts
    data.log_probs = rng.normal(-1.1, 0.1, (17, 3))
    data.metadata["policy_version"] = -1
    masks = (rng.random((17, 3, 3)) < 0.5) | (data.actions[..., None] == np.arange(3))
    data.action_masks = masks if masked else None
    assert data.terminated.any()
    assert data.truncated.any()

    # The slow way: one row and one step after the other.
    plain = copy.deepcopy(rnn)
    plain.batch_first = False
    logits, values, advantages, targets, taken, old = [], [], [], [], [], []
    for b in range(3):
        resets = starts[:, b].copy()
        resets[1:] |= data.terminated[:-1, b] | data.truncated[:-1, b]
        parts = torch.from_numpy(data.hidden_states[b]).to(dtype).reshape(-1, 2, 1, 6)
        first = parts[0] if kind is nn.GRU else (parts[0], parts[1])
        x = torch.from_numpy(data.observations[:, b]).to(dtype)
        outputs, behind = oracle.features(plain, x, resets, 5, first)
        v = [critic(output)[0] for output in outputs]
        finals = []
        for t in range(17):
            final = torch.from_numpy(data.final_observations[t, b]).to(dtype)
            finals.append(float(critic(oracle.step(plain, final, behind[t])[0])[0].detach()))
        column = [[float(value.detach())] for value in v]
        found = gae.advantages(
            data.rewards[:, [b]].tolist(),
            column,
            data.terminated[:, [b]].tolist(),
            data.truncated[:, [b]].tolist(),
            np.array(finals)[:, None].tolist(),
            np.ones((17, 1), bool).tolist(),
            0.9,
            0.8,
        )
        values += v
        advantages += [each[0] for each in found]
        targets += [each[0] + value[0] for each, value in zip(found, column, strict=True)]
        # The softmax of the allowed logits alone; an action is its place among them.
        allowed = [np.flatnonzero(mask) for mask in masks[:, b]] if masked else [np.arange(3)] * 17
        logits += [actor(output)[rows] for output, rows in zip(outputs, allowed, strict=True)]
        taken += [int((rows < a).sum()) for a, rows in zip(data.actions[:, b], allowed, strict=True)]
        old += data.log_probs[:, b].tolist()
    expected = oracle.loss(logits, values, taken, old, advantages, targets, settings)
    expected.backward()

    window = unrolled(agent, data)
    head = Categorical(3)
    way = RecurrentPPO(rnn, actor, critic, agent._optimizer, agent._device, head, window)
    batch = make_batch(window.experience, way, settings, policy_version=0, head=head)
    numbers = (batch.actions, batch.log_probs, batch.advantages, batch.returns, batch.values, batch.masks)
    arrays = (batch.observations, *(each for each in numbers if each is not None))
    tensors = tuple(torch.from_numpy(each) for each in arrays)
    (part,) = way._minibatches(tensors, 1000, np.random.default_rng(0))
    for module in (actor, critic):
        module.zero_grad()
    loss, _, _ = ppo_loss(actor, critic, part, settings, head=head)
    gradients_before = {name: p.grad.clone() for name, p in plain.named_parameters() if p.grad is not None}
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-5)
    assert set(gradients_before) == {name for name, _ in rnn.named_parameters()}
    for name, parameter in rnn.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradients_before[name], atol=1e-5, rtol=1e-5)


def test_the_end_of_a_window_and_a_truncation_are_worth_what_follows_them() -> None:
    agent = agent_of()
    data = random_window(1, steps=9, width=1)
    data.terminated[:] = data.truncated[:] = False
    data.truncated[4, 0] = True
    data.hidden_states = np.full((1, 6), 0.3, np.float32)
    window = unrolled(agent, data)
    assert window.experience.after_rows.tolist() == [4, 8]
    memory: Any = torch.full((1, 1, 6), 0.3)
    for t in range(9):
        x = torch.from_numpy(data.observations[t, 0])
        with torch.no_grad():
            output, memory = oracle.step(agent._rnn, x, oracle.empty(agent._rnn) if t == 5 else memory)
            np.testing.assert_allclose(window.experience.observations[t, 0], output.numpy(), atol=1e-6)
            if t in (4, 8):
                final = torch.from_numpy(data.final_observations[t, 0])
                after = oracle.step(agent._rnn, final, memory)[0].numpy()
                np.testing.assert_allclose(window.experience.after[t // 8], after, atol=1e-6)


def test_minibatches_are_whole_sequences_and_every_transition_is_learnt_from_once() -> None:
    agent = agent_of(hyperparams={"bptt_len": 8, "minibatch_size": 20})
    data = random_window(3, steps=20, width=3)
    data.valid = np.ones((20, 3), bool)
    data.valid[5, 1] = False
    window = unrolled(agent, data)
    head = Categorical(3)
    way = RecurrentPPO(
        agent._rnn, agent._actor_head, agent._critic_head, agent._optimizer, agent._device, head, window
    )
    numbers = torch.arange(59)
    seen = [part[1].tolist() for part in way._minibatches((numbers, numbers), 20, np.random.default_rng(0))]
    assert sorted(itertools.chain(*seen)) == list(range(59))
    assert [len(part) > 0 for part in seen] == [True] * 5  # nine sequences, two at a time
    places = window.places
    for part in seen:
        for number in part:
            (t,), (b,) = np.nonzero(places == number)
            whole = places[t // 8 * 8 : t // 8 * 8 + 8, b]
            assert set(whole[whole >= 0].tolist()) <= set(part)


def test_a_window_that_says_nothing_of_memory_begins_with_an_empty_one() -> None:
    one, two = agent_of(), agent_of()
    bare = random_window(0)
    assert bare.hidden_states is None
    told = random_window(
        0, hidden_states=np.zeros((4, 6), np.float32), episode_starts=np.zeros((48, 4), bool)
    )
    assert one.learn(bare) == two.learn(told)


def test_windows_of_one_environment_learn_like_windows_of_a_vector_of_one() -> None:
    reports = []
    for make in (BatchPipeline, VectorBatchPipeline):
        agent = agent_of(inputs=2, n_actions=2)
        source = build_environment(ID) if make is BatchPipeline else [lambda: build_environment(ID)]
        pipeline = make(source, agent, window_size=40, seed=1)
        for number in range(2):
            data = pipeline.collect(number, np.random.default_rng(number))
        assert np.shape(data.hidden_states) == ((6,) if make is BatchPipeline else (1, 6))
        reports.append(agent.learn(data))
    assert reports[0] == reports[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"hidden_states": np.zeros((4, 5), np.float32)},
            r"hidden_states have shape \(4, 5\), expected \(4, 6\)",
        ),
        ({"episode_starts": np.zeros((3, 4), bool)}, r"episode_starts have shape \(3, 4\)"),
    ],
)
def test_memories_and_starts_of_another_shape_are_refused(change: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        agent_of().learn(random_window(0, **change))


def test_observations_of_another_size_are_refused() -> None:
    data = random_window(0)
    data.observations = data.observations[..., :3]
    data.final_observations = data.final_observations[..., :3]
    with pytest.raises(Unsuitable, match="takes 4 numbers"):
        agent_of().learn(data)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_shut_door_is_never_taken_and_the_window_is_learnt_with_its_masks(kind: Any, known: bool) -> None:
    """`Doors` itself fails at a forbidden action; ``known`` networks act in NumPy, others in torch."""
    agent = agent_of(kind, n_actions=4, hyperparams={"n_epochs": 2})
    if not known:
        agent._actor_head.register_forward_hook(lambda module, inputs, outputs: outputs)
        agent.reset_cache()
    assert is_portable(agent.state()) == known
    pipeline = VectorBatchPipeline([Doors] * 4, agent, window_size=125, seed=0)
    for number in range(2):
        data = pipeline.collect(number, np.random.default_rng(number))
        taken = np.take_along_axis(data.action_masks, data.actions[..., None], -1)
        assert taken.all()
        data.metadata["policy_version"] = -1
        report = agent.learn(data)
        assert 0.0 < report["initial_ratio_error"] < 1e-5, "by the log-probabilities that were recorded"
        assert 0.0 < report["entropy"] < np.log(4), "over the allowed ones alone"
    evaluated = pipeline.evaluate(50)
    assert (evaluated.observations[np.arange(250), evaluated.actions] == 1.0).all()
    for allowed in range(4):
        assert agent.act(np.zeros(4, np.float32), action_mask=np.arange(4) == allowed) == allowed
    data.action_masks = np.zeros_like(data.action_masks)
    with pytest.raises(Unsuitable, match="of 500 actions in the window that their own action mask forbids"):
        agent.learn(data)


@pytest.mark.slow
def test_doors_are_learnt_with_a_memory() -> None:
    settings = {"learning_rate": 3e-3, "entropy_coef": 0.0}
    agent: Any = make_agent(Doors(), algorithm="recurrent_ppo", seed=0, hyperparams=settings)
    pipeline = VectorBatchPipeline([Doors] * 4, agent, window_size=128, seed=0)
    for number in range(8):
        agent.learn(pipeline.collect(number, np.random.default_rng(number)))
    data = pipeline.evaluate(20)
    best = np.where(data.observations > 0.5, np.arange(4), -1).max(axis=1)
    assert (data.actions == best).mean() > 0.95


def bytes_of(agent: Any) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in sorted(agent.state().arrays.items())}


@pytest.mark.parametrize("rnn", ["gru", "lstm"])
def test_after_load_state_learning_goes_on_to_the_bit(rnn: str, tmp_path: Any) -> None:
    def fresh(seed: int) -> Any:
        return make_agent(VECTOR, algorithm="recurrent_ppo", rnn=rnn, hidden_sizes=(8, 8), seed=seed)

    one, two, three = fresh(0), fresh(1), fresh(2)
    for number in range(2):
        one.learn(random_window(number))
    two.load_state(one.state())
    one.save_weights(str(tmp_path / "saved"))
    three.load_weights(str(tmp_path / "saved"))
    assert bytes_of(one) == bytes_of(two) == bytes_of(three)
    for agent in (one, two, three):
        agent.reseed(np.random.default_rng(8))
        agent.learn(random_window(5))
    assert bytes_of(one) == bytes_of(two) == bytes_of(three)


def test_the_same_seed_gives_the_same_bits_and_leaves_the_generator_of_torch_alone() -> None:
    before = torch.get_rng_state()
    agents = [make_agent(NUMBERS, algorithm="recurrent_ppo", seed=seed) for seed in (3, 3, 4)]
    for agent in agents:
        agent.learn(random_window(0, spaces=NUMBERS))
    assert bytes_of(agents[0]) == bytes_of(agents[1])
    assert bytes_of(agents[0]) != bytes_of(agents[2])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("how", ["rewards", "rate"])
def test_a_learning_failure_names_the_window_and_leaves_everything_as_before(how: str) -> None:
    agent: Any = make_agent(VECTOR, algorithm="recurrent_ppo", seed=0, hidden_sizes=(8,))
    agent.learn(random_window(0))
    agent.act_batch(np.ones((2, 4), np.float32))
    data = random_window(1)
    if how == "rewards":
        data.rewards[3, 1] = np.nan
    else:
        agent.set_hyperparams({"learning_rate": 1e30})
    before, memory, version = bytes_of(agent), agent.memory(), agent.policy_version
    with pytest.raises(LearningFailure, match="window 1"):
        agent.learn(data)
    assert bytes_of(agent) == before
    assert agent.policy_version == version
    np.testing.assert_array_equal(agent.memory(), memory)
    agent.set_hyperparams({"learning_rate": 1e-3})
    assert np.isfinite(agent.learn(random_window(2))["loss"])


def test_the_number_of_actions_is_checked_where_it_is_said() -> None:
    assert agent_of(n_actions=3).act(np.zeros(4, np.float32)) in (0, 1, 2)
    torch.manual_seed(0)
    rnn, actor, critic = nn.GRU(4, 6), nn.Linear(6, 3), nn.Linear(6, 1)
    with pytest.raises(Unsuitable, match=r"expected \[2, 4\]"):
        TorchRecurrentPPOAgent(rnn, actor, critic, torch.optim.Adam(rnn.parameters()), n_actions=4)


def test_a_kind_of_memory_is_chosen_by_name_and_refused_where_there_is_none() -> None:
    made: Any = make_agent(VECTOR, algorithm="recurrent_ppo", rnn="lstm", hidden_sizes=(5, 7, 9))
    assert isinstance(made._rnn, nn.LSTM)
    assert [layer.out_features for layer in made._actor_head if isinstance(layer, nn.Linear)] == [7, 9, 3]
    assert made._rnn.bias_ih_l0[5:10].eq(1.0).all()
    assert load_policy(made.state()).act_batch(np.zeros((2, 4), np.float32)).actions.shape == (2,)
    with pytest.raises(ConfigurationError, match="found rnn 'elman', expected one of gru, lstm"):
        make_agent(VECTOR, algorithm="recurrent_ppo", rnn="elman")
    with pytest.raises(ConfigurationError, match="ppo has no memory"):
        make_agent(VECTOR, algorithm="ppo", rnn="gru")


def test_the_environment_without_velocities_is_cartpole_otherwise() -> None:
    hidden, whole = build_environment(ID), gymnasium.make("CartPole-v1")
    (first, _), (other, _) = hidden.reset(seed=4), whole.reset(seed=4)
    np.testing.assert_array_equal(first, other[[0, 2]])
    assert hidden.observation_space.contains(first)
    assert hidden.spec is not None
    assert (hidden.spec.id, hidden.spec.max_episode_steps) == (ID, 500)
    over = False
    while not over:
        (seen, *rest), (other, *others) = hidden.step(1), whole.step(1)
        np.testing.assert_array_equal(seen, other[[0, 2]])
        assert rest == others
        over = rest[1] or rest[2]
