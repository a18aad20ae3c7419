"""Scores: from experience to one number that every decision of the loop compares."""

from __future__ import annotations

from optix_bus.evaluators.episodes import EpisodeScores, episode_scores
from optix_bus.evaluators.factory import make_evaluator
from optix_bus.evaluators.returns import ReturnEvaluator
from optix_bus.evaluators.settings import EvaluatorSettings

#: Names under which frameworks' users know the default evaluator; it needs no framework.
TorchEvaluator = ReturnEvaluator
TFEvaluator = ReturnEvaluator
FlaxEvaluator = ReturnEvaluator

__all__ = [
    "EpisodeScores",
    "EvaluatorSettings",
    "FlaxEvaluator",
    "ReturnEvaluator",
    "TFEvaluator",
    "TorchEvaluator",
    "episode_scores",
    "make_evaluator",
]
