from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from optix_bus.agents import load_policy, make_agent
from optix_bus.agents.acting import is_portable
from optix_bus.agents.torch.ppo import TorchPPOAgent
from optix_bus.errors import CheckpointError, ConfigurationError, LearningFailure, Unsuitable
from optix_bus.interfaces import ArrayAgent, Policy
from optix_bus.pipelines import BatchPipeline
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import EpisodeData, HyperparamSet, NamedArrays
from tests.agents.windows import VECTOR, random_window

QUICK = {"n_epochs": 2, "minibatch_size": 64}


def _networks(seed=0):
    torch.manual_seed(seed)
    actor = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    return actor, nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))


def _agent(hyperparams=QUICK, actor=None, critic=None, lr=1e-3, **options):
    default_actor, default_critic = _networks()
    actor, critic = actor or default_actor, critic or default_critic
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=lr)
    return TorchPPOAgent(actor, critic, optimizer, hyperparams, seed=0, **options)


def _weights(agent):
    return np.concatenate(
        [p.detach().numpy().ravel() for p in (*agent._actor.parameters(), *agent._critic.parameters())]
    )


def _same(first, second, **tolerance):
    one, two = first.state().arrays, second.state().arrays
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(
            one[name], two[name], err_msg=name, **(tolerance or {"rtol": 0, "atol": 0})
        )


def test_it_is_what_the_loop_asks_for():
    agent = _agent()
    assert isinstance(agent, ArrayAgent)
    assert isinstance(agent, Policy)
    assert isinstance(agent.policy(), Policy)
    assert agent.is_on_policy
    assert agent.default_log_params == ["learning_rate"]
    assert agent.default_param_bounds["clip_ratio"] == (0.1, 0.3)


def test_the_published_constructor_works_by_position_and_keyword():
    actor, critic = _networks()
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=7e-4)
    agent = TorchPPOAgent(
        actor=actor, critic=critic, optimizer=optimizer,
        hyperparams=HyperparamSet(params={"clip_ratio": 0.1}, episode_id=0), device="cpu",
        reward_normalizer=RewardNormalizer(),
    )  # fmt: skip
    params = agent.get_hyperparams().params
    assert (params["clip_ratio"], params["learning_rate"], params["gamma"]) == (0.1, 7e-4, 0.99)


# Acting


def test_one_observation_gives_one_plain_number():
    agent = _agent()
    action = agent.act(np.zeros(4, np.float32))
    assert type(action) is int
    assert 0 <= action < 3
    assert agent.action_probs(np.zeros(4)).shape == (3,)


def test_acting_follows_every_change_of_the_weights():
    agent, x = _agent(), np.ones(4, np.float32)
    changes = [
        lambda: agent._actor[2].bias.data.copy_(torch.tensor([1.0, 0.0, 0.0])),
        lambda: agent._actor[0].weight.data.mul_(1.7),
        lambda: agent._actor.load_state_dict(_networks(seed=5)[0].state_dict()),
        lambda: setattr(agent._actor[2].bias, "data", torch.tensor([0.0, 1.0, 0.0])),
        lambda: agent.perturb_weights(0.3),
        lambda: agent.learn(random_window()),
    ]
    for change in changes:
        before = agent.action_probs(x)
        change()
        with torch.no_grad():
            expected = torch.softmax(agent._actor(torch.from_numpy(x)), -1).numpy()
        np.testing.assert_allclose(agent.action_probs(x), expected, atol=1e-6)
        assert not np.allclose(before, expected, atol=1e-6)


def test_within_a_window_changes_through_the_agent_count_and_after_it_all_others():
    agent, x = _agent(), np.ones(4, np.float32)
    first = agent.action_probs(x)
    with agent.steady_weights():
        agent._actor[2].bias.data.copy_(torch.tensor([1.0, 0.0, 0.0]))
        np.testing.assert_array_equal(agent.action_probs(x), first)
        agent.perturb_weights(0.3)
        with torch.no_grad():
            expected = torch.softmax(agent._actor(torch.from_numpy(x)), -1).numpy()
        np.testing.assert_allclose(agent.action_probs(x), expected, atol=1e-6)
    second = agent.action_probs(x)
    agent._actor[2].bias.data.copy_(torch.tensor([0.0, 2.0, 0.0]))
    assert not np.allclose(agent.action_probs(x), second, atol=1e-3)


def test_a_pipeline_looks_for_changed_weights_once_a_window(monkeypatch):
    agent, looks = make_agent(gymnasium.make("CartPole-v1"), seed=0), []
    mark = agent._acting._weights_mark
    monkeypatch.setattr(agent._acting, "_weights_mark", lambda: looks.append(1) or mark())
    pipeline = BatchPipeline(gymnasium.make("CartPole-v1"), agent, window_size=20, seed=0)
    windows, seen = pipeline.episodes(), []
    for bias in ([50.0, 0.0], [0.0, 50.0], [50.0, 0.0]):
        agent._actor[-1].bias.data.copy_(torch.tensor(bias))
        seen.append(set(next(windows).actions.tolist()))
    assert seen == [{0}, {1}, {0}]
    assert len(looks) <= 2 * len(seen)


def test_replaced_layers_count_after_the_cache_is_reset():
    agent, x = _agent(), np.ones(4, np.float32)
    agent._actor[2] = nn.Linear(16, 3)
    agent.reset_cache()
    with torch.no_grad():
        expected = torch.softmax(agent._actor(torch.from_numpy(x)), -1).numpy()
    np.testing.assert_allclose(agent.action_probs(x), expected, atol=1e-6)


def test_evaluation_mode_is_deterministic_and_ends_where_it_ends():
    agent, x = _agent(), np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32)
    with agent.evaluation_mode():
        assert agent.act_batch(x).log_probs is None
        best = [agent.act(row) for row in x]
    np.testing.assert_array_equal(best, agent.act_batch(x, deterministic=True).actions)
    assert agent.act_batch(x).log_probs is not None


def test_the_policy_from_the_state_in_another_process_acts_like_the_agent():
    agent, x = _agent(obs_normalizer=ObsNormalizer((4,))), np.random.default_rng(0).standard_normal((8, 4))
    agent.learn(random_window())
    state = agent.state()
    needed = {k: v for k, v in state.arrays.items() if k.startswith(("actor.", "obs_normalizer."))}
    policy = load_policy(NamedArrays(needed, json.loads(json.dumps(dict(state.metadata)))))
    for each in (agent, policy):
        each.reseed(np.random.default_rng(4))
    for _ in range(5):
        one, two = agent.act_batch(x), policy.act_batch(x)
        assert one.actions.tobytes() == two.actions.tobytes()
        assert one.log_probs.tobytes() == two.log_probs.tobytes()


class _Residual(nn.Module):
    """A network that only torch can run."""

    def __init__(self, outputs):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, outputs)

    def forward(self, x):
        return self.last(x + torch.tanh(self.first(x)))


@pytest.mark.parametrize("double", [False, True])
def test_networks_that_numpy_cannot_run_act_in_torch(double):
    torch.manual_seed(0)
    actor, critic = _Residual(3), _Residual(1)
    if double:
        actor, critic = actor.double(), critic.double()
    agent = _agent(actor=actor, critic=critic)
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    policy = agent.policy()
    with torch.no_grad():
        expected = torch.softmax(actor(torch.from_numpy(x).to(actor.last.weight.dtype)), -1).numpy()
    np.testing.assert_allclose(policy.action_probs(x), expected, atol=1e-6)
    agent.learn(random_window())
    np.testing.assert_allclose(policy.action_probs(x), expected, atol=1e-6)
    assert not np.allclose(agent.action_probs(x[0]), expected[0], atol=1e-6)
    assert not is_portable(agent.state())
    with pytest.raises(
        Unsuitable, match="fast=True, but the update cannot be computed by hand: the actor is more"
    ):
        _agent(actor=_Residual(3), fast=True)


# Learning


def test_the_first_ratio_is_exactly_one_for_the_agents_own_version():
    agent = _agent()
    for number in range(3):
        window = random_window(number, metadata={"policy_version": number}, log_probs=np.full((48, 4), -3.0))
        report = agent.learn(window)
        assert report["initial_ratio_error"] == 0.0
        assert report["initial_kl"] == 0.0
    assert agent.policy_version == 3


@pytest.mark.parametrize(("learner", "error"), [(31, 0.0), (32, 1.0)])
def test_whoever_drives_the_learner_may_count_its_versions(learner, error):
    metadata = {"policy_version": 31, "learner_version": learner}
    report = _agent().learn(random_window(0, metadata=metadata, log_probs=np.full((48, 4), -3.0)))
    assert (report["initial_ratio_error"] > 0.5) == (error > 0.5)


def test_an_older_policys_recorded_log_probabilities_count():
    reports = []
    for shift in (0.0, 0.5):
        agent = _agent()
        recorded = np.full((48, 4), np.log(1 / 3) - shift)
        reports.append(agent.learn(random_window(0, metadata={"policy_version": -1}, log_probs=recorded)))
    assert reports[1]["initial_ratio_error"] > reports[0]["initial_ratio_error"] + 0.3


def test_recorded_and_recomputed_log_probabilities_of_the_same_policy_agree():
    agents = []
    for metadata in ({}, {"policy_version": 0}):
        agent = _agent()
        window = random_window(0, metadata=metadata)
        acted = agent.act_batch(np.asarray(window.observations).reshape(-1, 4))
        window.actions = acted.actions.reshape(48, 4)
        window.log_probs = acted.log_probs.reshape(48, 4)
        agent.reseed(np.random.default_rng(0))
        agent.learn(window)
        agents.append(agent)
    _same(*agents, atol=1e-5, rtol=1e-4)


def test_a_list_window_without_log_probs_is_learnt_from():
    agent = _agent()
    rows = list(np.random.default_rng(0).standard_normal((30, 4)))
    window = EpisodeData(
        rows, [agent.act(r) for r in rows], [1.0] * 30, [False] * 29 + [True], [False] * 30, [{}] * 30, 0
    )
    report = agent.learn(window)
    assert report["samples"] == 30
    assert report["steps_without_successor"] == 0
    window.terminated = [False] * 30
    assert agent.learn(window)["steps_without_successor"] == 1


def test_by_hand_and_by_torch_the_agent_learns_the_same():
    agents = [_agent(fast=fast, obs_normalizer=ObsNormalizer((4,)), reward_normalizer=RewardNormalizer())
              for fast in (True, False)]  # fmt: skip
    for number in range(4):
        reports = [agent.learn(random_window(number)) for agent in agents]
        assert reports[0] == pytest.approx(reports[1], rel=1e-3, abs=1e-4)
    _same(*agents, atol=1e-4, rtol=1e-3)


def test_rows_that_are_no_transitions_change_nothing():
    agents = []
    for junk in (0.0, 1e6):
        window = random_window(0)
        valid = np.ones((48, 4), bool)
        valid[1:] = ~(window.terminated | window.truncated)[:-1]
        for name in ("observations", "rewards", "final_observations"):
            array = np.array(getattr(window, name))
            array[~valid] = junk
            setattr(window, name, array)
        window.valid = valid
        agents.append(_agent(obs_normalizer=ObsNormalizer((4,)), reward_normalizer=RewardNormalizer()))
        assert agents[-1].learn(window)["samples"] == valid.sum()
    _same(*agents)


def test_the_statistics_of_a_window_are_used_only_after_it():
    agent = _agent(obs_normalizer=ObsNormalizer((4,)))
    window = random_window(0, metadata={"policy_version": 0})
    window.observations = window.observations + 5.0
    acted = agent.act_batch(window.observations.reshape(-1, 4))
    window.actions, window.metadata = acted.actions.reshape(48, 4), {}
    window.log_probs = acted.log_probs.reshape(48, 4)
    assert agent.learn(window)["initial_ratio_error"] < 1e-5
    np.testing.assert_allclose(agent._obs_normalizer.mean, window.observations.mean((0, 1)), atol=1e-3)


def test_the_same_seed_learns_the_same_bits_and_another_does_not():
    agents = []
    for seed in (1, 1, 2):
        agent = _agent()
        agent.reseed(np.random.default_rng(seed))
        for number in range(3):
            agent.learn(random_window(number))
        agents.append(agent)
    _same(agents[0], agents[1])
    with pytest.raises(AssertionError):
        _same(agents[0], agents[2])


def test_torchs_own_seed_covers_an_agent_without_one():
    draws = []
    for _ in range(2):
        actor, critic = _networks()
        agent = TorchPPOAgent(actor, critic, torch.optim.Adam([*actor.parameters(), *critic.parameters()]))
        draws.append(agent.act_batch(np.zeros((50, 4), np.float32)).actions.tolist())
    assert draws[0] == draws[1]


@pytest.mark.parametrize("fast", [True, False])
def test_a_failure_names_window_and_statistics_and_leaves_the_agent_as_it_was(fast):
    agent, twin = (_agent(fast=fast, reward_normalizer=RewardNormalizer()) for _ in range(2))
    for each in (agent, twin):
        each.learn(random_window(0))
        each.set_hyperparams({"learning_rate": 1e30})
    with pytest.raises(LearningFailure, match=r"window 9: .* not finite \(.*rewards -\d.* to \d.*, returns "):
        agent.learn(random_window(9))
    _same(agent, twin)
    assert agent.policy_version == twin.policy_version == 1


def test_actions_that_the_actor_does_not_have_are_refused_by_number():
    with pytest.raises(Unsuitable, match="from 0 to 3 in the window, but the actor has 3 outputs"):
        _agent().learn(random_window(0, actions=np.arange(192).reshape(48, 4) % 4))
    with pytest.raises(Unsuitable, match="actions of 2 numbers"):
        _agent().learn(random_window(0, actions=np.zeros((48, 4, 2))))


def test_networks_of_the_wrong_size_are_refused_with_both_sizes():
    with pytest.raises(
        Unsuitable, match=r"the actor gives \[2, 5\] for 2 observations of vector, expected \[2, 3\]"
    ):
        _agent(actor=nn.Linear(4, 5), spaces=VECTOR)
    with pytest.raises(Unsuitable, match="the critic does not take observations of vector, shape \\[4\\]"):
        _agent(critic=nn.Linear(7, 1), spaces=VECTOR)


def test_a_subclass_may_read_the_networks_and_extend_learning():
    class Logging(TorchPPOAgent):
        def learn(self, episode_data):
            report = super().learn(episode_data)
            with torch.no_grad():
                x = torch.as_tensor(np.asarray(episode_data.observations, np.float32).reshape(-1, 4))
                report["p_first"] = float(torch.softmax(self._actor(x), -1)[:, 0].mean())
            report["gamma"] = self._hyperparams.params["gamma"]
            return report

    actor, critic = _networks()
    report = Logging(actor, critic, torch.optim.Adam([*actor.parameters(), *critic.parameters()])).learn(
        random_window()
    )
    assert 0 < report["p_first"] < 1
    assert report["gamma"] == 0.99


# Hyperparameters


def test_a_learning_rate_reaches_the_optimizer_and_groups_keep_their_proportion():
    actor, critic = _networks()
    groups = [{"params": actor.parameters(), "lr": 1e-3}, {"params": critic.parameters(), "lr": 2e-3}]
    agent = TorchPPOAgent(actor, critic, torch.optim.Adam(groups))
    agent.set_hyperparams(HyperparamSet({"learning_rate": 5e-4}))
    assert [group["lr"] for group in agent._optimizer.param_groups] == pytest.approx([5e-4, 1e-3])
    assert agent.get_hyperparams().params["learning_rate"] == 5e-4


@pytest.mark.parametrize("fast", [True, False])
def test_a_learning_rate_changes_how_far_the_weights_move(fast):
    moved = []
    for rate in (1e-5, 1e-2):
        agent = _agent(fast=fast)
        agent.set_hyperparams(HyperparamSet({"learning_rate": rate}))
        before = agent._actor[0].weight.detach().clone()
        agent.learn(random_window())
        moved.append(float((agent._actor[0].weight.detach() - before).abs().mean()))
    assert moved[1] > 100 * moved[0]


def test_a_wrong_hyperparameter_changes_nothing():
    agent = _agent()
    before = agent.get_hyperparams().params
    with pytest.raises(ConfigurationError, match="did you mean 'minibatch_size'"):
        agent.set_hyperparams(HyperparamSet({"gamma": 0.5, "mini_batch_size": 3}))
    assert agent.get_hyperparams().params == before


CHANGES = {
    "learning_rate": 1e-2,
    "clip_ratio": 0.001,
    "entropy_coef": 1.0,
    "vf_coef": 0.0,
    "gamma": 0.5,
    "gae_lambda": 0.1,
    "n_epochs": 3,
    "minibatch_size": 32,
    "max_grad_norm": 1e-3,
    "target_kl": 1e-6,
    "normalize_advantage": False,
    "clip_value": 1e-3,
}


@pytest.mark.parametrize(("name", "value"), CHANGES.items())
@pytest.mark.parametrize("fast", [True, False])
def test_every_hyperparameter_changes_what_is_learnt(name, value, fast):
    plain, other = _agent(fast=fast), _agent({**QUICK, name: value}, fast=fast)
    assert plain.get_hyperparams().params.keys() == CHANGES.keys()
    for agent in (plain, other):
        agent.learn(random_window())
        agent.learn(random_window(1))
    weights = [_weights(agent) for agent in (plain, other)]
    assert np.abs(weights[0] - weights[1]).max() > 1e-6


# State


def test_a_restored_agent_goes_on_to_the_bit():
    first, second = (
        _agent(obs_normalizer=ObsNormalizer((4,)), reward_normalizer=RewardNormalizer()) for _ in range(2)
    )
    for number in range(2):
        first.learn(random_window(number))
    state = first.state()
    assert state.metadata["algorithm"] == "ppo"
    second.load_state(NamedArrays(state.arrays, json.loads(json.dumps(dict(state.metadata)))))
    assert second.policy_version == 2
    for agent in (first, second):
        agent.reseed(np.random.default_rng(3))
        agent.learn(random_window(5))
    _same(first, second)


@pytest.mark.parametrize("name", ["folder", "file.safetensors"])
def test_weights_on_disk_bring_policy_and_moments_back(tmp_path, name):
    agent = _agent()
    agent.learn(random_window(0))
    agent.save_weights(str(tmp_path / name))
    saved = agent.state()
    for number in range(1, 3):
        agent.learn(random_window(number))
    agent.load_weights(str(tmp_path / name))
    for key, array in agent.state().arrays.items():
        np.testing.assert_array_equal(array, saved.arrays[key], err_msg=key)
    assert agent.policy_version == 1


def test_loading_weights_keeps_the_hyperparameters_in_force(tmp_path):
    agent = _agent()
    agent.learn(random_window())
    agent.save_weights(str(tmp_path / "w"))
    agent.set_hyperparams(HyperparamSet({"learning_rate": 5e-3}))
    agent.load_weights(str(tmp_path / "w"))
    assert agent.get_hyperparams().params["learning_rate"] == 5e-3
    assert agent._optimizer.param_groups[0]["lr"] == 5e-3


def test_a_state_is_a_copy_that_learning_does_not_change():
    agent = _agent()
    agent.learn(random_window(0))
    state = agent.state()
    before = {name: array.copy() for name, array in state.arrays.items()}
    agent.learn(random_window(1))
    for name, array in state.arrays.items():
        np.testing.assert_array_equal(array, before[name])


def test_acting_leaves_no_trace_in_the_state():
    agent = _agent()
    before = agent.state()
    agent.act_batch(np.zeros((100, 4), np.float32))
    after = agent.state()
    assert before.metadata == after.metadata
    assert all(before.arrays[name].tobytes() == after.arrays[name].tobytes() for name in before.arrays)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda arrays: arrays.pop("critic.2.bias"), "lack critic.2.bias"),
        (lambda arrays: arrays.update({"actor.0.weight": np.zeros((9, 4), np.float32)}), r"shape \[9, 4\]"),
        (lambda arrays: arrays.pop("reward_normalizer.mean"), "do not fit this agent"),
        (
            lambda arrays: [arrays.pop(k) for k in list(arrays) if k.startswith("reward")],
            r"lack reward_normalizer\.",
        ),
    ],
)
def test_a_foreign_state_is_refused_and_changes_nothing(spoil, message):
    agent = _agent(reward_normalizer=RewardNormalizer())
    agent.learn(random_window(0))
    foreign = agent.state()
    agent.learn(random_window(1))
    before = agent.state()
    arrays = dict(foreign.arrays)
    spoil(arrays)
    with pytest.raises(CheckpointError, match=message):
        agent.load_state(NamedArrays(arrays, foreign.metadata))
    for name, array in agent.state().arrays.items():
        np.testing.assert_array_equal(array, before.arrays[name], err_msg=name)


def test_averaged_weights_are_the_mean_of_what_was_saved(tmp_path):
    agent = _agent()
    for number in range(2):
        agent.learn(random_window(number))
        agent.save_weights(str(tmp_path / str(number)))
        agent.perturb_weights(0.1)
    agent.average_weights([str(tmp_path / "0"), str(tmp_path / "1")])
    other = _agent()
    weights = []
    for number in range(2):
        other.load_weights(str(tmp_path / str(number)))
        weights.append(other._actor[0].weight.detach().numpy().copy())
    np.testing.assert_allclose(agent._actor[0].weight.detach().numpy(), np.mean(weights, 0), atol=1e-7)
    assert not agent._optimizer.state
    agent.learn(random_window(3))
    with pytest.raises(CheckpointError, match="at least one path"):
        agent.average_weights([])


def test_perturbed_weights_move_in_proportion_to_the_noise():
    agent = _agent()
    before = agent._critic[0].weight.detach().clone()
    agent.perturb_weights(0.05)
    ratio = (agent._critic[0].weight.detach() / before).numpy() - 1
    assert abs(ratio.mean()) < 0.05
    assert ratio.std() == pytest.approx(0.05, rel=0.4)


def test_a_reward_normalizer_of_another_kind_is_refused():
    with pytest.raises(ConfigurationError, match="reward_normalizer is a dict"):
        _agent(reward_normalizer={})


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(ConfigurationError, match="cannot be used here"):
        _agent(device="cuda:17")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_it_learns_what_it_learns_on_the_cpu():
    here, there = _agent(device="cpu", fast=False), _agent(device="cuda")
    for number in range(3):
        here.learn(random_window(number))
        there.learn(random_window(number))
    _same(here, there, atol=1e-3, rtol=1e-2)
    x = np.zeros((8, 4), np.float32)
    np.testing.assert_allclose(here.policy().action_probs(x), there.policy().action_probs(x), atol=1e-3)
    there.teardown()
    assert there.act(x[0]) in (0, 1, 2)
