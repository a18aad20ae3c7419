"""The policy manager by itself: members, weights, variants, and what it refuses."""

from __future__ import annotations

import json
import math

import pytest

from optix_bus import CheckpointRegistry, PolicyManager
from optix_bus.errors import CheckpointError, ConfigurationError
from optix_bus.types import EvalMetrics, HyperparamSet
from tests.evolution.agents import Constant


def save(registry, level, score, **params):
    agent = Constant(level)
    agent.params.update(params)
    return registry.save(agent, EvalMetrics(score, {}, 0, 0.0), agent.get_hyperparams())


@pytest.fixture
def registry(tmp_path):
    return CheckpointRegistry(tmp_path / "snapshots")


def team(registry, *weights, **options):
    pm = PolicyManager(registry, **options)
    for number, weight in enumerate(weights):
        pm.add_agent(Constant(float(number)), weight=weight)
    return pm


def test_weights_follow_the_rolling_mean_of_the_scores(registry):
    pm = team(registry, 1.0, 1.0, 1.0, score_window=3)
    for score in (900.0, 10.0, 10.0, 10.0):  # the first falls out of the window
        pm.record_agent_score(0, score)
    pm.record_agent_score(1, 30.0)
    pm.record_agent_score(1, float("nan"))
    assert pm.auto_update_weights() == pytest.approx([0.5, 1.5, 1.0])
    assert pm.status()["mean_scores"][:2] == [10.0, 30.0]


def test_without_any_score_weights_stay_and_given_scores_move_only_who_is_named(registry):
    pm = team(registry, 1.0, 4.0, 2.0)
    assert pm.auto_update_weights() == [1.0, 4.0, 2.0]
    assert pm.update_weights({0: 1.0, 2: 3.0}) == pytest.approx([0.5, 4.0, 1.5])


def test_boost_multiplies_a_weight(registry):
    pm = team(registry, 1.0, 1.0)
    pm.boost(pm.agents[1], factor=3.0)
    pm.boost(pm.agents[1])
    assert pm.weights == [1.0, 6.0]
    with pytest.raises(ConfigurationError, match="add_agent first"):
        pm.boost(Constant())


def test_prune_removes_the_least_weights_tears_them_down_once_and_leaves_one(registry):
    pm = team(registry, 3.0, 1.0, 2.0)
    before = pm.agents
    assert pm.prune(bottom_k=1) == [before[1]]
    assert [agent.torn_down for agent in before] == [0, 1, 0]
    assert pm.prune(bottom_k=9) == [before[2]]
    assert pm.prune() == []
    assert (pm.ensemble_size, pm.status()["pruned"]) == (1, 2)


def test_who_is_to_be_kept_is_not_pruned_and_of_equals_the_youngest_goes(registry):
    pm = team(registry, 1.0, 1.0, 5.0)
    first, second, third = pm.agents
    assert pm.prune(1, keep=[second]) == [first]
    assert pm.prune(1, keep=[second]) == [third]


def test_a_variant_has_the_best_weights_and_hyperparameters_nearby(registry):
    save(registry, 1.0, 10.0, learning_rate=0.05)
    best = save(registry, 7.0, 30.0, learning_rate=0.02)
    pm = PolicyManager(registry, seed=4)
    variant = pm.spawn_variant(Constant(), noise_scale=0.05)
    assert variant.level == 7.0
    assert variant.params["learning_rate"] == pytest.approx(0.02, abs=0.03)
    assert variant.params["learning_rate"] != 0.02
    (lineage,) = pm.lineages
    assert (lineage.variant, lineage.parent, lineage.noise_scale) == (1, best.snapshot_id, 0.05)
    again = PolicyManager(registry, seed=4).spawn_variant(Constant(), noise_scale=0.05)
    assert again.params == variant.params


def test_the_lineage_stands_in_the_manifest_of_what_is_saved_of_a_variant(registry):
    best = save(registry, 7.0, 30.0)
    pm = PolicyManager(registry)
    variant = pm.spawn_variant(Constant(), 0.05, mutation_fn=lambda agent: setattr(agent, "level", 8.0))
    saved = registry.save(variant, EvalMetrics(40.0), HyperparamSet(variant.params))
    written = json.loads((registry.directory / saved.snapshot_id / "manifest.json").read_text())
    assert written["manifest"]["variant"] == {
        "variant": 1,
        "parent": best.snapshot_id,
        "noise_scale": 0.05,
        "seed": pm.lineages[0].seed,
        "mutated": True,
    }
    other = CheckpointRegistry(registry.directory, run_id=registry.run_id)
    assert other.manifest(saved).variant["parent"] == best.snapshot_id
    assert other.manifest(best).variant == {}


def test_a_mutation_function_changes_the_weights_after_the_clone(registry):
    save(registry, 7.0, 30.0)
    pm = PolicyManager(registry, max_spawns=1)
    with pytest.raises(RuntimeError):
        pm.spawn_variant(Constant(), mutation_fn=lambda agent: (_ for _ in ()).throw(RuntimeError("no")))
    assert pm.spawns_remaining == 1  # one that failed is not counted
    assert pm.spawn_variant(Constant(), mutation_fn=lambda agent: setattr(agent, "level", 8.5)).level == 8.5
    assert pm.budget_exhausted
    with pytest.raises(ConfigurationError, match="budget of 1 is spent"):
        pm.spawn_variant(Constant())


def test_without_a_snapshot_the_first_member_is_cloned_and_without_that_it_is_said(registry):
    pm = PolicyManager(registry)
    with pytest.raises(ConfigurationError, match="something to clone"):
        pm.spawn_variant(Constant())
    pm.add_agent(Constant(3.0, learning_rate=0.03))
    variant = pm.spawn_variant(Constant(), noise_scale=0.0)
    assert (variant.level, variant.params["learning_rate"]) == (3.0, pytest.approx(0.03))


def test_a_damaged_best_is_passed_over_and_only_damaged_ones_are_an_error(registry):
    good, best = save(registry, 1.0, 10.0), save(registry, 7.0, 30.0)
    (registry.directory / best.snapshot_id / "weights" / "weights").write_text("9.0")
    assert PolicyManager(registry).spawn_variant(Constant()).level == 1.0
    (registry.directory / good.snapshot_id / "weights" / "weights").write_text("9.0")
    with pytest.raises(CheckpointError, match="no usable snapshot"):
        PolicyManager(CheckpointRegistry(registry.directory, run_id=registry.run_id)).spawn_variant(
            Constant()
        )


def test_it_sees_what_another_registry_has_written_into_the_folder(registry):
    pm = PolicyManager(registry)
    assert pm.best is None
    save(CheckpointRegistry(registry.directory, run_id="the loop"), 4.0, 12.0)
    assert pm.best is not None
    assert [s.eval_metrics.primary_score for s in pm.ranked_snapshots] == [12.0]


def test_evolve_rolls_back_only_what_is_worse_than_the_best(registry):
    save(registry, 7.0, 30.0)
    pm, agent = PolicyManager(registry), Constant(1.0)
    assert not pm.evolve(agent, 30.0)
    assert not pm.evolve(agent, float("nan"))
    assert agent.level == 1.0
    assert pm.evolve(agent, 29.9)
    assert agent.level == 7.0


def test_the_report_says_what_has_happened(registry):
    registry.save(
        Constant(2.0),
        EvalMetrics(30.0, {"val_score": 30.0, "train_score": 33.0, "generalization_gap": 3.0}),
        HyperparamSet({}),
    )
    pm = team(registry, 1.0, 1.0, max_spawns=2, max_ensemble_size=4)
    pm.spawn_variant(Constant())
    pm.record_agent_score(0, 5.0)
    pm.set_regime("trending")
    text = pm.training_report("the spawn budget is spent")
    for words in (
        "30.0000",
        "3.0000",
        "1 / 2",
        "trending",
        "[0] weight=1.0000  mean_score=5.0000",
        "unknown",
    ):
        assert words in text
    assert pm.status()["spawns_remaining"] == 1


@pytest.mark.parametrize("options", [{"score_window": 0}, {"max_ensemble_size": 0}, {"max_spawns": -1}])
def test_limits_that_allow_nothing_are_refused(registry, options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        PolicyManager(registry, **options)


def test_wrong_members_are_refused(registry):
    pm = team(registry, 1.0)
    with pytest.raises(ConfigurationError, match="already"):
        pm.add_agent(pm.agents[0])
    with pytest.raises(ConfigurationError, match="weight"):
        pm.add_agent(Constant(), weight=-1.0)
    with pytest.raises(ConfigurationError, match="found agent 5"):
        pm.record_agent_score(5, 1.0)
    assert math.isnan(pm.status()["best_score"])
