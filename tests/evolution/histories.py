"""Evaluations with and without validation."""

from __future__ import annotations

from collections.abc import Iterable

from optix_bus.types import EvalMetrics


def scored(*scores: float) -> list[EvalMetrics]:
    """Scores of training alone."""
    return [EvalMetrics(score, {}, number, 0.0) for number, score in enumerate(scores)]


def validated(val: Iterable[float], train: Iterable[float]) -> list[EvalMetrics]:
    """As `BaseEvaluator.combine` makes them."""
    return [
        EvalMetrics(v, {"train_score": t, "val_score": v, "generalization_gap": t - v}, number, 0.0)
        for number, (v, t) in enumerate(zip(val, train, strict=True))
    ]
