"""Windows: what is in them, and what goes on from one to the next."""

from __future__ import annotations

from functools import partial
from itertools import islice

import gymnasium
import numpy as np
import pytest

from optix_bus.errors import ConfigurationError, LearningFailure, Unsuitable
from optix_bus.interfaces import Acting
from optix_bus.pipelines import BatchPipeline, VectorBatchPipeline
from tests.pipelines.counting_environment import CountingEnvironment, Scripted, assert_joined, columns


def counting(lengths: tuple[tuple[int, ...], ...]) -> list[partial[CountingEnvironment]]:
    return [partial(CountingEnvironment, each, tag) for tag, each in enumerate(lengths)]


def test_one_environment_gives_arrays_over_time() -> None:
    data = BatchPipeline(CountingEnvironment((4,)), Scripted(), window_size=10).collect(0)
    assert data.observations.shape == (10, 3)
    assert data.observations.dtype == np.float32
    assert data.rewards.tolist() == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2]
    assert data.rewards.dtype == np.float32
    assert data.terminated.nonzero()[0].tolist() == [3]
    assert data.truncated.nonzero()[0].tolist() == [7]
    assert data.episode_starts.nonzero()[0].tolist() == [0, 4, 8]
    assert data.log_probs.tolist() == [-0.5] * 10
    assert data.values.tolist() == data.observations[:, -1].tolist()
    assert data.valid is None
    assert_joined(columns(data)[0])


def test_the_window_size_counts_steps_of_each_environment() -> None:
    pipeline = VectorBatchPipeline(counting(((3,), (5,), (7,))), Scripted(), window_size=16)
    data = pipeline.collect(0)
    assert pipeline.n_envs == 3
    assert data.observations.shape == (16, 3, 3)
    assert data.metadata["steps"] == data.length == 48
    for rows in columns(data):
        assert_joined(rows)


def test_episodes_straddle_windows_without_a_seam() -> None:
    pipeline = VectorBatchPipeline(counting(((3, 8), (11, 2))), Scripted(), window_size=5)
    windows = [pipeline.collect(number) for number in range(6)]
    for row in range(2):
        assert_joined([transition for data in windows for transition in columns(data)[row]])


def test_an_episode_longer_than_the_window_is_scored_whole() -> None:
    pipeline = BatchPipeline(CountingEnvironment((23,)), Scripted(), window_size=10)
    returns = [pipeline.collect(number).metadata["episode_returns"] for number in range(5)]
    assert returns == [[], [], [23 * 24 / 2], [], [23 * 24 / 2]]


def test_metadata_counts_transitions_and_names_ended_episodes() -> None:
    pipeline = VectorBatchPipeline(counting(((2,), (3,))), Scripted(), window_size=4, role="train")
    first, second = pipeline.collect(0), pipeline.collect(1)
    assert first.metadata["episode_numbers"] == [0, 1, 2]
    assert first.metadata["episode_lengths"] == [2, 3, 2]
    assert first.metadata["total_steps"] == 8
    # Numbers follow the order of beginning: 2 began in step 2, 3 in step 3, 4 in step 4, 5 and 6 in step 6.
    assert second.metadata["episode_numbers"] == [4, 3, 5]
    assert second.metadata["episode_lengths"] == [2, 3, 2]
    assert second.metadata["total_steps"] == 16
    assert first.metadata["environment"] == "CountingEnvironment"
    assert first.metadata["deterministic"] is False
    assert (first.episode_id, second.episode_id) == (0, 1)


def test_labels_and_the_policy_version_travel_with_the_window() -> None:
    pipeline = BatchPipeline(CountingEnvironment(), window_size=2)
    pipeline.set_agent(Scripted(), policy_version=7)
    pipeline.labels["hyperparams_version"] = 3
    metadata = pipeline.collect(0).metadata
    assert (metadata["policy_version"], metadata["hyperparams_version"]) == (7, 3)


def test_nothing_is_collected_ahead() -> None:
    environment = CountingEnvironment((5,))
    windows = BatchPipeline(environment, Scripted(), window_size=5).episodes()
    assert environment.seeds == []
    next(windows)
    assert len(environment.taken) == 5
    assert len(environment.seeds) == 1, (
        "the episode that ended with the window is not replaced before it is needed"
    )
    next(windows)
    assert len(environment.seeds) == 2


def test_windows_do_not_share_memory() -> None:
    pipeline = BatchPipeline(CountingEnvironment((4,)), Scripted(), window_size=6)
    first = pipeline.collect(0)
    before = first.observations.copy()
    pipeline.collect(1)
    first.final_observations[:] = -1
    assert np.array_equal(first.observations, before)


def test_infos_are_sparse_and_read_like_a_list() -> None:
    data = BatchPipeline(CountingEnvironment((3,)), Scripted(), window_size=7).collect(0)
    assert list(data.infos) == [{}, {}, {"last": 3}, {}, {}, {"last": 3}, {}]
    assert data.infos[-2] == {"last": 3}
    assert data.infos[1:3] == [{}, {"last": 3}]
    vector = VectorBatchPipeline(counting(((2,), (3,))), Scripted(), window_size=3).collect(0)
    assert vector.infos[1] == {"last": [2, None], "_last": [True, False]}
    silent = BatchPipeline(CountingEnvironment((3,)), Scripted(), window_size=7, keep_infos=False).collect(0)
    assert list(silent.infos) == [{}] * 7


def test_the_agent_hears_where_episodes_begin() -> None:
    class Recurrent(Scripted):
        def __init__(self) -> None:
            super().__init__()
            self.masks: list[list[bool]] = []

        def episode_start(self, mask: np.ndarray) -> None:
            self.masks.append(mask.tolist())

    agent = Recurrent()
    VectorBatchPipeline(counting(((2,), (3,))), agent, window_size=4).collect(0)
    assert agent.masks == [[True, True], [True, False], [False, True]]


def test_actions_outside_a_box_are_clipped_for_the_environment_alone() -> None:
    class Lopsided(CountingEnvironment):
        action_space = gymnasium.spaces.Box(
            np.array([-1.0, 0.0], np.float32), np.array([3.0, 0.5], np.float32)
        )

    class Bold:
        def act(self, observation: np.ndarray) -> np.ndarray:
            return np.array([2.0, 0.75 if observation[-1] == 1 else 0.25], np.float32)

    environment = Lopsided((10,))
    data = BatchPipeline(environment, Bold(), window_size=3).collect(0)
    assert [taken.tolist() for taken in environment.taken] == [[2.0, 0.25], [2.0, 0.5], [2.0, 0.25]]
    assert data.actions.tolist() == [[2.0, 0.25], [2.0, 0.75], [2.0, 0.25]]
    assert data.metadata["clipped_actions"] == 1


def test_a_policy_that_answers_nan_is_blamed_and_not_the_environment() -> None:
    class Continuous(CountingEnvironment):
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    class Broken:
        def act(self, observation: np.ndarray) -> np.ndarray:
            return np.array([np.nan], np.float32)

    with pytest.raises(LearningFailure, match="policy answered NaN for Continuous"):
        BatchPipeline(Continuous(), Broken(), window_size=3).collect(0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros((1, 2), np.int64), r"actions of shape \(1, 2\).*expected shape \(1,\)"),
        (np.zeros(1, np.float32), "actions of dtype float32"),
        (np.array([5]), "chose action 5"),
    ],
)
def test_first_actions_that_cannot_fit_are_refused_before_the_environment_sees_them(
    answer: np.ndarray, message: str
) -> None:
    class Wrong:
        def act_batch(self, observations: np.ndarray, *, deterministic: bool = False) -> Acting:
            return Acting(answer)

        def reseed(self, rng: np.random.Generator) -> None: ...

    environment = CountingEnvironment()
    with pytest.raises(Unsuitable, match=message):
        BatchPipeline(environment, Wrong(), window_size=3).collect(0)
    assert environment.taken == []


def test_a_space_that_is_no_array_is_refused_with_a_way_out() -> None:
    class Nested(CountingEnvironment):
        observation_space = gymnasium.spaces.Text(3)

    with pytest.raises(Unsuitable, match="FlattenObservation"):
        BatchPipeline(Nested(), Scripted()).collect(0)


def test_a_pipeline_without_an_agent_says_how_to_give_one() -> None:
    with pytest.raises(ConfigurationError, match="set_agent"):
        BatchPipeline(CountingEnvironment()).collect(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "pass either env or env_id"),
        ({"env": CountingEnvironment(), "env_id": "CartPole-v1"}, "pass either"),
        ({"env": CountingEnvironment(), "window_size": 3, "n_steps": 4}, "one setting"),
        ({"env": CountingEnvironment(), "n_steps": 0}, "n_steps|window_size"),
        ({"env": CountingEnvironment(), "seed": -1}, "seed -1"),
        ({"env": 3}, "expected a Gymnasium environment"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        BatchPipeline(**arguments)


def test_the_documents_own_spellings_work() -> None:
    pipeline = BatchPipeline(env_id="CartPole-v1", n_steps=32, seed=1)
    pipeline.set_agent(Scripted())
    pipeline.setup()
    first, second = islice(pipeline.episodes(), 2)
    assert first.observations.shape == second.observations.shape == (32, 4)
    assert not pipeline.is_live
    pipeline.teardown()


def test_a_class_makes_environments_like_a_function() -> None:
    pipeline = BatchPipeline(CountingEnvironment, Scripted(), window_size=2)
    assert pipeline.collect(0).length == 2
    pipeline.teardown()


def test_only_environments_that_the_pipeline_built_are_closed_by_it() -> None:
    given = CountingEnvironment()
    pipeline = BatchPipeline(given, Scripted(), window_size=2)
    pipeline.collect(0)
    pipeline.teardown()
    assert given.closed == 0
    built: list[CountingEnvironment] = []

    def make() -> CountingEnvironment:
        built.append(CountingEnvironment())
        return built[-1]

    pipeline = BatchPipeline(make, Scripted(), window_size=2)
    pipeline.collect(0)
    pipeline.teardown()
    pipeline.teardown()
    assert [environment.closed for environment in built] == [1]
