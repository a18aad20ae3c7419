"""What to do at a plateau: spawn, prune, stop or nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from optix_bus.evolution.series import Signals, slope
from optix_bus.stats import fit_slope, t_quantile
from optix_bus.types import EvalMetrics

#: Of the one-sided bounds that a gap has to exceed its thresholds by.
_CONFIDENCE = 0.95


class MetaAction(Enum):
    """What a `MetaController` decides."""

    NO_OP = "no_op"
    SPAWN = "spawn"
    PRUNE = "prune"
    STOP = "stop"


@dataclass(frozen=True)
class MetaVerdict:
    """An action, why, and the figures it was taken from."""

    action: MetaAction
    reason: str
    figures: dict[str, float] = field(default_factory=dict)


class MetaController:
    """Decides from the generalisation gap, ``(train - val) / |val|``, and from how validation improves.

    In this order: the spawn budget is spent -> STOP; the gap, or its slope per evaluation, is over its
    threshold -> PRUNE; validation gained less than the threshold over the window -> SPAWN; otherwise NO_OP,
    because it still improves. A gap counts as over its threshold only where its lower 95 % bound is: with
    noisy scores a gap of nothing would otherwise be found every other time. At a true gap, or slope, that
    lies exactly on the threshold each of the two is found in at most 5 % of all cases.

    Args:
        gap_threshold: largest mean gap, as a share of the score.
        gap_slope_threshold: largest growth of the gap per evaluation.
        improvement_threshold: smallest gain of validation over the window, as a share of the score.
        window: how many of the latest evaluations count.
    """

    def __init__(
        self,
        gap_threshold: float = 0.2,
        gap_slope_threshold: float = 0.02,
        improvement_threshold: float = 0.01,
        window: int = 10,
    ) -> None:
        self.gap_threshold = gap_threshold
        self.gap_slope_threshold = gap_slope_threshold
        self.improvement_threshold = improvement_threshold
        self.window = window

    def decide(self, metrics_history: Sequence[EvalMetrics], pm_status: Mapping[str, Any]) -> MetaAction:
        """The action for these evaluations (oldest first) and a `PolicyManager.status`."""
        return self.judge(metrics_history, budget_exhausted=bool(pm_status.get("budget_exhausted"))).action

    def judge(self, metrics_history: Sequence[EvalMetrics], *, budget_exhausted: bool) -> MetaVerdict:
        """`decide` with its reason and its figures."""
        signals = Signals.of(metrics_history, self.window)
        gaps = signals.gaps
        level, growth = _Bound.of_mean(gaps), _Bound.of_slope(gaps)
        gain = slope(signals.val) * max(signals.val.size - 1, 0) / signals.level
        figures = {"improvement": gain}
        if gaps.size:
            figures.update(gap=level.value, gap_slope=growth.value)
        if budget_exhausted:
            return MetaVerdict(MetaAction.STOP, "the spawn budget is spent", figures)
        if level.lower > self.gap_threshold:
            reason = f"the generalisation gap of {level.value:.3g} exceeds {self.gap_threshold:g}"
            return MetaVerdict(MetaAction.PRUNE, reason, figures)
        if growth.lower > self.gap_slope_threshold:
            reason = (
                f"the generalisation gap grows by {growth.value:.3g} an evaluation, more than "
                f"{self.gap_slope_threshold:g}"
            )
            return MetaVerdict(MetaAction.PRUNE, reason, figures)
        if gain < self.improvement_threshold:
            reason = f"validation gained {gain:.3g} of its score, less than {self.improvement_threshold:g}"
            return MetaVerdict(MetaAction.SPAWN, reason, figures)
        reason = f"validation still improves: {gain:.3g} of its score over the window"
        return MetaVerdict(MetaAction.NO_OP, reason, figures)


@dataclass(frozen=True)
class _Bound:
    """An estimate with its lower 95 % bound; minus infinity where there are too few numbers to have one."""

    value: float
    lower: float

    @classmethod
    def of_mean(cls, values: np.ndarray[Any, Any]) -> _Bound:
        n = values.size
        if n == 0:
            return cls(0.0, -math.inf)
        mean = float(values.mean())
        if n < 2:
            return cls(mean, -math.inf)
        error = float(values.std(ddof=1)) / math.sqrt(n)
        return cls(mean, mean - (t_quantile(_CONFIDENCE, n - 1.0) * error if error > 0.0 else 0.0))

    @classmethod
    def of_slope(cls, values: np.ndarray[Any, Any]) -> _Bound:
        if values.size < 4:
            return cls(slope(values), -math.inf)
        fit = fit_slope(values)
        if fit.standard_error == 0.0:
            return cls(fit.slope, fit.slope)
        if not math.isfinite(fit.standard_error):
            return cls(fit.slope, -math.inf)
        return cls(fit.slope, fit.slope - t_quantile(_CONFIDENCE, fit.degrees) * fit.standard_error)
