"""The gate of recurrent PPO: CartPole-v1 without velocities in 100,000 steps, beside PPO without a memory."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from optix_bus import make_agent
from optix_bus.pipelines import PipelineSettings, build_environment, make_pipeline

ID, STEPS, ENVIRONMENTS, WINDOW = "optix_bus/CartPoleNoVel-v1", 100_000, 8, 128
TUNED: dict[str, Any] = {
    "learning_rate": {"schedule": "linear", "from": 1e-3, "to": 0.0, "over": STEPS},
    "minibatch_size": 256,
    "n_epochs": 10,
    "entropy_coef": 0.0,
}


def score(algorithm: str, seed: int, rnn: str | None = None) -> tuple[float, float]:
    """Mean return of 100 deterministic episodes after 100,000 steps, and CPU minutes of training."""
    agent: Any = make_agent(build_environment(ID), algorithm=algorithm, rnn=rnn, seed=seed, hyperparams=TUNED)
    settings = PipelineSettings(environments=ENVIRONMENTS, window_steps=WINDOW)
    pipeline = make_pipeline(ID, {}, settings, seed=seed, agent=agent)
    windows, begin = pipeline.episodes(), time.process_time()
    for _ in range(STEPS // (ENVIRONMENTS * WINDOW)):
        agent.learn(next(windows))
    minutes = (time.process_time() - begin) / 60
    judge = make_pipeline(
        ID, {}, PipelineSettings(environments=20), role="validation", seed=10_000, agent=agent
    )
    returns = judge.evaluate(100).metadata["episode_returns"]
    pipeline.teardown()
    judge.teardown()
    return float(np.mean(returns)), minutes


def interquartile_mean(values: list[float]) -> float:
    ordered = sorted(values)
    cut = len(ordered) // 4
    return float(np.mean(ordered[cut : len(ordered) - cut]))


def scores(algorithm: str, rnn: str | None = None) -> list[float]:
    found = [score(algorithm, seed, rnn) for seed in range(5)]
    for seed, (value, minutes) in enumerate(found):
        print(f"{algorithm} {rnn or ''} seed {seed}: {value:.1f} after {minutes:.2f} CPU minutes", flush=True)
    return [value for value, _ in found]


@pytest.mark.learning
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("rnn", ["gru", "lstm"])
def test_a_memory_balances_a_pole_whose_velocities_are_hidden(rnn: str) -> None:
    assert interquartile_mean(scores("recurrent_ppo", rnn)) >= 450


@pytest.mark.learning
@pytest.mark.timeout(3600)
def test_without_a_memory_it_cannot_be_done() -> None:
    assert interquartile_mean(scores("ppo")) <= 80
