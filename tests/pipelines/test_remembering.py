"""A pipeline keeps what a policy remembers: rows, windows, versions, evaluations, new pipelines."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from optix_bus.errors import ConfigurationError
from optix_bus.interfaces import Acting
from optix_bus.pipelines import (
    BatchPipeline,
    PipelineSettings,
    SteppingPipeline,
    VectorBatchPipeline,
    make_pipeline,
)
from tests.pipelines.counting_environment import CountingEnvironment

LENGTHS = ((3, 8), (11, 2), (1, 4))


class Counting:
    """Remembers how many steps of the episode it has seen; the last policy that acted is asked by tests."""

    def __init__(self) -> None:
        self.seen: np.ndarray | None = None
        self.told: list[list[float]] = []

    def episode_start(self, mask: np.ndarray) -> None:
        if self.seen is None or len(self.seen) != len(mask):
            self.seen = np.zeros((len(mask), 1))
        self.seen[mask] = 0.0

    def memory(self) -> np.ndarray | None:
        return None if self.seen is None else self.seen.copy()

    def load_memory(self, memory: np.ndarray | None) -> None:
        self.seen = None if memory is None else np.array(memory)

    def act_batch(self, observations: np.ndarray) -> Acting:
        assert self.seen is not None
        self.told.append(self.seen[:, 0].tolist())
        self.seen = self.seen + 1.0
        return Acting(np.zeros(len(observations), np.int64))


def makers() -> list[Any]:
    return [partial(CountingEnvironment, lengths, tag) for tag, lengths in enumerate(LENGTHS)]


def steps_of(data: Any) -> Any:
    """The step of its episode that each observation shows: the last number in it."""
    return np.asarray(data.observations)[..., -1]


@pytest.mark.parametrize("mode", [None, *AutoresetMode])
def test_every_row_remembers_its_own_episode_through_windows_and_versions(mode: AutoresetMode | None) -> None:
    pipeline: SteppingPipeline
    if mode is None:
        pipeline = VectorBatchPipeline(makers(), window_size=5)
    else:
        pipeline = VectorBatchPipeline(envs=SyncVectorEnv(makers(), autoreset_mode=mode), window_size=5)
    for number in range(8):
        policy = Counting()  # another version for every window
        pipeline.set_agent(policy)
        data = pipeline.collect(number)
        valid = np.ones(data.rewards.shape, bool) if data.valid is None else data.valid
        told = np.array(policy.told)
        assert (told[valid] == steps_of(data)[valid]).all()
        assert data.hidden_states.shape == (3, 1)
        assert (data.hidden_states[:, 0][valid[0]] == steps_of(data)[0][valid[0]]).all()
        assert data.episode_starts.any()


def test_a_window_of_one_environment_has_its_memory_without_an_axis_of_environments() -> None:
    pipeline = BatchPipeline(CountingEnvironment((7,)), Counting(), window_size=4)
    pipeline.collect(0)
    assert pipeline.collect(1).hidden_states.tolist() == [4.0]


def test_an_evaluation_with_the_same_policy_disturbs_no_open_episode() -> None:
    policy = Counting()
    pipeline = VectorBatchPipeline(makers(), policy, window_size=5)
    pipeline.collect(0)
    policy.told.clear()
    evaluated = pipeline.evaluate(3)
    lengths = evaluated.metadata["episode_lengths"]
    for row, length in enumerate(lengths):
        assert [told[row] for told in policy.told[:length]] == list(range(length))
    policy.told.clear()
    data = pipeline.collect(1)
    assert (np.array(policy.told) == steps_of(data)).all()
    assert data.hidden_states[1, 0] == 5.0, "the episode of eleven steps went on"


def cartpole() -> SteppingPipeline:
    return make_pipeline("CartPole-v1", {}, PipelineSettings(environments=4, window_steps=13), seed=2)


def test_a_rebuilt_pipeline_goes_on_with_the_memory() -> None:
    first, second = cartpole(), cartpole()
    for number in range(2):
        first.set_agent(Counting())
        first.collect(number)
    progress = first.progress()
    assert second.rebuild(progress) == []
    begun = np.isin(np.arange(4), progress["waiting"]) | np.array(progress["starts"])
    assert (progress["memory"][~begun, 0] == np.array(progress["steps"])[~begun]).all()
    assert (progress["memory"][~begun] > 0).any()
    windows = []
    for pipeline in (first, second):
        pipeline.set_agent(Counting())
        windows.append(pipeline.collect(2))
    assert np.array_equal(windows[0].hidden_states, windows[1].hidden_states)
    assert np.array_equal(windows[0].observations, windows[1].observations)
    assert (windows[0].hidden_states[~begun] == progress["memory"][~begun]).all()
    progress["memory"][:] = -1.0
    assert (windows[1].hidden_states >= 0).all()


def test_an_episode_that_could_not_be_rebuilt_begins_with_an_empty_memory() -> None:
    first, second = cartpole(), cartpole()
    first.set_agent(Counting())
    first.collect(0)
    progress = first.progress()
    row = int(np.argmax(progress["memory"][:, 0]))
    progress["observations"][row] += 1  # the environment would have to be another one
    assert second.rebuild(progress) == [progress["episodes"][row]]
    second.set_agent(Counting())
    assert second.collect(1).hidden_states[row, 0] == 0.0
    first.set_agent(Counting())
    assert first.collect(1).hidden_states[row, 0] > 0.0


def test_given_up_episodes_leave_no_memory() -> None:
    pipeline = VectorBatchPipeline(makers(), Counting(), window_size=5)
    pipeline.collect(0)
    pipeline.pass_over(1, 5, 0)
    assert not pipeline.collect(2).hidden_states.any()


def test_one_memory_is_not_shared_by_environments_that_are_asked_one_by_one() -> None:
    class ByRows(Counting):
        def act(self, observation: np.ndarray) -> int:
            return 0

    class Changed(ByRows):
        def act(self, observation: np.ndarray) -> int:
            return 1

    with pytest.raises(
        ConfigurationError, match="Changed remembers its episode, but is asked for 3 environm"
    ):
        VectorBatchPipeline(makers(), Changed(), window_size=5).collect(0)
    assert BatchPipeline(CountingEnvironment((7,)), Changed(), window_size=4).collect(0).length == 4


def test_policies_without_a_memory_leave_windows_and_progress_as_they_were() -> None:
    class Plain:
        def act_batch(self, observations: np.ndarray) -> Acting:
            return Acting(np.zeros(len(observations), np.int64))

    pipeline = VectorBatchPipeline(makers(), Plain(), window_size=5)
    assert pipeline.collect(0).hidden_states is None
    assert "memory" not in pipeline.progress()
