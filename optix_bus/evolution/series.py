"""Scores of training and validation, side by side, as every decision about policies reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optix_bus.types import EvalMetrics

#: Keeps a ratio finite where a score is zero.
_TINY = 1e-12


@dataclass(frozen=True)
class Signals:
    """The latest evaluations that hold evidence, oldest first.

    Attributes:
        val: ``[n]`` the scores that decide: of validation where there is one, otherwise of training.
        train: ``[n]`` training scores of the same windows, NaN where a window had none; None without
            validation.
    """

    val: np.ndarray[Any, Any]
    train: np.ndarray[Any, Any] | None

    @classmethod
    def of(cls, history: Sequence[EvalMetrics], window: int) -> Signals:
        """From the last ``window`` evaluations with a finite score."""
        seen = [metrics for metrics in history if math.isfinite(metrics.primary_score)][-window:]
        val = np.array([metrics.primary_score for metrics in seen], np.float64)
        train = np.array([_train_score(metrics) for metrics in seen], np.float64)
        return cls(val, None if np.isnan(train).all() else train)

    @property
    def level(self) -> float:
        """Absolute mean of the deciding scores, never zero: what slopes and gaps are measured by."""
        return max(abs(float(self.val.mean())), _TINY) if self.val.size else _TINY

    @property
    def gaps(self) -> np.ndarray[Any, Any]:
        """``[m]`` training minus validation, over the absolute mean of validation; empty without training."""
        if self.train is None:
            return np.zeros(0)
        gaps = (self.train - self.val) / self.level
        return np.asarray(gaps[np.isfinite(gaps)])


def _train_score(metrics: EvalMetrics) -> float:
    """The training score of an evaluation; NaN where there is none beside it."""
    train = metrics.metrics.get("train_score")
    if train is None:
        gap = metrics.generalization_gap
        return math.nan if gap is None else metrics.primary_score + gap
    return float(train)


def slope(values: np.ndarray[Any, Any]) -> float:
    """Least squares slope of ``[n]`` values at equal distances, per step; 0 for fewer than two."""
    n = values.size
    if n < 2:
        return 0.0
    x = np.arange(n) - (n - 1) / 2.0
    # Against rounding: values that are all equal have no slope, whatever their size.
    deviations = values - values.mean()
    found = float(x @ deviations / (x @ x))
    return 0.0 if abs(found) * n <= 1e-12 * float(np.abs(values).max(initial=0.0)) else found
