"""How far a variant is put from its parent: the worse things go, the further."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from optix_bus.evolution.series import Signals, slope
from optix_bus.types import EvalMetrics


@dataclass(frozen=True)
class VariantNoise:
    """A noise scale with the three signals behind it.

    Attributes:
        scale: share of its range by which a hyperparameter is moved (one standard deviation).
        trend: validation slope as a share of the steepest, in [0, 1]; 1 means that all is well.
        gap_penalty: mean generalisation gap over the score, in [0, 1].
        correlation_penalty: one minus the correlation of training and validation scores, in [0, 1].
    """

    scale: float
    trend: float
    gap_penalty: float = 0.0
    correlation_penalty: float = 0.0

    def figures(self) -> dict[str, float]:
        """All of them by name."""
        return asdict(self)


def variant_noise(
    history: Sequence[EvalMetrics],
    min_scale: float = 0.001,
    max_scale: float = 0.1,
    window: int = 10,
    max_slope: float | None = None,
) -> VariantNoise:
    """The noise of the next variant, from the last ``window`` evaluations.

    With validation: ``t = clip(slope / max_slope, 0, 1)``, ``gap = clip(mean(train - val) / |mean(val)|, 0,
    1)``, ``corr = clip(1 - Pearson(train, val), 0, 1)``, ``t_eff = t (1 - gap / 2) (1 - corr / 2)`` and
    ``scale = max - t_eff (max - min)``. Without: ``max / (1 + improvement)``, where the improvement is the
    gain from the first to the last of these evaluations over the size of the first.

    Args:
        history: evaluations, oldest first.
        min_scale: of a variant while everything improves.
        max_scale: of a variant of something that stands still.
        window: how many of the latest evaluations count.
        max_slope: the steepest slope, in score units per evaluation; by default one that gains as much as
            the score's own size over the window.
    """
    signals = Signals.of(history, window)
    if signals.val.size < 2:
        return VariantNoise(max_scale, 0.0)
    if signals.train is None:
        first = max(abs(float(signals.val[0])), 1e-12)
        ratio = max(float(signals.val[-1] - signals.val[0]) / first, 0.0)
        return VariantNoise(max(max_scale / (1.0 + ratio), min_scale), ratio / (1.0 + ratio))
    steepest = signals.level / window if max_slope is None else max_slope
    trend = _share(slope(signals.val) / steepest)
    gap = _share(float(signals.gaps.mean()) if signals.gaps.size else 0.0)
    correlation = _share(1.0 - _pearson(signals.train, signals.val))
    effective = trend * (1.0 - 0.5 * gap) * (1.0 - 0.5 * correlation)
    return VariantNoise(max_scale - effective * (max_scale - min_scale), trend, gap, correlation)


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _pearson(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
    """Correlation of pairs that are both finite; 0 where one of the two does not move."""
    both = np.isfinite(first) & np.isfinite(second)
    a, b = first[both], second[both]
    if a.size < 2:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0.0 else 0.0
