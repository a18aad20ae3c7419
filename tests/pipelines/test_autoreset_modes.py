"""Vector environments that begin new episodes by themselves, in all three ways."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from optix_bus.errors import ConfigurationError
from optix_bus.pipelines import PipelineSettings, VectorBatchPipeline, make_pipeline
from tests.pipelines.counting_environment import CountingEnvironment, Scripted, assert_joined, columns

LENGTHS = ((3, 8), (11, 2), (1, 4))
MODES = list(AutoresetMode)


def makers() -> list[partial[CountingEnvironment]]:
    return [partial(CountingEnvironment, lengths, tag) for tag, lengths in enumerate(LENGTHS)]


def joined_rows(pipeline: VectorBatchPipeline, windows: int) -> list[list[dict[str, Any]]]:
    collected = [columns(pipeline.collect(number)) for number in range(windows)]
    return [[row for window in collected for row in window[index]] for index in range(len(LENGTHS))]


@pytest.mark.parametrize("mode", MODES)
def test_every_row_is_a_real_transition_in_every_mode(mode: AutoresetMode) -> None:
    envs = SyncVectorEnv(makers(), autoreset_mode=mode)
    pipeline = VectorBatchPipeline(envs=envs, agent=Scripted(), window_size=7)
    for rows in joined_rows(pipeline, 5):
        assert_joined(rows)


@pytest.mark.parametrize("mode", MODES)
def test_all_modes_tell_the_same_story(mode: AutoresetMode) -> None:
    envs = SyncVectorEnv(makers(), autoreset_mode=mode)
    told = joined_rows(VectorBatchPipeline(envs=envs, agent=Scripted(), window_size=9), 5)
    plain = joined_rows(VectorBatchPipeline(makers(), Scripted(), window_size=9), 5)
    for rows, expected in zip(told, plain, strict=True):
        count = min(len(rows), len(expected))
        for row, other in zip(rows[:count], expected[:count], strict=True):
            assert {key: np.asarray(value).tolist() for key, value in row.items()} == {
                key: np.asarray(value).tolist() for key, value in other.items()
            }


@pytest.mark.parametrize("mode", MODES)
def test_books_of_ended_episodes_hold_whole_episodes_in_every_mode(mode: AutoresetMode) -> None:
    envs = SyncVectorEnv(makers(), autoreset_mode=mode)
    pipeline = VectorBatchPipeline(envs=envs, agent=Scripted(), window_size=4)
    lengths: list[int] = []
    for number in range(20):
        metadata = pipeline.collect(number).metadata
        assert metadata["episode_returns"] == [n * (n + 1) / 2 for n in metadata["episode_lengths"]]
        lengths += metadata["episode_lengths"]
    assert set(lengths) == {1, 2, 3, 4, 8, 11}


def test_the_row_after_an_episode_end_reaches_no_counter_under_next_step() -> None:
    envs = SyncVectorEnv(makers()[:1], autoreset_mode=AutoresetMode.NEXT_STEP)
    pipeline = VectorBatchPipeline(envs=envs, agent=Scripted(), window_size=8)
    first, second = pipeline.collect(0), pipeline.collect(1)
    # Episodes last 3 and 8 steps; the reset between them takes row 3, the next one row 12.
    assert first.valid is not None
    assert first.valid[:, 0].tolist() == [True] * 3 + [False] + [True] * 4
    assert first.length == first.metadata["steps"] == 7
    assert first.total_reward == 6 + 10
    assert second.valid is not None
    assert second.valid[:, 0].tolist() == [True] * 4 + [False] + [True] * 3
    assert second.metadata["total_steps"] == 14
    assert not (first.dones & ~first.valid).any()


def test_a_reset_row_may_fall_on_the_first_row_of_a_window() -> None:
    envs = SyncVectorEnv(makers()[:1], autoreset_mode=AutoresetMode.NEXT_STEP)
    pipeline = VectorBatchPipeline(envs=envs, agent=Scripted(), window_size=3)
    first, second = pipeline.collect(0), pipeline.collect(1)
    assert first.valid is None
    assert second.valid is not None
    assert second.valid[:, 0].tolist() == [False, True, True]
    assert second.episode_starts[:, 0].tolist() == [False, True, False]


def test_same_step_reads_the_true_last_observation() -> None:
    envs = SyncVectorEnv(makers()[:1], autoreset_mode=AutoresetMode.SAME_STEP)
    data = VectorBatchPipeline(envs=envs, agent=Scripted(), window_size=3).collect(0)
    assert data.final_observations[2, 0].tolist() == [0, 0, 3]
    assert "final_obs" not in data.infos[2]


def test_same_step_without_final_observations_is_refused() -> None:
    class Forgetful(gymnasium.vector.VectorWrapper[Any, Any, Any, Any, Any]):
        def step(self, actions: Any) -> Any:
            observations, rewards, terminated, truncated, _ = self.env.step(actions)
            return observations, rewards, terminated, truncated, {}

    envs = Forgetful(SyncVectorEnv(makers()[:1], autoreset_mode=AutoresetMode.SAME_STEP))
    with pytest.raises(ConfigurationError, match="final_obs"):
        VectorBatchPipeline(envs=envs, agent=Scripted(), window_size=5).collect(0)


def test_a_vector_environment_that_hides_its_mode_is_refused() -> None:
    envs = SyncVectorEnv(makers())
    del envs.metadata["autoreset_mode"]
    with pytest.raises(ConfigurationError, match="autoreset_mode"):
        VectorBatchPipeline(envs=envs, agent=Scripted()).setup()


def test_environments_in_their_own_processes_tell_the_same_story() -> None:
    pipeline = VectorBatchPipeline(makers(), Scripted(), window_size=6, async_envs=True, seed=3)
    plain = VectorBatchPipeline(makers(), Scripted(), window_size=6, seed=3)
    try:
        for number in range(3):
            told, expected = pipeline.collect(number), plain.collect(number)
            for name in ("observations", "actions", "rewards", "final_observations", "episode_starts"):
                assert np.array_equal(getattr(told, name), getattr(expected, name)), name
            for key in ("episode_numbers", "episode_returns", "total_steps", "episode_seeding"):
                assert told.metadata[key] == expected.metadata[key], key
    finally:
        pipeline.teardown()


def test_a_ready_asynchronous_environment_works_with_autoreset() -> None:
    envs = AsyncVectorEnv(makers(), autoreset_mode=AutoresetMode.NEXT_STEP)
    try:
        for rows in joined_rows(VectorBatchPipeline(envs=envs, agent=Scripted(), window_size=7), 3):
            assert_joined(rows)
    finally:
        envs.close()


def test_native_cartpole_is_collected_without_its_reset_rows() -> None:
    settings = PipelineSettings(environments=16, window_steps=64, vectorization="native")
    pipeline = make_pipeline("CartPole-v1", {}, settings, seed=1, agent=Scripted())
    data = pipeline.collect(0)
    assert data.observations.shape == (64, 16, 4)
    assert data.valid is not None
    assert (np.asarray(data.rewards) == data.valid).all(), "CartPole pays one for every real step"
    assert data.metadata["episode_seeding"] == "first"
    assert data.metadata["episode_returns"] == data.metadata["episode_lengths"]
    resets = ~data.valid
    assert (data.dones[:-1] == resets[1:]).all()
    assert (np.abs(data.observations[1:][data.episode_starts[1:]]) <= 0.05).all()
    again = make_pipeline("CartPole-v1", {}, settings, seed=1, agent=Scripted()).collect(0)
    assert np.array_equal(again.observations, data.observations)
    pipeline.teardown()


def test_an_id_without_its_own_vector_version_says_so() -> None:
    pipeline = make_pipeline("Acrobot-v1", {}, PipelineSettings(vectorization="native"))
    with pytest.raises(ConfigurationError, match="no vector version"):
        pipeline.setup()
