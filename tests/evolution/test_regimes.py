"""An ensemble over three regimes in a stream that changes its regime under way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optix_bus.runtime.replay_session import replay
from optix_bus.runtime.topology_classes import add_search_path, load_object
from optix_bus.types import EpisodeData
from tests.evolution.regimes import SEEDS, TOPOLOGY, interval, played, scores, ways
from tests.runtime.recorded import record, records

SMALL = (
    "nodes.scheduler.max_episodes=8",
    "nodes.scheduler.convergence=classical",
    "nodes.scheduler.convergence_window=5",
    "nodes.scheduler.looks=1",
    "nodes.scheduler.dormant_threshold=1",
    "nodes.scheduler.score_floor=-1000",
    "nodes.scheduler.noise_k=99",
    "nodes.pipeline.environments=1",
    "nodes.pipeline.window_steps=60",
    "nodes.validation.environments=2",
    "nodes.validation.episodes=2",
    "environment.kwargs={mean_stay: 20.0, length: 60}",
)


@pytest.fixture(autouse=True)
def _beside() -> None:
    add_search_path(TOPOLOGY.parent)


def stream(**options: Any) -> Any:
    return load_object("regime_ensemble:ShiftingStream")(**options)


def ensemble(**options: Any) -> Any:
    return load_object("regime_ensemble:RegimeEnsemble")(**options)


def episode(seed: int, position: float = 0.0, **options: Any) -> tuple[list[Any], list[str], float]:
    world = stream(**options)
    seen, regimes, total, over = [world.reset(seed=seed)[0]], [world.regime], 0.0, False
    while not over:
        observation, reward, _, over, info = world.step(np.array([position], np.float32))
        seen.append(observation)
        regimes.append(info["regime"])
        total += reward
    return seen, regimes, total


def test_the_regime_changes_under_way_and_the_seed_says_when() -> None:
    first, second = episode(5), episode(5, position=1.0)
    assert all(np.array_equal(a, b) for a, b in zip(first[0], second[0], strict=True))
    assert first[1] == second[1]
    assert first[2] == 0.0
    assert np.mean([len(set(episode(seed)[1])) for seed in range(8)]) > 2.0
    assert {*episode(5, regimes=("ranging",))[1]} == {"ranging"}


def test_one_observation_and_many_at_once_are_answered_alike() -> None:
    agent, rows = ensemble(), np.stack(episode(3)[0])
    together = agent.act_batch(rows)
    assert together.shape == (len(rows), 1)
    alone = np.stack([agent.act(row) for row in rows])
    assert alone == pytest.approx(together, abs=1e-6)


def test_weights_follow_what_each_would_have_gained() -> None:
    agent = ensemble(starts=(0.6, -0.6, 0.0))
    seen, _, _ = episode(1, regimes=("trending",), length=200)
    agent.act(seen[-1])
    by_hand = []
    for member in agent.members:
        gained = []
        for k in range(2, 20):
            position = float(np.clip(member.weights @ seen[-1][k - 2 : k], -1, 1))
            gained.append(position * seen[-1][k] - 0.1 * abs(position))
        by_hand.append(np.mean(gained))
    assert agent.rolling_scores(seen[-1][None])[0] == pytest.approx(by_hand, rel=1e-5)
    assert np.argsort(agent.manager.weights).tolist() == np.argsort(by_hand).tolist()


def test_members_learn_where_they_are_best_and_come_back_from_their_files(tmp_path: Path) -> None:
    agent = ensemble()
    for seed in range(12):
        seen, _, _ = episode(seed)
        agent.learn(
            EpisodeData(
                observations=np.stack(seen[:-1]),
                actions=np.zeros(300),
                rewards=np.zeros(300),
                terminated=np.zeros(300, bool),
                truncated=np.zeros(300, bool),
                final_observations=np.stack(seen[1:]),
            )
        )
    carried = [member.weights[-1] for member in agent.members]
    assert carried[0] > 0.1 > -0.1 > carried[1]
    agent.save_weights(str(tmp_path / "weights"))
    again = ensemble()
    again.load_weights(str(tmp_path / "weights"))
    assert [m.weights.tolist() for m in again.members] == [m.weights.tolist() for m in agent.members]


def test_the_ensemble_beats_every_member_already_before_it_learns() -> None:
    agent = ensemble()
    acting = ways(agent)
    together = played(acting.pop("ensemble"), 15, 0)
    for name in [name for name in acting if name.startswith("member")]:
        mean, half = interval((together - played(acting[name], 15, 0)).tolist())
        assert mean - half > 0.0, name


def test_a_run_of_the_topology_spawns_and_is_replayed_byte_for_byte(tmp_path: Path) -> None:
    run = record(tmp_path / "run", TOPOLOGY, *SMALL)
    assert [found.type for found in records(run, "VariantSpawned")]
    report = replay(run)
    assert (report.exit_code, report.divergence) == (0, None)


@pytest.mark.learning
def test_the_ensemble_beats_every_single_member_in_every_run(tmp_path: Path) -> None:
    rows = [scores(seed, tmp_path) for seed in SEEDS]
    for name in [name for name in rows[0] if name.startswith("member")]:
        gains = [row["ensemble"] - row[name] for row in rows]
        mean, half = interval(gains)
        assert mean - half > 0.0, name
        assert min(gains) > 0.0, name
