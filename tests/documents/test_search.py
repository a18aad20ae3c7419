"""The search over trials, named and called as the documents show it."""

from __future__ import annotations

import gymnasium as gym

from optix_bus import BatchPipeline, HyperparamSet, RLOptimizer, TorchPPOAgent, TrialOrchestrator
from optix_bus import make_agent as agent_for


def small_agent(params: dict):
    """An agent of one's own making, from params that a trial has chosen."""
    import torch

    actor = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
    critic = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    both = [*actor.parameters(), *critic.parameters()]
    return TorchPPOAgent(
        actor=actor,
        critic=critic,
        optimizer=torch.optim.Adam(both, lr=params["learning_rate"]),
        hyperparams=HyperparamSet(params=params, episode_id=0),
    )


def make_pipeline():
    return BatchPipeline(env_id="CartPole-v1", n_steps=64)


def test_search_by_steps_gives_a_pair_that_the_main_run_starts_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    orchestrator = TrialOrchestrator(
        agent_factory=small_agent,
        pipeline_factory=make_pipeline,
        param_space={
            "learning_rate": ("log_float", 1e-4, 3e-3),
            "clip_ratio": ("float", 0.1, 0.3),
            "entropy_coef": ("float", 0.001, 0.05),
            "gamma": ("float", 0.95, 0.999),
        },
        n_trials=2,
        trial_steps=128,
    )
    best_params, best_score = orchestrator.run()
    assert set(best_params) == {"learning_rate", "clip_ratio", "entropy_coef", "gamma"}
    assert best_score == orchestrator.study.best_value
    agent = small_agent(best_params)
    optimizer = RLOptimizer(agent=agent, pipeline=make_pipeline(), max_episodes=2)
    assert optimizer.run().windows == 2


def test_search_by_episodes_gives_a_mapping_of_the_params(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make_agent(params):
        env = gym.make("CartPole-v1")
        chosen = {**params, "minibatch_size": params["batch_size"]}
        chosen.pop("batch_size")
        return agent_for(env, hidden_sizes=(16,), hyperparams=chosen)

    orch = TrialOrchestrator(
        agent_factory=make_agent,
        pipeline_factory=make_pipeline,
        param_space={
            "learning_rate": ("log_float", 1e-4, 3e-3),
            "clip_ratio": ("float", 0.1, 0.3),
            "batch_size": ("int", 32, 512),
        },
        n_trials=2,
        trial_episodes=2,
    )
    best_config = orch.run()
    assert 32 <= best_config["batch_size"] <= 512
    assert make_agent(best_config) is not None
    assert [row.steps for row in orch.trials] == [128, 128]
