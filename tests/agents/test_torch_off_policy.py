"""SAC and TD3 as agents: acting, windows, clocks, replay, states and errors."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from optix_bus.agents import make_agent
from optix_bus.agents.acting import load_policy
from optix_bus.agents.off_policy import gradient_steps_due
from optix_bus.agents.torch.sac import TorchSACAgent
from optix_bus.agents.torch.td3 import TorchTD3Agent
from optix_bus.errors import CheckpointError, ConfigurationError, LearningFailure, Unsuitable
from optix_bus.interfaces import ArrayAgent, Policy, Replaying
from optix_bus.pipelines import BatchPipeline
from optix_bus.rl import ObsNormalizer
from optix_bus.types import ArraySpec, HyperparamSet, NamedArrays, SpaceSpec
from tests.agents.off_policy_worlds import HIGH, LOPSIDED, LOW, box_window, same, small_agent, tanh_network

BOTH = pytest.mark.parametrize("algorithm", ["sac", "td3"])
X = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)


def _adam(*modules):
    return torch.optim.Adam([p for module in modules for p in module.parameters()], lr=7e-4)


@BOTH
def test_it_is_what_the_loop_asks_for(algorithm):
    agent = small_agent(algorithm)
    for kind in (ArrayAgent, Policy, Replaying):
        assert isinstance(agent, kind)
    assert isinstance(agent.policy(), Policy)
    assert not agent.is_on_policy
    assert agent.default_log_params == ["learning_rate", "tau"]
    assert agent.default_param_bounds["tau"] == (1e-3, 1e-1)
    assert agent.default_min_episodes_before_dormant == 30


def test_the_published_constructors_work_by_keyword_and_position():
    actor, one, two = tanh_network(3, 4), tanh_network(5, 1), tanh_network(5, 1)
    log_alpha = torch.zeros(1, requires_grad=True)
    sac = TorchSACAgent(
        actor=actor, critic1=one, critic2=two, action_dim=2, actor_optimizer=_adam(actor),
        critic_optimizer=_adam(one, two), alpha_optimizer=torch.optim.Adam([log_alpha], lr=7e-4),
        hyperparams=HyperparamSet(params={"gamma": 0.98, "log_alpha_init": -1.0}, episode_id=0), device="cpu",
    )  # fmt: skip
    params = sac.get_hyperparams().params
    assert (params["gamma"], params["learning_rate"], params["tau"]) == (0.98, 7e-4, 0.005)
    assert log_alpha.item() == -1.0
    assert sac.temperature == pytest.approx(np.exp(-1.0))
    actor = tanh_network(3, 2)
    td3 = TorchTD3Agent(actor, one, two, 2, _adam(actor), _adam(one, two), HyperparamSet({}), "cpu")
    assert td3.get_hyperparams().params["policy_delay"] == 2
    for agent in (sac, td3):
        action = agent.act(X[0])
        assert action.shape == (2,)
        assert (np.abs(action) <= 1).all()


def test_an_optimizer_of_the_temperature_may_be_made_from_its_parameter():
    actor, one, two = tanh_network(3, 4), tanh_network(5, 1), tanh_network(5, 1)
    agent = TorchSACAgent(
        actor, one, two, 2, _adam(actor), _adam(one, two),
        lambda parameters: torch.optim.Adam(parameters, lr=1e-2), {"learning_starts": 0}, "cpu",
    )  # fmt: skip
    agent.learn(box_window())
    assert agent.temperature != 1.0


# Acting


@BOTH
def test_actions_reach_the_environment_in_its_own_units(algorithm):
    received = []

    class World(gym.Env):
        observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        action_space = gym.spaces.Box(LOW, HIGH)

        def reset(self, *, seed=None, options=None):
            return np.zeros(3, np.float32), {}

        def step(self, action):
            received.append(np.array(action))
            return X[len(received) % 40], 0.0, False, len(received) % 7 == 0, {}

    agent = make_agent(World(), algorithm=algorithm, seed=0, hidden_sizes=(8,), hyperparams={"batch_size": 8})
    pipeline = BatchPipeline(World(), agent, window_size=50)
    pipeline.setup()
    windows = pipeline.episodes()
    for number in range(4):
        data = next(windows)
        agent.learn(data)
        np.testing.assert_array_equal(np.asarray(data.actions).reshape(50, 2), received[-50:])
        acted = np.array(received[-50:])
        assert (acted >= LOW).all()
        assert (acted <= HIGH).all()
        if number == 0:  # learning has not started: all of the range
            assert (np.ptp(acted, 0) > 0.8 * (HIGH - LOW)).all()
    pipeline.teardown()
    stored = agent.replay_state().arrays["actions"]
    np.testing.assert_allclose(stored, (received - (LOW + HIGH) / 2) / ((HIGH - LOW) / 2), atol=1e-5)


@BOTH
def test_an_agent_that_was_built_without_spaces_takes_them_from_the_first_pipeline(algorithm):
    agent = small_agent(algorithm, spaces=None)
    assert (np.abs(agent.act_batch(X, deterministic=True).actions) <= 1).all()
    for bounds in ((LOW, HIGH), (LOW - 5, HIGH - 4)):
        pipeline = BatchPipeline(_Still(*bounds), agent, window_size=20)
        pipeline.setup()
        agent.learn(next(pipeline.episodes()))
        pipeline.teardown()
        low, high = (np.float32(agent._head()[name]) for name in ("low", "high"))
        np.testing.assert_array_equal(low, LOW)
        np.testing.assert_array_equal(high, HIGH)
        assert (np.abs(agent.replay_state().arrays["actions"][:20]) <= 1.0001).all()
    restored = small_agent(algorithm, spaces=None)
    restored.load_state(agent.state())
    with agent.evaluation_mode(), restored.evaluation_mode():
        np.testing.assert_array_equal(restored.act_batch(X).actions, agent.act_batch(X).actions)
    given = small_agent(algorithm)
    given.adopt_spaces(_Still(LOW - 1, HIGH + 1))
    assert given._head()["low"] == list(LOPSIDED.action.low)


class _Still(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)

    def __init__(self, low, high):
        self.action_space = gym.spaces.Box(low, high)

    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}

    def step(self, action):
        return X[0], 0.0, False, False, {}


@BOTH
def test_the_policy_of_the_state_acts_like_the_agent_and_random_acting_ends_with_learning(algorithm):
    agent = small_agent(algorithm, {"learning_starts": 30}, obs_normalizer=ObsNormalizer((3,)))
    for number in range(2):
        state = agent.state()
        assert state.metadata["policy"]["random"] == (number < 1 or agent._memory.environment_steps < 30)
        policy = load_policy(state)
        for each in (agent, policy):
            each.reseed(np.random.default_rng(4))
        one, two = agent.act_batch(X), policy.act_batch(X)
        np.testing.assert_array_equal(one.actions, two.actions)
        with agent.evaluation_mode():
            chosen = agent.act_batch(X)
        assert chosen.log_probs is None
        np.testing.assert_array_equal(chosen.actions, policy.act_batch(X, deterministic=True).actions)
        assert not np.allclose(chosen.actions, one.actions)
        agent.learn(box_window(number, steps=20))
    assert not agent.state().metadata["policy"]["random"]


@BOTH
def test_the_actors_actions_are_those_of_the_framework(algorithm):
    agent = small_agent(algorithm)
    with torch.no_grad():
        unit = torch.tanh(agent._actor(torch.from_numpy(X))[:, :2]).numpy()
    expected = (LOW + HIGH) / 2 + unit * (HIGH - LOW) / 2
    np.testing.assert_allclose(agent.act_batch(X, deterministic=True).actions, expected, atol=1e-5)


def test_an_actor_that_ends_in_a_tanh_is_not_squashed_again():
    critics = tanh_network(5, 1), tanh_network(5, 1)
    actor = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    agent = TorchTD3Agent(actor, *critics, 2, _adam(actor), _adam(*critics), device="cpu", spaces=LOPSIDED)
    with torch.no_grad():
        unit = actor(torch.from_numpy(X)).numpy()
    expected = (LOW + HIGH) / 2 + unit * (HIGH - LOW) / 2
    np.testing.assert_allclose(agent.act_batch(X, deterministic=True).actions, expected, atol=1e-5)


# Windows and clocks


@BOTH
def test_truncation_bootstraps_and_termination_does_not(algorithm):
    agent = small_agent(algorithm, {"learning_starts": 1000, "gamma": 0.9})
    window = box_window(steps=3, width=None, terminated=[False, True, False], truncated=[True, False, False])
    agent.learn(window)
    replay = agent._memory.replay
    stored = replay.at(np.arange(3), np.ones(3, np.float32))
    np.testing.assert_allclose(stored.discounts, np.float32([0.9, 0.0, 0.9]))
    np.testing.assert_array_equal(stored.next_observations[[0, 2]], window.final_observations[[0, 2]])
    # And in the loss: targets that say 10, critics that say 0.
    agent._gather()
    with torch.no_grad():
        for module, bias in (
            (agent._critic1, 0.0),
            (agent._critic2, 0.0),
            *((t, 10.0) for t in agent._targets),
        ):
            module[2].weight.zero_()
            module[2].bias.fill_(bias)
    if algorithm == "sac":
        agent._temperature.log_alpha.data.fill_(-50.0)
    _, errors = agent._gradient_step(_minibatch(stored), agent._hyperparams.params)
    expected = np.abs(np.float32(window.rewards) + np.float32([9.0, 0.0, 9.0]))
    np.testing.assert_allclose(errors.numpy(), expected, rtol=1e-5)


def _minibatch(stored):
    from optix_bus.agents.torch.off_policy import Minibatch

    names = ("observations", "actions", "rewards", "next_observations", "discounts", "weights")
    columns = [torch.from_numpy(np.ascontiguousarray(getattr(stored, name))) for name in names]
    return Minibatch(*columns, torch.zeros(2, len(columns[0]), 2))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 990),
        ({"train_freq": 4}, 992),
        ({"train_freq": 64, "gradient_steps": 10}, 150),
        ({"gradient_steps": 2}, 1980),
        ({"updates_per_step": 3}, 2970),
        ({"learning_starts": 1000}, 0),
        ({"learning_starts": 0}, 1000),
    ],
)
def test_gradient_steps_follow_the_environment_and_not_the_windows(changes, expected):
    params = {
        "train_freq": 1,
        "gradient_steps": None,
        "updates_per_step": 1,
        "learning_starts": 10,
        **changes,
    }
    for cut in (1, 7, 250, 1000):
        ends = [*range(cut, 1000, cut), 1000]
        starts = [0, *ends[:-1]]
        assert sum(gradient_steps_due(a, b, params) for a, b in zip(starts, ends, strict=True)) == expected


@BOTH
def test_a_window_is_answered_with_the_gradient_steps_that_its_steps_ask_for(algorithm):
    agent = small_agent(algorithm, {"learning_starts": 10, "train_freq": 2, "gradient_steps": 1})
    valid = np.ones((12, 2), bool)
    valid[3, 1] = False
    first = agent.learn(box_window(0, valid=valid))
    assert (first["samples"], first["updates"], first["environment_steps"]) == (23, 6, 23)
    second = agent.learn(box_window(1))
    assert (second["samples"], second["updates"], second["gradient_steps"]) == (24, 12, 18)
    assert second["replay_size"] == 47
    for name in ("critic_loss", "actor_loss", "q_mean", "grad_norm"):
        assert np.isfinite(second[name])
    if algorithm == "sac":
        assert {"entropy", "alpha", "alpha_loss"} <= second.keys()


@BOTH
def test_the_same_seed_learns_the_same_bits_and_torchs_generator_is_left_alone(algorithm):
    agents = [small_agent(algorithm, {"n_step": 2, "per_alpha": 0.5}) for _ in range(3)]
    before = torch.get_rng_state()
    for agent, seed in zip(agents, (1, 1, 2), strict=True):
        for number in range(2):
            agent.reseed(np.random.default_rng((seed, number)))
            agent.act_batch(X)
            agent.learn(box_window(number))
    assert torch.equal(before, torch.get_rng_state())
    same(agents[0], agents[1])
    with pytest.raises(AssertionError):
        same(agents[0], agents[2])


CHANGES = {
    "learning_rate": 1e-2, "gamma": 0.5, "tau": 0.5, "batch_size": 8, "learning_starts": 20, "train_freq": 5,
    "gradient_steps": 2, "updates_per_step": 2, "replay_capacity": 30, "n_step": 3, "per_alpha": 0.7,
    "per_beta": 1.0, "per_beta_steps": 10,
}  # fmt: skip
OF_SAC = {"target_entropy": 3.0, "log_alpha_init": 1.0}
OF_TD3 = {"policy_delay": 1, "target_noise": 0.9, "target_noise_clip": 0.05}


@pytest.mark.parametrize(
    ("algorithm", "name", "value"),
    [
        *(("sac", *item) for item in {**CHANGES, **OF_SAC}.items()),
        *(("td3", *item) for item in {**CHANGES, **OF_TD3}.items()),
    ],
)
def test_every_hyperparameter_changes_what_is_learnt(algorithm, name, value):
    needed = {"per_alpha": 0.5} if name.startswith("per_beta") else {}
    # A noise that is cut hard needs noise to be cut.
    plain, other = (small_agent(algorithm, params) for params in (needed, {**needed, name: value}))
    own = {"exploration_noise"} if algorithm == "td3" else set()
    tested = {**CHANGES, **(OF_SAC if algorithm == "sac" else OF_TD3)}.keys()
    assert plain.get_hyperparams().params.keys() - own == tested
    for agent in (plain, other):
        for number in range(2):
            agent.learn(box_window(number))
    one, two = plain.state().arrays, other.state().arrays
    assert any(np.abs(one[key] - two[key]).max() > 1e-7 for key in one if "critic" in key or key == "actor")


def test_exploration_noise_can_be_set_while_it_runs():
    agent = small_agent("td3")
    spreads = []
    for noise in (0.05, 0.3):
        agent.set_hyperparams({"exploration_noise": noise})
        actions = np.concatenate([agent.act_batch(X[:1]).actions for _ in range(300)])
        spreads.append(actions.std(0) / ((HIGH - LOW) / 2))
    np.testing.assert_allclose(spreads, [[0.05] * 2, [0.3] * 2], rtol=0.2)


@BOTH
def test_changing_the_replay_while_it_runs_keeps_what_fits(algorithm):
    agent = small_agent(algorithm)
    agent.learn(box_window(0))
    agent.set_hyperparams({"replay_capacity": 10})
    assert agent.learn(box_window(1))["replay_size"] == 10
    agent.set_hyperparams({"replay_capacity": 100, "n_step": 2, "per_alpha": 0.5})
    assert agent.learn(box_window(2))["replay_size"] > 20


# State


@BOTH
def test_a_restored_agent_goes_on_to_the_bit_replay_included(algorithm):
    options = {"n_step": 3, "per_alpha": 0.6, "policy_delay": 3} if algorithm == "td3" else {"n_step": 3}
    first, second = (small_agent(algorithm, options, obs_normalizer=ObsNormalizer((3,))) for _ in range(2))
    for number in range(2):
        first.learn(box_window(number))
    assert not any(name.startswith(("observations", "replay")) for name in first.state().arrays)
    second.load_state(first.state())
    second.load_replay_state(first.replay_state())
    same(first, second)
    for agent in (first, second):
        agent.reseed(np.random.default_rng(3))
        for number in range(5, 7):
            agent.learn(box_window(number))
    same(first, second)


@BOTH
@pytest.mark.parametrize("name", ["folder", "file.safetensors"])
def test_weights_on_disk_hold_the_replay_as_well(tmp_path, algorithm, name):
    agent, other = small_agent(algorithm), small_agent(algorithm)
    agent.learn(box_window(0))
    agent.save_weights(str(tmp_path / name))
    other.load_weights(str(tmp_path / name))
    same(agent, other)
    for each in (agent, other):
        each.reseed(np.random.default_rng(3))
        each.learn(box_window(1))
    same(agent, other)


@BOTH
@pytest.mark.parametrize("windows", [0, 2])
def test_a_failure_names_window_and_statistics_and_leaves_the_agent_as_it_was(algorithm, windows):
    options = {"per_alpha": 0.5, "n_step": 2, "replay_capacity": 60}
    agent, twin = (small_agent(algorithm, options) for _ in range(2))
    for each in (agent, twin):
        for number in range(windows):
            each.learn(box_window(number))
        each.set_hyperparams({"learning_rate": 1e30})
    with pytest.raises(
        LearningFailure, match=rf"window 9: the {algorithm} update is not finite \(.*rewards -\d.* to \d"
    ):
        agent.learn(box_window(9))
    same(agent, twin)
    assert agent.policy_version == twin.policy_version == windows
    for each in (agent, twin):  # and it goes on from there
        each.set_hyperparams({"learning_rate": 1e-3})
        each.reseed(np.random.default_rng(0))
        each.learn(box_window(4))
    same(agent, twin)


@BOTH
def test_perturbing_and_averaging_reach_the_networks_and_not_the_temperature(tmp_path, algorithm):
    agent = small_agent(algorithm)
    agent.learn(box_window(0))
    agent.save_weights(str(tmp_path / "0"))
    before = agent.state().arrays
    agent.perturb_weights(0.1)
    after = agent.state().arrays
    assert not np.allclose(before["actor.0.weight"], after["actor.0.weight"])
    agent.save_weights(str(tmp_path / "1"))
    agent.average_weights([str(tmp_path / "0"), str(tmp_path / "1")])
    mean = (before["critic1.0.weight"] + after["critic1.0.weight"]) / 2
    np.testing.assert_allclose(agent.state().arrays["critic1.0.weight"], mean, atol=1e-7)
    if algorithm == "sac":
        assert before["temperature.log_alpha"] == after["temperature.log_alpha"] != 0.0


# Errors


@BOTH
def test_networks_of_the_wrong_size_are_refused_with_both_sizes(algorithm):
    outputs = 4 if algorithm == "sac" else 2
    kind, alpha = (
        (TorchSACAgent, [lambda p: torch.optim.Adam(p)]) if algorithm == "sac" else (TorchTD3Agent, [])
    )

    def build(actor, critic, spaces=LOPSIDED, dim=2):
        optimizers = (_adam(actor), _adam(critic), *alpha)
        return kind(actor, critic, tanh_network(5, 1), dim, *optimizers, device="cpu", spaces=spaces)

    with pytest.raises(Unsuitable, match=f"the actor gives 3 numbers, expected {outputs} for 2 actions"):
        build(tanh_network(3, 3), tanh_network(5, 1))
    with pytest.raises(Unsuitable, match="critic1 does not take 5 numbers"):
        build(tanh_network(3, outputs), tanh_network(3, 1))
    with pytest.raises(
        Unsuitable, match=r"critic1 gives \[2, 2\] for 2 rows of 5 numbers, expected \[2, 1\]"
    ):
        build(tanh_network(3, outputs), tanh_network(5, 2))
    with pytest.raises(Unsuitable, match="action_dim is 1, but those of lopsided have 2"):
        build(tanh_network(3, outputs // 2), tanh_network(4, 1), dim=1)
    late = build(tanh_network(4, outputs), tanh_network(5, 1), spaces=None)
    with pytest.raises(Unsuitable, match="actor does not take 3 numbers"):
        late.learn(box_window(0))


def test_an_optimizer_of_something_else_than_a_temperature_is_refused():
    actor, one, two = tanh_network(3, 4), tanh_network(5, 1), tanh_network(5, 1)
    with pytest.raises(ConfigurationError, match=r"the alpha_optimizer holds .* expected one number"):
        TorchSACAgent(actor, one, two, 2, _adam(actor), _adam(one, two), _adam(actor))


@BOTH
def test_windows_that_do_not_fit_are_refused_and_nothing_is_stored(algorithm):
    agent = small_agent(algorithm)
    with pytest.raises(Unsuitable, match="actions of 3 numbers in the window, expected 2"):
        agent.learn(box_window(0, actions=np.zeros((12, 2, 3), np.float32)))
    with pytest.raises(LearningFailure, match="in rewards are not finite"):
        agent.learn(box_window(0, rewards=np.full((12, 2), np.nan)))
    assert agent._memory.replay is None
    with pytest.raises(CheckpointError, match="found no replay in the state"):
        agent.load_replay_state(NamedArrays({}, {}))


@BOTH
def test_foreign_replays_are_refused_and_change_nothing(algorithm):
    agent = small_agent(algorithm)
    agent.learn(box_window(0))
    before = agent.replay_state()
    foreign = {**before.arrays, "observations": np.zeros((24, 9), np.float32)}
    with pytest.raises(CheckpointError, match="belongs to another agent"):
        agent.load_replay_state(NamedArrays(foreign, before.metadata))
    for name, array in agent.replay_state().arrays.items():
        np.testing.assert_array_equal(array, before.arrays[name])


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (ArraySpec("box", (1,), "float32"), "RescaleAction"),
        (ArraySpec("discrete", (), "int64", n=3), "actions are discrete, expected box"),
    ],
)
@BOTH
def test_spaces_that_do_not_fit_are_refused_with_what_would(algorithm, action, message):
    with pytest.raises(Unsuitable, match=message):
        make_agent(SpaceSpec("Some-v0", ArraySpec("box", (3,), "float32"), action), algorithm=algorithm)


def test_make_agent_chooses_by_determinism_and_takes_the_sizes_of_the_benchmark_tables():
    sac, td3 = make_agent(LOPSIDED, seed=0), make_agent(LOPSIDED, deterministic=True, seed=0)
    assert (type(sac), type(td3)) == (TorchSACAgent, TorchTD3Agent)
    for agent, sizes in ((sac, [256, 256]), (td3, [400, 300])):
        for module in (agent._actor, agent._critic1, agent._critic2):
            linears = [layer for layer in module if isinstance(layer, nn.Linear)]
            assert [layer.out_features for layer in linears[:-1]] == sizes
            assert all(
                float(layer.weight.detach().abs().max()) <= layer.in_features**-0.5 for layer in linears
            )
        assert not torch.equal(agent._critic1[0].weight, agent._critic2[0].weight)
    same_again = make_agent(LOPSIDED, seed=0)
    same(sac, same_again)
    with pytest.raises(Unsuitable, match="that of sac is stochastic"):
        make_agent(LOPSIDED, algorithm="sac", deterministic=True)
