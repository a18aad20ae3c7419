"""The online optimizers, named and called as the documents show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from optix_bus import BackoffOptimizer, BatchPipeline, LoopCallback, PBTOptimizer, RLOptimizer, make_agent
from optix_bus.optimizers import AdaptiveOptimizer, SPSAOptimizer

#: What each program writes behind ``optimizer=``, and what it may change.
PROGRAMS: dict[str, tuple[Any, dict[str, tuple[float, float]]]] = {
    "spsa": (
        lambda: SPSAOptimizer(
            param_bounds={"learning_rate": (1e-4, 3e-3), "clip_ratio": (0.1, 0.3)},
            log_params={"learning_rate"},
        ),
        {"learning_rate": (1e-4, 3e-3), "clip_ratio": (0.1, 0.3)},
    ),
    "adaptive": (
        lambda: AdaptiveOptimizer(param_bounds={"learning_rate": (1e-4, 3e-3)}),
        {"learning_rate": (1e-4, 3e-3)},
    ),
    "backoff": (
        lambda: BackoffOptimizer(param_bounds={"learning_rate": (1e-5, 1e-2), "clip_ratio": (0.05, 0.4)}),
        {"learning_rate": (1e-5, 1e-2), "clip_ratio": (0.05, 0.4)},
    ),
    "backoff with a scale": (
        lambda: BackoffOptimizer(
            param_bounds={"learning_rate": (1e-5, 1e-2), "gamma": (0.9, 0.999)}, perturbation_scale=0.05
        ),
        {"learning_rate": (1e-5, 1e-2), "gamma": (0.9, 0.999)},
    ),
    "pbt": (
        lambda: PBTOptimizer(param_bounds={"learning_rate": (1e-5, 1e-2)}, history_size=50),
        {"learning_rate": (1e-5, 1e-2)},
    ),
}


class Changes(LoopCallback):
    """What the documents' callback hears of hyperparameters."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def on_hyperparam_update(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self.seen.append((old, new))


def run(tmp_path: Path, **options: Any) -> tuple[Any, list[tuple[dict[str, Any], dict[str, Any]]]]:
    """Twelve small windows of PPO."""
    env = gym.make("CartPole-v1")
    agent = make_agent(env, hidden_sizes=(8,), device="cpu", hyperparams={"n_epochs": 1})
    changes = Changes()
    opt = RLOptimizer(
        agent=agent,
        pipeline=BatchPipeline(env=env, agent=agent, window_size=64),
        callbacks=[changes],
        checkpoint_dir=str(tmp_path / "checkpoints"),
        max_episodes=12,
        **options,
    )
    opt.run()
    return agent, changes.seen


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_optimizer_changes_what_it_was_given_bounds_for_and_nothing_else(program, tmp_path):
    make, bounds = PROGRAMS[program]
    _, changes = run(tmp_path, optimizer=make())
    assert changes
    moved = {name for old, new in changes for name in new if old[name] != new[name]}
    assert moved <= set(bounds)
    assert "learning_rate" in moved
    for _, new in changes:
        for name in moved:
            low, high = bounds[name]
            assert low <= new[name] <= high


def test_without_an_optimizer_spsa_tunes_within_the_agents_own_bounds(tmp_path):
    agent, changes = run(tmp_path)
    moved = {name for old, new in changes for name in new if old[name] != new[name]}
    assert moved
    assert moved <= set(agent.default_param_bounds)
    _, alike = run(tmp_path / "again", optimizer=SPSAOptimizer())
    assert {name for old, new in alike for name in new if old[name] != new[name]} == moved
