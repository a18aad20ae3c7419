"""What every pipeline owes the loop; subclass it in your tests and say how yours is made."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from optix_bus.interfaces import BasePipeline
from optix_bus.types import EpisodeData

Array = np.ndarray[Any, Any]


class PipelineContract:
    """Checks of a pipeline that has its agent.

    ``make_pipeline`` is all that a subclass must give. Windows may be lists or arrays, of one environment
    ``[T, ...]`` or of several ``[T, B, ...]``. What only some pipelines can do (`evaluate`, `progress`) is
    checked where it exists.

    Attributes:
        windows: how many windows a check collects; enough for some episodes to end.
        reproducible: whether two pipelines from ``make_pipeline`` collect the same.
    """

    windows = 4
    reproducible = True

    def make_pipeline(self) -> BasePipeline:
        """A new pipeline with an agent, not yet set up."""
        raise NotImplementedError(
            "give make_pipeline in your subclass"
        )  # the subclass's part of the contract

    @pytest.fixture
    def pipeline(self) -> Iterator[BasePipeline]:
        """One that is closed after the test."""
        made = self.make_pipeline()
        made.setup()
        yield made
        made.teardown()

    def collect(self, pipeline: BasePipeline) -> list[EpisodeData]:
        """The first windows of a pipeline."""
        return list(itertools.islice(pipeline.episodes(), self.windows))

    def test_it_is_a_pipeline(self, pipeline: BasePipeline) -> None:
        """It derives from `BasePipeline` and says whether it is live."""
        assert isinstance(pipeline, BasePipeline)
        assert isinstance(pipeline.is_live, bool)

    def test_all_parts_of_a_window_have_the_same_length(self, pipeline: BasePipeline) -> None:
        """Observations, actions, rewards and ends are of the same steps; optional arrays too."""
        for data in self.collect(pipeline):
            shape = np.asarray(data.rewards).shape
            assert len(shape) in (1, 2)
            assert shape[0] > 0
            for name in ("terminated", "truncated", "log_probs", "values", "episode_starts", "valid"):
                value = getattr(data, name)
                assert value is None or np.asarray(value).shape == shape, name
            for name in ("observations", "actions", "final_observations"):
                value = getattr(data, name)
                assert value is None or np.asarray(value).shape[: len(shape)] == shape, name
            assert len(data.infos) in (0, shape[0])

    def test_numbers_are_finite(self, pipeline: BasePipeline) -> None:
        """An environment that gives NaN must be an error, not data."""
        for data in self.collect(pipeline):
            assert np.isfinite(np.asarray(data.rewards, np.float64)).all()
            assert np.isfinite(np.asarray(data.observations, np.float64)).all()

    def test_each_step_leads_to_the_next_observation(self, pipeline: BasePipeline) -> None:
        """Inside an episode, what a step led to is what the next one sees, also across windows."""
        windows = self.collect(pipeline)
        if any(data.final_observations is None for data in windows):
            pytest.skip("this pipeline gives no final_observations")
        for rows in _transitions(windows):
            for (_, led_to, ended, _), (seen, _, _, _) in itertools.pairwise(rows):
                assert ended or np.array_equal(led_to, seen)

    def test_an_episode_begins_where_the_one_before_ended(self, pipeline: BasePipeline) -> None:
        """``episode_starts`` and ends agree, also across windows."""
        windows = self.collect(pipeline)
        if any(data.episode_starts is None for data in windows):
            pytest.skip("this pipeline gives no episode_starts")
        for rows in _transitions(windows):
            assert rows[0][3], "the first step of all is the first of an episode"
            for (_, _, ended, _), (_, _, _, starts) in itertools.pairwise(rows):
                assert bool(ended) == bool(starts)

    def test_books_of_episodes_agree_with_the_rewards(self, pipeline: BasePipeline) -> None:
        """Returns in the metadata are those of whole episodes, as many as ended."""
        windows = self.collect(pipeline)
        if any("episode_returns" not in data.metadata for data in windows):
            pytest.skip("this pipeline keeps no books of episodes")
        told = [value for data in windows for value in data.metadata["episode_returns"]]
        summed = _returns(windows)
        assert len(told) == len(summed)
        assert np.allclose(sorted(told), sorted(summed), rtol=1e-4, atol=1e-4)

    def test_a_window_is_not_changed_by_the_next_one(self, pipeline: BasePipeline) -> None:
        """Windows own their memory."""
        windows = pipeline.episodes()
        first = next(windows)
        before = np.array(first.observations, copy=True), np.array(first.rewards, copy=True)
        for _ in range(self.windows - 1):
            next(windows)
        assert np.array_equal(before[0], np.asarray(first.observations))
        assert np.array_equal(before[1], np.asarray(first.rewards))

    def test_two_pipelines_made_alike_collect_the_same(self) -> None:
        """Reproducible from what it was made with."""
        if not self.reproducible:
            pytest.skip("declared as not reproducible")
        runs = []
        for _ in range(2):
            pipeline = self.make_pipeline()
            pipeline.setup()
            runs.append(self.collect(pipeline))
            pipeline.teardown()
        for first, second in zip(*runs, strict=True):
            for name in ("observations", "actions", "rewards", "terminated", "truncated"):
                assert np.array_equal(np.asarray(getattr(first, name)), np.asarray(getattr(second, name))), (
                    name
                )

    def test_an_evaluation_holds_exactly_the_episodes_asked_for(self, pipeline: BasePipeline) -> None:
        """`evaluate` plays complete episodes, each once."""
        if not hasattr(pipeline, "evaluate"):
            pytest.skip("this pipeline has no evaluate")
        data = pipeline.evaluate(3, 5)
        assert data.metadata["episode_numbers"] == [5, 6, 7]
        assert len(data.metadata["episode_returns"]) == 3
        assert int(np.count_nonzero(data.dones)) == 3
        assert sum(data.metadata["episode_lengths"]) == data.length

    def test_a_rebuilt_pipeline_goes_on_like_the_original(self) -> None:
        """`progress` and `rebuild` lose nothing but what they name."""
        original = self.make_pipeline()
        if not (hasattr(original, "progress") and hasattr(original, "rebuild")):
            pytest.skip("this pipeline cannot be rebuilt")
        rebuilt: Any = self.make_pipeline()
        original.setup()
        rebuilt.setup()
        try:
            windows = original.episodes()
            next(windows)
            lost = rebuilt.rebuild(original.progress())
            expected, found = next(windows), next(rebuilt.episodes())
            assert lost or np.array_equal(np.asarray(expected.observations), np.asarray(found.observations))
        finally:
            original.teardown()
            rebuilt.teardown()

    def test_teardown_may_be_called_after_nothing_was_collected(self) -> None:
        """Also a pipeline that never ran can be closed."""
        pipeline = self.make_pipeline()
        pipeline.setup()
        pipeline.teardown()


Transition = tuple[Array, Array, Any, Any]


def _transitions(windows: list[EpisodeData]) -> list[list[Transition]]:
    """Valid rows of each environment over all windows: (observation, led to, ended, is first)."""
    columns = _columns(np.asarray(windows[0].rewards)).shape[1]
    rows: list[list[Transition]] = [[] for _ in range(columns)]
    for data in windows:
        shape = _columns(np.asarray(data.rewards)).shape
        valid = np.ones(shape, bool) if data.valid is None else _columns(np.asarray(data.valid))
        seen = np.asarray(data.observations)
        following = seen if data.final_observations is None else np.asarray(data.final_observations)
        starts = (
            np.zeros(shape, bool)
            if data.episode_starts is None
            else _columns(np.asarray(data.episode_starts))
        )
        seen, following = (array.reshape(*shape, -1) for array in (seen, following))
        ended = _columns(data.dones)
        for step, row in zip(*np.nonzero(valid), strict=True):
            rows[row].append((seen[step, row], following[step, row], ended[step, row], starts[step, row]))
    return rows


def _returns(windows: list[EpisodeData]) -> list[float]:
    """Returns of the episodes that ended, summed row by row."""
    found: list[float] = []
    open_sums: dict[int, float] = {}
    for data in windows:
        rewards, ended = _columns(np.asarray(data.rewards, np.float64)), _columns(data.dones)
        valid = np.ones(rewards.shape, bool) if data.valid is None else _columns(np.asarray(data.valid))
        for step, row in zip(*np.nonzero(valid), strict=True):
            open_sums[int(row)] = open_sums.get(int(row), 0.0) + float(rewards[step, row])
            if ended[step, row]:
                found.append(open_sums.pop(int(row)))
    return found


def _columns(values: Array) -> Array:
    return values[:, None] if values.ndim == 1 else values
