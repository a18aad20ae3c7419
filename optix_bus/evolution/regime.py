"""In which regime the scores are: trending, ranging or volatile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optix_bus.evolution.series import Signals, slope
from optix_bus.types import EvalMetrics

#: Fewer scores say nothing about a slope.
_FEWEST = 3


class RegimeDetector:
    """Classifies the latest scores by what is left when their trend is taken away.

    ``volatile`` where the standard deviation of the residuals around a line, over the absolute mean, lies
    above ``volatility_threshold``; otherwise ``trending`` where the slope per evaluation, over the absolute
    mean, lies beyond ``trend_threshold`` in either direction; otherwise ``ranging``. Noise is measured around
    the trend, so that a score that improves steadily is no volatile one. For signals of a domain (prices,
    indices) subclass it and override `detect`.

    Args:
        volatility_threshold: largest detrended coefficient of variation of a calm regime.
        trend_threshold: smallest slope per evaluation, as a share of the mean, of a trend.
        window: how many of the latest evaluations count.
    """

    def __init__(
        self, volatility_threshold: float = 0.2, trend_threshold: float = 0.05, window: int = 10
    ) -> None:
        self.volatility_threshold = volatility_threshold
        self.trend_threshold = trend_threshold
        self.window = window

    def detect(self, metrics_history: Sequence[EvalMetrics]) -> str:
        """``trending``, ``ranging`` or ``volatile``; ``ranging`` for fewer than three scores."""
        signals = Signals.of(metrics_history, self.window)
        n = signals.val.size
        if n < _FEWEST:
            return "ranging"
        trend = slope(signals.val)
        line = trend * (np.arange(n) - (n - 1) / 2.0) + signals.val.mean()
        if float((signals.val - line).std()) / signals.level > self.volatility_threshold:
            return "volatile"
        return "trending" if abs(trend) / signals.level > self.trend_threshold else "ranging"
