"""Scores are means over complete episodes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from optix_bus.errors import ConfigurationError
from optix_bus.evaluators import (
    EvaluatorSettings,
    ReturnEvaluator,
    TFEvaluator,
    TorchEvaluator,
    episode_scores,
    make_evaluator,
)
from optix_bus.interfaces import BaseEvaluator
from optix_bus.types import EpisodeData, EvalMetrics
from tests.oracles.episode_returns import returns_of_rows


def window(returns: list[float], **metadata: Any) -> EpisodeData:
    """A pipeline's window in which episodes with these returns ended."""
    facts = {"episode_returns": returns, "episode_lengths": [10] * len(returns), **metadata}
    return EpisodeData(
        np.zeros((4, 1)),
        np.zeros(4),
        np.ones(4),
        np.zeros(4, bool),
        np.zeros(4, bool),
        episode_id=6,
        metadata=facts,
    )


def raw(rewards: Any, ends: Any, **fields: Any) -> EpisodeData:
    """A window of a user's own pipeline: no metadata."""
    nothing = np.zeros_like(np.asarray(rewards))
    return EpisodeData(nothing, nothing, rewards, ends, np.zeros_like(np.asarray(ends)), **fields)


def test_the_score_is_the_mean_return_with_its_standard_error() -> None:
    returns = [3.0, 5.0, 10.0, 2.0]
    metrics = ReturnEvaluator().score(window(returns), {})
    assert metrics.primary_score == 5.0
    assert metrics.n == 4
    assert metrics.metrics["std"] == pytest.approx(np.std(returns, ddof=1))
    assert metrics.standard_error == pytest.approx(stats.sem(returns))
    assert (metrics.metrics["min"], metrics.metrics["max"], metrics.metrics["median"]) == (2.0, 10.0, 4.0)
    assert metrics.metrics["mean_length"] == 10.0
    assert metrics.episode_id == 6


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_the_interquartile_mean_is_the_trimmed_mean_of_scipy(returns: list[float]) -> None:
    found = ReturnEvaluator().score(window(returns), {}).metrics["iqm"]
    assert found == pytest.approx(stats.trim_mean(returns, 0.25), rel=1e-9, abs=1e-6)


def test_a_window_without_a_completed_episode_is_no_evidence() -> None:
    metrics = ReturnEvaluator().score(window([]), {})
    assert math.isnan(metrics.primary_score)
    assert metrics.n == 0
    assert math.isnan(metrics.standard_error)
    assert metrics.metrics["total_reward"] == 4.0


def test_one_episode_has_a_score_but_no_standard_error() -> None:
    metrics = ReturnEvaluator().score(window([8.0]), {})
    assert metrics.primary_score == 8.0
    assert math.isnan(metrics.standard_error)
    assert math.isnan(metrics.metrics["std"])


@pytest.mark.parametrize("metadata", [{"is_live": True}, {"has_episodes": False}])
def test_where_there_are_no_episodes_the_rewards_of_the_window_are_the_score(
    metadata: dict[str, bool],
) -> None:
    metrics = ReturnEvaluator().score(window([], **metadata), {})
    assert metrics.primary_score == 4.0
    assert metrics.n == 0
    with_episodes = ReturnEvaluator().score(window([9.0], **metadata), {})
    assert with_episodes.primary_score == 9.0


def test_an_episode_longer_than_the_window_is_not_scored_by_its_tail() -> None:
    # The pitfall: a perfect policy could never score above the window size.
    assert ReturnEvaluator().score(window([500.0]), {}).primary_score == 500.0


def test_cut_episodes_are_counted() -> None:
    assert (
        ReturnEvaluator().score_validation(window([1.0, 2.0], cut_episodes=[4])).metrics["cut_episodes"]
        == 1.0
    )


def test_diagnostics_that_are_numbers_stand_beside_the_score() -> None:
    diagnostics = {"policy_loss": np.float32(0.5), "clipped": True, "n": 99, "note": "text", "curve": [1, 2]}
    metrics = ReturnEvaluator().score(window([1.0, 3.0]), diagnostics).metrics
    assert metrics["policy_loss"] == 0.5
    assert metrics["clipped"] == 1.0
    assert metrics["n"] == 2, "the score's own names win"
    assert "note" not in metrics
    assert "curve" not in metrics


def test_validation_decides_and_the_gap_stands_beside_it() -> None:
    evaluator = ReturnEvaluator()
    train, validation = evaluator.score(window([10.0]), {}), evaluator.score_validation(window([7.0, 9.0]))
    combined = evaluator.combine(train, validation)
    assert combined.primary_score == 8.0
    assert combined.generalization_gap == 2.0
    assert combined.n == 2


@pytest.mark.parametrize("kind", [TorchEvaluator, TFEvaluator])
def test_a_primary_score_function_replaces_the_score_but_not_the_metrics(kind: type[ReturnEvaluator]) -> None:
    by_data = kind(primary_score_fn=lambda data: -data.length).score(window([1.0, 3.0]), {})
    assert by_data.primary_score == -4.0
    assert by_data.metrics["mean"] == 2.0
    assert math.isnan(by_data.standard_error), "that of the mean return would belie another score"
    by_both = kind(lambda data, diagnostics: diagnostics["x"]).score(window([1.0]), {"x": 0.25})
    assert by_both.primary_score == 0.25


def test_lists_without_metadata_are_scored_from_rewards_and_ends() -> None:
    data = EpisodeData([0] * 5, [0] * 5, [1, 2, 3, 4, 5], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0])
    scores = episode_scores(data)
    assert scores.returns.tolist() == [3.0, 7.0]
    assert scores.lengths.tolist() == [2, 2]


def test_an_episode_that_began_before_the_window_is_left_out_where_only_its_tail_is_known() -> None:
    starts = [False, False, True, False, False]
    scores = episode_scores(raw([1.0, 2.0, 3.0, 4.0, 5.0], [0, 1, 0, 0, 1], episode_starts=starts))
    assert scores.returns.tolist() == [12.0]


def test_rows_that_are_no_transitions_are_not_summed() -> None:
    valid = [True, True, False, True, True]
    scores = episode_scores(raw([1.0, 2.0, 100.0, 4.0, 5.0], [0, 1, 0, 0, 1], valid=valid))
    assert scores.returns.tolist() == [3.0, 9.0]
    assert scores.lengths.tolist() == [2, 2]


@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_returns_from_raw_windows_agree_with_the_oracle(steps: int, environments: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rewards = rng.integers(-3, 4, (steps, environments)).astype(float)
    ends = rng.random((steps, environments)) < 0.3
    valid = rng.random((steps, environments)) < 0.8
    begins = rng.random(environments) < 0.5
    starts = np.zeros((steps, environments), bool)
    for row in range(environments):
        first = np.flatnonzero(valid[:, row])[:1]
        starts[first, row] = begins[row]
    data = raw(rewards, ends, valid=valid, episode_starts=starts)
    assert episode_scores(data).returns.tolist() == returns_of_rows(rewards, ends, valid, starts)


def test_the_settings_may_name_an_evaluator() -> None:
    assert isinstance(make_evaluator(), ReturnEvaluator)
    made = make_evaluator(EvaluatorSettings(f"{__name__}:Longest"))
    assert made.score(window([1.0]), {}).primary_score == 4.0


@pytest.mark.parametrize(
    ("path", "message"),
    [("nowhere", "module:Class"), ("no_such_module:X", "cannot be built"), ("math:floor", "cannot be built")],
)
def test_an_evaluator_that_cannot_be_built_is_an_error(path: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_evaluator(EvaluatorSettings(path))


def test_a_class_that_is_no_evaluator_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="subclass of BaseEvaluator"):
        make_evaluator(EvaluatorSettings("builtins:dict"))


class Longest(BaseEvaluator):
    """The longer the better."""

    def score(self, episode_data: EpisodeData, train_diagnostics: dict[str, Any]) -> EvalMetrics:
        return EvalMetrics(float(episode_data.length))
