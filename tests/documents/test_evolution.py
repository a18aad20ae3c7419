"""Policy evolution, ensembles and regimes, as the documents show them."""

from __future__ import annotations

import shutil

import gymnasium as gym
import numpy as np
import pytest

from optix_bus import (
    BatchPipeline,
    CheckpointRegistry,
    EnsembleAgent,
    EvalMetrics,
    MetaController,
    PolicyManager,
    RegimeDetector,
    RLOptimizer,
    make_agent,
)


def agent_for(seed=0):
    env = gym.make("CartPole-v1")
    return make_agent(env, hidden_sizes=(8,), device="cpu", hyperparams={"n_epochs": 1}, seed=seed)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def registry():
    return CheckpointRegistry("./checkpoints")


def loop(agent, callbacks=(), windows=2, **options):
    env = gym.make("CartPole-v1")
    return RLOptimizer(
        agent=agent,
        pipeline=BatchPipeline(env=env, agent=agent, window_size=64),
        callbacks=list(callbacks),
        max_episodes=windows,
        **options,
    )


def quickly(**options):
    """A loop that takes any few evaluations for a plateau."""
    return {
        "convergence": "classical", "convergence_window": 5, "looks": 1, "dormant_threshold": 1,
        "score_floor": 0.0, "noise_k": 99.0, "windows": 30, "val_episodes": 2, **options,
    }  # fmt: skip


def test_automatic_rollback_with_a_registry_of_ones_own(registry):
    agent = agent_for()
    pm = PolicyManager(registry)
    loop(agent, [pm.as_callback(agent)]).run()
    # ... and with the loop's snapshots in the same folder.
    again = agent_for()
    pm = PolicyManager(CheckpointRegistry("./same"))
    loop(again, [pm.as_callback(again)], checkpoint_dir="./same").run()
    assert pm.best is not None


def test_a_spawn_budget_ends_the_run(registry, capsys):
    agent = agent_for()
    pm = PolicyManager(registry, max_spawns=3)
    cb = pm.as_callback(agent)
    opt = loop(agent, [], **quickly(val_pipeline=BatchPipeline(env=gym.make("CartPole-v1"))))
    cb.set_stop_fn(opt.stop)
    opt.add_callback(cb)
    opt.run()
    assert pm.budget_exhausted
    said = capsys.readouterr().out
    for words in ("Training complete", "Best score", "Spawns used          3 / 3", "Pruned agents", "Regime"):
        assert words in said


def test_autonomous_spawning_with_a_factory_and_a_meta_controller(registry):
    agent = agent_for()

    def make_agent():
        return agent_for(seed=1)

    pm = PolicyManager(registry, max_spawns=2, max_ensemble_size=2)
    cb = pm.as_callback(
        agent,
        agent_factory=make_agent,
        meta_controller=MetaController(gap_threshold=9.0, gap_slope_threshold=9.0, improvement_threshold=9.0),
    )
    opt = loop(agent, [], **quickly(val_pipeline=BatchPipeline(env=gym.make("CartPole-v1"))))
    cb.set_stop_fn(opt.stop)
    opt.add_callback(cb)
    opt.run()
    assert len(pm.lineages) == 2
    assert pm.ensemble_size <= 2


def test_spawning_variants_by_hand_and_an_ensemble_of_them(registry):
    primary_agent = agent_for()
    pm = PolicyManager(registry)
    pm.add_agent(primary_agent, weight=1.0)
    variant = pm.spawn_variant(agent_for(), noise_scale=0.05)
    pm.add_agent(variant, weight=0.5)
    ensemble = EnsembleAgent(pm, primary_agent=primary_agent)
    assert ensemble.act(np.zeros(4, np.float32)) in (0, 1)

    def perturb_weights(agent):
        agent.perturb_weights(0.01)

    variant = pm.spawn_variant(agent_for(), mutation_fn=perturb_weights)
    removed = pm.prune(bottom_k=1)
    assert len(removed) == 1
    removed[0].teardown()  # also by hand


def test_an_ensemble_for_three_regimes_in_the_loop(registry):
    agent_trending, agent_ranging, agent_volatile = (agent_for(seed) for seed in range(3))
    pm = PolicyManager(registry)
    pm.add_agent(agent_trending, weight=1.0)
    pm.add_agent(agent_ranging, weight=1.0)
    pm.add_agent(agent_volatile, weight=1.0)
    ensemble = EnsembleAgent(pm, primary_agent=agent_trending)
    loop(ensemble, [pm.as_callback(agent_trending)]).run()
    pm.record_agent_score(0, 1.2)
    pm.record_agent_score(1, 0.4)
    pm.record_agent_score(2, 0.2)
    pm.auto_update_weights()
    assert pm.weights == sorted(pm.weights, reverse=True)


def test_regimes_are_detected_and_a_domain_brings_its_own_detector(registry):
    detector = RegimeDetector(volatility_threshold=0.2, trend_threshold=0.05, window=10)
    metrics_history = [EvalMetrics(primary_score=10.0 + k, metrics={}, episode_id=k) for k in range(12)]
    regime = detector.detect(metrics_history)
    assert regime == "trending"
    pm = PolicyManager(registry)
    for seed in range(3):
        pm.add_agent(agent_for(seed))
    regime_to_idx = {"trending": 0, "ranging": 1, "volatile": 2}
    pm.record_agent_score(regime_to_idx[regime], metrics_history[-1].primary_score)
    current_vix, atr_percentile = 12.0, 80.0

    class MarketRegimeDetector(RegimeDetector):
        def detect(self, metrics_history):
            if current_vix > 30:
                return "volatile"
            if atr_percentile > 70:
                return "trending"
            return "ranging"

    assert MarketRegimeDetector().detect([]) == "trending"


def test_a_folder_that_was_cleared_is_a_new_start():
    shutil.rmtree("./checkpoints", ignore_errors=True)
    agent = agent_for()
    loop(agent, checkpoint_dir="./checkpoints").run()
    shutil.rmtree("./checkpoints", ignore_errors=True)
    loop(agent_for(), checkpoint_dir="./checkpoints").run()
