"""Counters and thresholds: when to evaluate next, and in which state the loop is."""

from __future__ import annotations

import math
from typing import Any

from optix_bus.loop.convergence import ConvergenceWatch
from optix_bus.loop.settings import LoopSettings
from optix_bus.stats import fit_slope, t_quantile
from optix_bus.types import LoopState

#: Non-improvements, in convergence windows, after which evaluations become rarer: the window has then been
#: full for long enough to have decided where it could.
_PATIENCE = 1.5

#: Smoothed scores remembered since the last improvement.
_LEVELS = 1000


class BackoffScheduler:
    """ACTIVE while scores improve, COOLING when they stop, DORMANT when the convergence test agrees.

    Pure: no clock, no files. Score by score, call `record_score` and then one of `record_improvement`,
    `record_non_improvement` and `record_degradation`; `judge` chooses among them.

    Args:
        base_interval: windows from one evaluation to the next while tuning.
        backoff_factor: growth of the interval at each non-improvement, once the convergence window is full.
        max_interval_episodes: the interval grows no further (windows).
        plateau_threshold: non-improvements until COOLING.
        dormant_threshold: non-improvements before the convergence test is consulted.
        degradation_threshold: a score below the best by more than ``1 - this`` of it has degraded.
        min_degradation_drop: a smaller drop has not (score units).
        min_episodes_before_dormant: scores before DORMANT.
        min_episodes_before_degradation: scores before a degradation.
        noise_k: an improvement exceeds this many standard deviations of the noise.
        score_window: latest scores from which the noise is taken.
        trend_window: latest scores whose slope `is_improving` and `is_degrading` test.
        improvement_margin: an improvement exceeds this (score units).
        score_smoothing: latest scores whose mean is compared with the best.
        watch: the convergence test; by default the equivalence test with automatic margin and window. A
            watch that somebody else records into must be recorded into before this scheduler.
    """

    def __init__(
        self,
        base_interval: int = 1,
        backoff_factor: float = 2.0,
        max_interval_episodes: int = 100,
        plateau_threshold: int = 5,
        dormant_threshold: int = 20,
        degradation_threshold: float = 0.95,
        min_degradation_drop: float = 0.0001,
        min_episodes_before_dormant: int = 0,
        min_episodes_before_degradation: int = 5,
        noise_k: float = 2.0,
        score_window: int = 20,
        trend_window: int = 8,
        *,
        improvement_margin: float = 0.0,
        score_smoothing: int = 2,
        watch: ConvergenceWatch | None = None,
    ) -> None:
        self.base_interval = base_interval
        self.backoff_factor = backoff_factor
        self.max_interval_episodes = max_interval_episodes
        self.plateau_threshold = plateau_threshold
        self.dormant_threshold = dormant_threshold
        self.degradation_threshold = degradation_threshold
        self.min_degradation_drop = min_degradation_drop
        self.min_episodes_before_dormant = min_episodes_before_dormant
        self.min_episodes_before_degradation = min_episodes_before_degradation
        self.noise_k = noise_k
        self.score_window = score_window
        self.trend_window = trend_window
        self.improvement_margin = improvement_margin
        self.score_smoothing = score_smoothing
        self._owns_watch = watch is None
        self.watch = ConvergenceWatch(LoopSettings()) if watch is None else watch
        self._scores: list[float] = []
        self._levels: list[float] = []  # smoothed scores since the last improvement
        self._best: float | None = None
        self._growth = 1.0  # of the interval over the base
        self._state = LoopState.ACTIVE
        self._non_improvements = 0
        self._total = 0
        self._last_adapted: int | None = None
        self._noise_of: tuple[int, int] | None = None  # (scores recorded, score window) of the noise below
        self._noise = 0.0

    @classmethod
    def from_settings(cls, settings: LoopSettings, watch: ConvergenceWatch) -> BackoffScheduler:
        """A scheduler with the loop's settings, around the loop's convergence test."""
        return cls(
            settings.base_interval,
            settings.backoff_factor,
            settings.max_interval_episodes,
            settings.plateau_threshold,
            20 if settings.dormant_threshold is None else settings.dormant_threshold,
            settings.degradation_threshold,
            settings.min_degradation_drop,
            settings.min_episodes_before_dormant or 0,
            settings.min_episodes_before_degradation,
            settings.noise_k,
            settings.score_window,
            improvement_margin=settings.improvement_margin,
            score_smoothing=settings.score_smoothing,
            watch=watch,
        )

    # Reading

    @property
    def best_score(self) -> float:
        """The smoothed score at the last improvement; -inf before the first."""
        return -math.inf if self._best is None else self._best

    @property
    def consecutive_non_improvements(self) -> int:
        """Scores since the best was reached, or since a degradation or restart."""
        return self._non_improvements

    @property
    def current_interval(self) -> int:
        """Windows from this evaluation to the next."""
        grown = min(self.base_interval * self._growth, float(self.max_interval_episodes))
        return int(max(grown, float(self.base_interval)))

    @property
    def current_state(self) -> LoopState:
        """Where the loop stands."""
        return self._state

    @property
    def total_episodes(self) -> int:
        """Scores recorded."""
        return self._total

    @property
    def smoothed(self) -> float:
        """Mean of the latest ``score_smoothing`` scores; NaN before the first."""
        recent = self._scores[-self.score_smoothing :]
        return sum(recent) / len(recent) if recent else math.nan

    @property
    def noise(self) -> float:
        """Standard deviation of the latest ``score_window`` scores around their trend; 0 for fewer than 4."""
        asked = (self._total, self.score_window)
        if self._noise_of != asked:
            recent = self._scores[-self.score_window :]
            self._noise = fit_slope(recent).residual_sd if len(recent) >= 4 else 0.0
            self._noise_of = asked
        return self._noise

    @property
    def margin(self) -> float:
        """What the smoothed score must exceed the best by to be an improvement."""
        return max(self.improvement_margin, self.noise_k * self.noise)

    @property
    def has_improved(self) -> bool:
        """Whether the scores recorded so far beat the best by the margin."""
        return bool(self._scores) and (self._best is None or self.smoothed > self._best + self.margin)

    def should_adapt(self, episode_count: int) -> bool:
        """Whether the interval has passed since the last call that said yes."""
        due = self._last_adapted is None or episode_count - self._last_adapted >= self.current_interval
        if due:
            self._last_adapted = episode_count
        return due

    def is_converged(self) -> bool:
        """Whether the convergence test found a plateau at the last score, after a rise or above the floor."""
        return self.watch.converged and self.watch.has_risen()

    def is_improving(self) -> bool:
        """Whether the latest ``trend_window`` scores rise significantly (5 %, autocorrelation corrected)."""
        return self._trend(+1.0)

    def is_degrading(self) -> bool:
        """Whether the latest ``trend_window`` scores fall significantly (5 %, autocorrelation corrected)."""
        return self._trend(-1.0)

    def check_degradation(self, score: float, best: float | None = None) -> bool:
        """Whether this one score lies clearly below the best: by the threshold, the smallest drop and the
        noise. ``best`` is what was ever confirmed, by default `best_score`.
        """
        reference = self.best_score if best is None else best
        if self._total < self.min_episodes_before_degradation or not math.isfinite(reference):
            return False
        return reference - score > self.distance(reference)

    def distance(self, reference: float) -> float:
        """How far from ``reference`` a single score has to lie to have clearly changed (score units)."""
        threshold = abs(reference) * (1.0 - self.degradation_threshold)
        return max(threshold, self.min_degradation_drop, self.noise_k * self.noise)

    # Recording

    def record_score(self, score: float) -> None:
        """One raw score."""
        keep = max(self.score_window, self.score_smoothing, self.trend_window)
        self._scores = [*self._scores[1 - keep :], score] if keep > 1 else [score]
        self._total += 1
        self._levels.append(self.smoothed)
        del self._levels[:-_LEVELS]
        if self._owns_watch:
            self.watch.record(score)

    def record_improvement(self, score: float) -> None:
        """The smoothed score beat the best: tune hard again, from any state.

        A gain that noise had hidden is recognised late, when the noise has settled. Non-improvements count
        from when the gain was made: the first smoothed score that beats the old best by today's margin.
        """
        bar = math.inf if self._best is None else self._best + self.margin
        reached = next((i for i, level in enumerate(self._levels) if level > bar), len(self._levels) - 1)
        self._levels = self._levels[max(reached, 0) :]
        self._best = score
        self._rouse()
        self._non_improvements = max(len(self._levels) - 1, 0)

    def record_non_improvement(self, dormant_allowed: bool = True) -> None:
        """No improvement. ``dormant_allowed`` is False while something else forbids DORMANT."""
        self._non_improvements += 1
        if self._non_improvements > _PATIENCE * self.watch.window and not self.watch.passing:
            # Not earlier: a test that waits for evaluations, or for its last looks, must not be starved.
            self._growth = min(self._growth * self.backoff_factor, float(self.max_interval_episodes))
        if self._state is LoopState.ACTIVE and self._non_improvements >= self.plateau_threshold:
            self._state = LoopState.COOLING
        if (
            dormant_allowed
            and self._state in (LoopState.ACTIVE, LoopState.COOLING)
            and self._non_improvements >= self.dormant_threshold
            and self._total >= self.min_episodes_before_dormant
            and self.is_converged()
        ):
            self._state = LoopState.DORMANT

    def record_degradation(self) -> None:
        """The score fell clearly below the best: tune hard again, from any state."""
        self.record_restart()

    def record_restart(self) -> None:
        """Something else gives a reason to tune hard again: new data, a new regime."""
        self._rouse()
        self.watch.restart()

    def record_new_world(self, level: float) -> None:
        """What was scored so far cannot be compared any more: tune hard, with this level to beat."""
        self._scores, self._levels, self._best = [level], [], level
        self._total += 1
        self._rouse()

    def start_watching(self) -> None:
        """From DORMANT to WATCHDOG: alive, evaluating, not tuning."""
        if self._state is LoopState.DORMANT:
            self._state = LoopState.WATCHDOG

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on, no setting among them; a shared watch has its own."""
        return {
            "scores": list(self._scores),
            "levels": list(self._levels),
            "best": self._best,
            "growth": self._growth,
            "state": self._state.value,
            "non_improvements": self._non_improvements,
            "total": self._total,
            "last_adapted": self._last_adapted,
            "watch": self.watch.state() if self._owns_watch else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, by the settings of this scheduler."""
        self._scores = [float(value) for value in state["scores"]]
        self._noise_of = None
        self._levels = [float(value) for value in state["levels"]]
        self._best = state["best"]
        self._growth = float(state["growth"])
        self._state = LoopState(state["state"])
        self._non_improvements = int(state["non_improvements"])
        self._total = int(state["total"])
        self._last_adapted = state["last_adapted"]
        if self._owns_watch:
            self.watch.load_state(state["watch"])

    def _rouse(self) -> None:
        self._state = LoopState.ACTIVE
        self._growth = 1.0
        self._non_improvements = 0

    def _trend(self, sign: float) -> bool:
        recent = self._scores[-self.trend_window :]
        if len(recent) < max(self.trend_window, 3):
            return False
        fit = fit_slope(recent)
        if fit.standard_error == 0.0:
            return sign * fit.slope > 0.0
        if not math.isfinite(fit.standard_error):
            return False
        return sign * fit.slope > t_quantile(0.95, fit.degrees) * fit.standard_error
