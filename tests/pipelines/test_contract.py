"""Our own pipelines pass the contract that users' pipelines are checked by, and a broken one does not."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from optix_bus.interfaces import BasePipeline
from optix_bus.pipelines import (
    BatchPipeline,
    PipelineSettings,
    VectorBatchPipeline,
    build_environment,
    make_pipeline,
)
from optix_bus.testing.pipeline_contract import PipelineContract
from optix_bus.types import EpisodeData
from tests.pipelines.test_rebuilding import Wavering


class TestBatchPipeline(PipelineContract):
    windows = 8

    def make_pipeline(self) -> BasePipeline:
        return BatchPipeline(env_id="CartPole-v1", agent=Wavering(), window_size=50, seed=3)


class TestVectorBatchPipeline(PipelineContract):
    def make_pipeline(self) -> BasePipeline:
        settings = PipelineSettings(environments=3, window_steps=100)
        return make_pipeline("CartPole-v1", {"max_episode_steps": 130}, settings, seed=3, agent=Wavering())


class TestProcesses(PipelineContract):
    def make_pipeline(self) -> BasePipeline:
        settings = PipelineSettings(environments=2, window_steps=50, vectorization="async")
        return make_pipeline("CartPole-v1", {}, settings, seed=3, agent=Wavering())


class TestNative(PipelineContract):
    windows = 8

    def make_pipeline(self) -> BasePipeline:
        settings = PipelineSettings(environments=5, window_steps=60, vectorization="native")
        return make_pipeline("CartPole-v1", {}, settings, seed=3, agent=Wavering())


class TestSameStep(PipelineContract):
    def make_pipeline(self) -> BasePipeline:
        makers = [partial(build_environment, "CartPole-v1", {"max_episode_steps": 40})] * 3
        envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
        return VectorBatchPipeline(envs=envs, agent=Wavering(), window_size=64, seed=3)


class Fabulist(BasePipeline):
    """Changes a window after it was given away, and forgets a step at each seam."""

    def __init__(self) -> None:
        self.observations = np.zeros((4, 1))

    def setup(self) -> None: ...

    def teardown(self) -> None: ...

    def episodes(self) -> Iterator[EpisodeData]:
        first = 0
        while True:
            self.observations[:, 0] = np.arange(first, first + 4)
            ends = np.zeros(4, bool)
            starts = np.zeros(4, bool)
            yield EpisodeData(
                self.observations,
                np.zeros(4),
                np.ones(4),
                ends,
                ends,
                final_observations=self.observations + 1,
                episode_starts=starts,
                metadata={"episode_returns": [4.0]},
            )
            first += 5


class FabulistContract(PipelineContract):
    def make_pipeline(self) -> BasePipeline:
        return Fabulist()


@pytest.mark.parametrize(
    "check",
    [
        "test_each_step_leads_to_the_next_observation",
        "test_an_episode_begins_where_the_one_before_ended",
        "test_books_of_episodes_agree_with_the_rewards",
        "test_a_window_is_not_changed_by_the_next_one",
    ],
)
def test_a_broken_pipeline_fails_the_contract(check: str) -> None:
    contract: Any = FabulistContract()
    with pytest.raises(AssertionError):
        getattr(contract, check)(Fabulist())
