"""The topology of an agent that is no reinforcement learning, and the agent by itself."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from optix_bus import AgentContract, BatchPipeline
from optix_bus.cli import main
from optix_bus.types import ArraySpec, SpaceSpec

TOPOLOGY = Path(__file__).parents[2] / "topologies" / "forecaster.yaml"
SPACES = SpaceSpec("stream", ArraySpec("box", (8,), "float32"), ArraySpec("box", (1,), "float32"))


def _module():
    name = "online_forecaster"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, TOPOLOGY.with_name(f"{name}.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


#: It needs what each step led to, which arrays of a vector pipeline have.
TestForecaster = AgentContract.of(lambda: _module().Forecaster(), SPACES, environments=2)


def test_the_filter_ends_at_the_least_squares_solution():
    forecaster = _module().Forecaster(lags=8, forgetting=1.0)
    pipeline = BatchPipeline(env=_module().SeasonalStream(), agent=forecaster, window_size=400, seed=1)
    pipeline.setup()
    windows = pipeline.episodes()
    inputs, targets = [], []
    for _ in range(2):
        window = next(windows)
        forecaster.learn(window)
        inputs.append(np.hstack([window.observations, np.ones((400, 1))]))
        targets.append(window.final_observations[:, -1])
    pipeline.teardown()
    expected, *_ = np.linalg.lstsq(np.vstack(inputs).astype(float), np.concatenate(targets), rcond=None)
    np.testing.assert_allclose(forecaster.weights, expected, atol=2e-2)


def test_the_loop_trains_it_to_the_noise_of_the_stream_and_keeps_the_best(tmp_path, capsys):
    run = tmp_path / "run"
    overrides = [
        "nodes.scheduler.max_episodes=24",
        "nodes.validation.environments=4",
        "nodes.validation.episodes=4",
    ]
    given = [part for each in overrides for part in ("--set", each)]
    assert main(["up", str(TOPOLOGY), "--inline", "--quiet", "--run-dir", str(run), *given]) == 0
    capsys.readouterr()
    assert main(["checkpoint", "evaluate", str(run), "--episodes", "20", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    # 200 steps with a variance of 0.01 that nobody can forecast; repeating the last value costs 8 times that.
    assert -4.0 < result["mean"] < -1.6


def test_validating_it_finds_nothing_to_say(capsys):
    assert main(["validate", str(TOPOLOGY)]) == 0
    assert "online_forecaster:Forecaster" in capsys.readouterr().out


def test_nobody_does_better_than_the_noise_and_repeating_the_last_value_does_far_worse():
    stream = _module().SeasonalStream()
    totals = {"true": 0.0, "last": 0.0}
    for name in totals:
        observation, _ = stream.reset(seed=3)
        ended = False
        while not ended:
            season = 0.5 * np.sin(2 * np.pi * len(stream._values) / 24 + stream._phase)
            best = 1.2 * observation[-1] - 0.6 * observation[-2] + season
            guess = best if name == "true" else observation[-1]
            observation, reward, _, ended, _ = stream.step(np.array([guess]))
            totals[name] += reward
    assert totals["true"] == pytest.approx(-2.0, abs=0.6)
    assert totals["last"] < 7 * totals["true"]
