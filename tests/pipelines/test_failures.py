"""An environment that breaks ends the window; nothing is invented in its place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from optix_bus.errors import EnvironmentFailure
from optix_bus.pipelines import BatchPipeline, VectorBatchPipeline
from optix_bus.pipelines.seeding import episode_seed
from tests.pipelines.counting_environment import CountingEnvironment, Scripted, assert_joined, columns


class Fragile(CountingEnvironment):
    """Does something wrong in one step of one episode; step 0 is the reset."""

    def __init__(self, lengths: tuple[int, ...], at: tuple[int, int], wrong: Callable[[Any], Any]) -> None:
        super().__init__(lengths)
        self.bad = at
        self.wrong = wrong

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        answer = super().reset(seed=seed, options=options)
        return self.wrong(answer) if (self.episode, self.at) == self.bad else answer

    def step(self, action: Any) -> Any:
        answer = super().step(action)
        return self.wrong(answer) if (self.episode, self.at) == self.bad else answer


def boom(answer: Any) -> Any:
    raise ZeroDivisionError("the pole fell off the table")


def nan_observation(answer: Any) -> Any:
    return (answer[0] * np.nan, *answer[1:])


def infinite_reward(answer: Any) -> Any:
    return (answer[0], float("inf"), *answer[2:])


def pipeline_of(wrong: Callable[[Any], Any], at: tuple[int, int], mode: str = "list") -> VectorBatchPipeline:
    makers = [partial(CountingEnvironment, (3,), 7), partial(Fragile, (2, 4), at, wrong)]
    if mode == "list":
        return VectorBatchPipeline(makers, Scripted(), window_size=12, seed=6)
    envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode[mode])
    return VectorBatchPipeline(envs=envs, agent=Scripted(), window_size=12, seed=6)


def test_an_environment_that_raises_in_step_is_named_with_everything_needed_to_see_it_again() -> None:
    # Environment 1 plays episode 1 (2 steps), then episode 2 from step 2 on.
    pipeline = pipeline_of(boom, (1, 3))
    with pytest.raises(EnvironmentFailure) as caught:
        pipeline.collect(0)
    message = str(caught.value)
    seed = episode_seed(6, "train", 2)
    assert "environment CountingEnvironment (number 1), step 3 of train episode 2" in message
    assert "ZeroDivisionError: the pole fell off the table" in message
    assert f"env.reset(seed={seed})" in message
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_environment_that_raises_in_reset_is_named_too() -> None:
    with pytest.raises(EnvironmentFailure, match=r"number 1\), reset of train episode 2") as caught:
        pipeline_of(boom, (1, 0)).collect(0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_nan_observation_is_a_failure_of_the_environment() -> None:
    with pytest.raises(
        EnvironmentFailure, match=r"number 1\), step 3 of train episode 2 .* observation \[nan"
    ):
        pipeline_of(nan_observation, (1, 3)).collect(0)


def test_a_nan_in_the_first_observation_is_one_too() -> None:
    with pytest.raises(
        EnvironmentFailure, match=r"number 1\), reset of train episode 2 .* observation \[nan"
    ):
        pipeline_of(nan_observation, (1, 0)).collect(0)


def test_an_infinite_reward_is_a_failure_of_the_environment() -> None:
    with pytest.raises(EnvironmentFailure, match=r"number 1\), step 4 of train episode 2 .* reward inf"):
        pipeline_of(infinite_reward, (1, 4)).collect(0)


def test_large_finite_numbers_are_no_failure() -> None:
    def large(answer: Any) -> Any:
        return (np.full(3, 3e38, np.float32), *answer[1:])

    data = pipeline_of(large, (1, 3)).collect(0)
    assert np.isfinite(data.observations).all()


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
@pytest.mark.parametrize("wrong", [nan_observation, infinite_reward])
def test_numbers_are_checked_in_every_autoreset_mode(mode: str, wrong: Callable[[Any], Any]) -> None:
    # Step 4 is the last of its episode, so that under SAME_STEP its observation is in the info.
    with pytest.raises(EnvironmentFailure, match=r"number 1\), step 4 of train episode \d"):
        pipeline_of(wrong, (1, 4), mode).collect(0)


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_a_vector_environment_that_raises_is_a_failure_in_every_mode(mode: str) -> None:
    with pytest.raises(EnvironmentFailure, match="ZeroDivisionError"):
        pipeline_of(boom, (1, 3), mode).collect(0)


def test_after_a_failure_the_next_window_begins_with_new_episodes() -> None:
    broken = [boom]
    environments = [CountingEnvironment((30,)), Fragile((30,), (0, 5), lambda answer: broken[0](answer))]
    pipeline = VectorBatchPipeline([lambda: environments[0], lambda: environments[1]], Scripted(), 4, seed=6)
    before = pipeline.collect(0)
    with pytest.raises(EnvironmentFailure):
        pipeline.collect(1)
    after = pipeline.collect(1)
    assert after.episode_starts[0].all()
    assert after.metadata["abandoned_episodes"] == [0, 1]
    assert [environment.seeds[-1] for environment in environments] == [
        episode_seed(6, "train", 2),
        episode_seed(6, "train", 3),
    ]
    for rows in columns(after):
        assert_joined(rows)
    assert after.metadata["total_steps"] == before.length + after.length
    assert pipeline.collect(2).metadata["abandoned_episodes"] == []


def test_an_interrupt_leaves_no_half_window_behind() -> None:
    def stop(answer: Any) -> Any:
        raise KeyboardInterrupt

    pipeline = BatchPipeline(Fragile((30,), (0, 5), stop), Scripted(), window_size=4)
    pipeline.collect(0)
    with pytest.raises(KeyboardInterrupt):
        pipeline.collect(1)
    after = pipeline.collect(1)
    assert_joined(columns(after)[0])
    assert after.metadata["abandoned_episodes"] == [0]


# Gymnasium warns of the very failure that the test provokes.
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_worker_process_that_raises_is_named_and_replaced() -> None:
    makers = [partial(CountingEnvironment, (30,)), partial(Fragile, (30,), (0, 5), boom)]
    pipeline = VectorBatchPipeline(makers, Scripted(), window_size=4, async_envs=True, seed=6)
    try:
        pipeline.collect(0)
        with pytest.raises(
            EnvironmentFailure, match=r"number 1\), step 5 of train episode 1 .*ZeroDivisionError"
        ):
            pipeline.collect(1)
        assert pipeline.collect(1).episode_starts[0].all()
    finally:
        pipeline.teardown()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_worker_process_that_dies_is_named() -> None:
    makers = [partial(CountingEnvironment, (30,)), partial(Fragile, (30,), (0, 5), leave)]
    pipeline = VectorBatchPipeline(makers, Scripted(), window_size=4, async_envs=True, seed=6)
    try:
        pipeline.collect(0)
        with pytest.raises(EnvironmentFailure, match=r"number 1\), step 5 of train episode 1"):
            pipeline.collect(1)
    finally:
        pipeline.teardown()


def leave(answer: Any) -> Any:
    import os

    os._exit(9)


def test_an_observation_of_another_shape_than_promised_is_refused() -> None:
    def scalar(answer: Any) -> Any:
        return (np.float32(1.0), *answer[1:])

    with pytest.raises(EnvironmentFailure, match="observation space says"):
        pipeline_of(scalar, (0, 0)).collect(0)
