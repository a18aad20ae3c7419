"""The default score: the mean return of complete episodes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

from optix_bus.evaluators.episodes import EpisodeScores, episode_scores
from optix_bus.interfaces import BaseEvaluator
from optix_bus.types import EpisodeData, EvalMetrics

_NAN = float("nan")


class ReturnEvaluator(BaseEvaluator):
    """Scores by the mean return of the episodes that *ended* in a window, each counted whole.

    A window in which none ended holds no evidence: its score is NaN with ``n`` 0, and the loop does not
    decide by it. Only where there are no episodes at all (a live source, or ``metadata["has_episodes"]`` is
    False) the sum of the window's rewards stands in.

    Metrics: ``n``, ``std`` (of one episode), ``standard_error``, ``mean``, ``min``, ``max``, ``median``,
    ``iqm``, ``mean_length``, ``total_reward``, ``steps``, ``cut_episodes``, and every number of the
    diagnostics that has none of these names.

    Args:
        primary_score_fn: another score, ``fn(episode_data)`` or ``fn(episode_data, train_diagnostics)``; the
            metrics stay, but for ``std`` and ``standard_error``, which are those of the mean return.
    """

    def __init__(self, primary_score_fn: Callable[..., float] | None = None) -> None:
        self._score_fn = primary_score_fn
        self._takes_diagnostics = primary_score_fn is not None and _takes_two(primary_score_fn)

    def score(self, episode_data: EpisodeData, train_diagnostics: Mapping[str, Any]) -> EvalMetrics:
        """Score a window of training."""
        scores = episode_scores(episode_data)
        metrics = {
            str(key): float(value) for key, value in train_diagnostics.items() if isinstance(value, Real)
        }
        metrics.update(_summary(scores, episode_data))
        if self._score_fn is not None:
            del metrics["std"], metrics["standard_error"]
            primary = float(self._ask(episode_data, train_diagnostics))
        elif scores.n == 0 and _has_no_episodes(episode_data):
            primary = episode_data.total_reward
        else:
            primary = scores.mean
        return EvalMetrics(primary, metrics, episode_data.episode_id, episode_data.timestamp)

    def score_validation(self, episode_data: EpisodeData) -> EvalMetrics:
        """Score complete validation episodes, which have no diagnostics."""
        return self.score(episode_data, {})

    def _ask(self, data: EpisodeData, diagnostics: Mapping[str, Any]) -> float:
        assert self._score_fn is not None
        return self._score_fn(data, diagnostics) if self._takes_diagnostics else self._score_fn(data)


def _summary(scores: EpisodeScores, data: EpisodeData) -> dict[str, float]:
    ordered = scores.ordered
    return {
        "n": float(scores.n),
        "std": scores.std,
        "standard_error": scores.standard_error,
        "mean": scores.mean,
        "min": float(ordered[0]) if scores.n else _NAN,
        "max": float(ordered[-1]) if scores.n else _NAN,
        "median": scores.median,
        "iqm": scores.iqm,
        "mean_length": scores.mean_length,
        "total_reward": data.total_reward,
        "steps": float(data.length),
        "cut_episodes": float(len(data.metadata.get("cut_episodes", ()))),
    }


def _has_no_episodes(data: EpisodeData) -> bool:
    return bool(data.metadata.get("is_live")) or data.metadata.get("has_episodes") is False


def _takes_two(fn: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return True
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) >= 2 or any(p.kind is p.VAR_POSITIONAL for p in parameters)
