"""An ensemble is an agent like any other: it acts, learns, is saved and comes back."""

from __future__ import annotations

import numpy as np
import pytest

from optix_bus import CheckpointRegistry, EnsembleAgent, PolicyManager, make_agent
from optix_bus.agents.acting import load_policy
from optix_bus.errors import CheckpointError, Unsuitable
from optix_bus.interfaces import ArrayAgent
from optix_bus.types import ArraySpec, EpisodeData, SpaceSpec
from tests.evolution.agents import Constant

OBSERVATION = np.zeros(4, np.float32)
SPACES = SpaceSpec("e", ArraySpec("box", (4,), "float32"), ArraySpec("discrete", (), "int64", n=3))


def ppo(seed):
    return make_agent(SPACES, hidden_sizes=(8,), device="cpu", seed=seed, hyperparams={"n_epochs": 1})


def ensemble_of(tmp_path, *agents, weights=None):
    pm = PolicyManager(CheckpointRegistry(tmp_path / "snapshots"))
    for agent, weight in zip(agents, weights or [1.0] * len(agents), strict=True):
        pm.add_agent(agent, weight)
    return EnsembleAgent(pm, primary_agent=agents[0]), pm


def window(rows=24):
    rng = np.random.default_rng(0)
    return EpisodeData(
        observations=rng.standard_normal((rows, 4)).astype(np.float32),
        actions=rng.integers(0, 3, rows),
        rewards=rng.standard_normal(rows).astype(np.float32),
        terminated=np.arange(rows) % 8 == 7,
        truncated=np.zeros(rows, bool),
        final_observations=rng.standard_normal((rows, 4)).astype(np.float32),
        log_probs=np.full(rows, -1.0, np.float32),
        metadata={"policy_version": 3, "learner_version": 3},
    )


def test_continuous_actions_are_averaged_by_the_weights_of_that_moment(tmp_path):
    ensemble, pm = ensemble_of(tmp_path, Constant(1.0), Constant(4.0))
    assert ensemble.act(OBSERVATION) == pytest.approx([2.5])
    pm.boost(pm.agents[1], factor=2.0)
    assert ensemble.act(OBSERVATION) == pytest.approx([3.0])
    assert pm.ensemble_action(OBSERVATION) == pytest.approx([3.0])
    pm.prune()
    assert ensemble.act(OBSERVATION) == pytest.approx([4.0])


def test_without_members_the_primary_agent_acts_alone(tmp_path):
    pm = PolicyManager(CheckpointRegistry(tmp_path / "snapshots"))
    assert EnsembleAgent(pm, primary_agent=Constant(9.0)).act(OBSERVATION) == pytest.approx([9.0])


def test_discrete_agents_give_an_action_that_exists_and_never_a_vector(tmp_path):
    ensemble, _ = ensemble_of(tmp_path, ppo(1), ppo(2))
    assert isinstance(ensemble.act(OBSERVATION), int)
    rows = np.random.default_rng(1).standard_normal((50, 4)).astype(np.float32)
    own = np.mean([agent.action_probs_batch(rows) for agent in (ppo(1), ppo(2))], axis=0)
    assert ensemble.action_probs_batch(rows) == pytest.approx(own, abs=1e-6)
    with ensemble.evaluation_mode():
        assert ensemble.act_batch(rows).actions.tolist() == own.argmax(axis=1).tolist()


def test_the_same_generator_gives_the_same_actions(tmp_path):
    ensemble, _ = ensemble_of(tmp_path, ppo(1), ppo(2))
    rows = np.random.default_rng(1).standard_normal((50, 4)).astype(np.float32)
    drawn = []
    for _ in range(2):
        ensemble.reseed(np.random.default_rng(7))
        drawn.append(ensemble.act_batch(rows).actions.tolist())
    assert drawn[0] == drawn[1]


def test_the_primary_agent_alone_learns_and_knows_that_it_was_not_alone(tmp_path):
    first, second = Constant(1.0), Constant(2.0)
    ensemble, pm = ensemble_of(tmp_path, first, second)
    data = window()
    assert ensemble.learn(data) == {"loss": 0.0}
    assert second.windows == []
    assert "policy_version" not in first.windows[0].metadata
    assert data.metadata["policy_version"] == 3
    pm.prune(1, keep=[first])
    ensemble.learn(data)
    assert first.windows[1] is data


def test_ppo_corrects_for_what_the_others_did_by_the_log_probabilities_of_the_ensemble(tmp_path):
    primary = ppo(1)
    ensemble, _ = ensemble_of(tmp_path, primary, ppo(2))
    together = ensemble.learn(window())
    alone = ppo(1).learn(window())
    assert alone["approx_kl"] != pytest.approx(together["approx_kl"])


def test_a_state_holds_every_member_and_its_weight(tmp_path):
    ensemble, pm = ensemble_of(tmp_path, Constant(1.0), Constant(4.0), weights=[1.0, 3.0])
    before = ensemble.state()
    ensemble.save_weights(str(tmp_path / "weights"))
    for member in pm.members:
        member.agent.level, member.weight = 0.0, 9.0
    ensemble.load_weights(str(tmp_path / "weights"))
    assert ([agent.level for agent in pm.agents], pm.weights) == ([1.0, 4.0], [1.0, 3.0])
    pm.prune(1)
    pm.add_agent(Constant(5.0))
    ensemble.load_state(before)  # who left stays away, who came later stays as it is
    assert [agent.level for agent in pm.agents] == [4.0, 5.0]
    with pytest.raises(CheckpointError, match="EnsembleAgent"):
        ensemble.load_state(ppo(1).state())


def test_its_policy_travels_where_those_of_its_members_do(tmp_path):
    ensemble, _ = ensemble_of(tmp_path, ppo(1), ppo(2), weights=[1.0, 2.0])
    assert isinstance(ensemble, ArrayAgent)
    rows = np.random.default_rng(1).standard_normal((9, 4)).astype(np.float32)
    loaded = load_policy(ensemble.state())
    assert loaded.action_probs_batch(rows) == pytest.approx(ensemble.action_probs_batch(rows), abs=1e-6)
    for policy in (loaded, ensemble.policy()):
        policy.reseed(np.random.default_rng(3))
    ensemble.reseed(np.random.default_rng(3))
    own = ensemble.act_batch(rows)
    assert loaded.act_batch(rows).actions.tolist() == own.actions.tolist()
    assert ensemble_of(tmp_path / "b", Constant(1.0))[0].state().metadata["policy"]["kind"] == "agent"


def test_hyperparameters_and_kind_are_those_of_the_primary_agent(tmp_path):
    first, second = Constant(1.0), Constant(2.0)
    ensemble, _ = ensemble_of(tmp_path, first, second)
    params = ensemble.get_hyperparams()
    params.params["learning_rate"] = 0.5
    ensemble.set_hyperparams(params)
    assert (first.params["learning_rate"], second.params["learning_rate"]) == (0.5, 1e-2)
    assert ensemble.is_on_policy
    ensemble.teardown()
    assert (first.torn_down, second.torn_down) == (1, 1)


def test_a_variant_of_an_ensembles_snapshot_is_cloned_from_the_member_and_not_from_all(tmp_path):
    ensemble, pm = ensemble_of(tmp_path, Constant(1.0), Constant(4.0))
    from optix_bus.types import EvalMetrics, HyperparamSet

    pm.registry.save(ensemble, EvalMetrics(10.0), HyperparamSet({"learning_rate": 1e-2}))
    pm.agents[1].level = 0.0
    assert pm.spawn_variant(Constant()).level == 1.0
    assert pm.evolve(pm.agents[1], 3.0)
    assert pm.agents[1].level == 4.0


def test_agents_with_a_memory_are_refused(tmp_path):
    agent = make_agent(SPACES, algorithm="recurrent_ppo", hidden_sizes=(4,), device="cpu", seed=0)
    ensemble, _ = ensemble_of(tmp_path, agent)
    with pytest.raises(Unsuitable, match="remembers its episodes"):
        ensemble.act(OBSERVATION)
