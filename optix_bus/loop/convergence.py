"""The test that says when a series of evaluations has stopped rising."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from optix_bus.loop.series import EvaluationSeries
from optix_bus.loop.settings import LoopSettings
from optix_bus.stats import (
    EquivalenceReport,
    SlopeFit,
    classical_test,
    equivalence_test,
    fit_slope,
    required_window,
    resolvable_margin,
)
from optix_bus.stats.equivalence import filling
from optix_bus.stats.power import SMALLEST_WINDOW

#: A rise since the start that chance does not make, in standard errors.
_PROVEN = 3.0

#: Episodes behind a score that does not say; only used to guess the spread of single episodes from the noise.
_TYPICAL_EPISODES = 20.0

#: Standard errors by which scores may scatter more than their episodes say before that is taken for noise of
#: another kind.
_CHANCE = 2.0

#: Standard errors by which the autocorrelation is taken higher than it is estimated, for choosing the window.
#: With a margin of the user's own at its upper 99.5 % bound: such a rise is not to be overlooked. With the
#: automatic margin the caution grows to the second value over so many evaluations more than the smallest
#: window: twenty are enough only where the margin is many times the noise, and behind a high rise a longer
#: window has to wait for the rise to leave it. By simulation; see `tests/stats/table.md`.
_CERTAIN, _CAUTION, _CAUTIOUS_FROM = 2.58, 1.75, 100.0

#: A window that is not long enough grows by a factor between these.
_LEAST_GROWTH, _MOST_GROWTH = 1.25, 1.5

#: Evaluations kept for a margin of the user's own, which is never widened: the window has to grow instead.
_LONG = 10_000


class ConvergenceWatch:
    """Raw evaluation means, oldest first, and one look at them for each.

    The window holds as many of the latest evaluations as the power formula asks for at the noise found in
    them. It starts small, so a plateau behind a long rise is judged by the plateau alone: the rise in a
    longer window would count as noise.
    """

    def __init__(self, settings: LoopSettings) -> None:
        self._settings = settings
        longest = max(settings.max_convergence_window, settings.convergence_window or 0)
        self._own_margin = settings.convergence_margin is not None
        self._keep = max(longest, _LONG) if self._own_margin else longest
        self._series = EvaluationSeries(self._keep)
        self._looks = 0
        self._looks_before = 0
        #: The line through the window of the last look, where there was one.
        self._fit: SlopeFit | None = None
        self.report: EquivalenceReport | None = None

    def record(
        self, score: float, *, std: float = math.nan, n: int = 0, standard_error: float = math.nan
    ) -> EquivalenceReport:
        """Add one evaluation and look.

        Args:
            score: raw mean of the evaluation.
            std: standard deviation of its single-episode returns; NaN where unknown.
            n: its number of episodes; 0 where unknown.
            standard_error: of the score; NaN where unknown.
        """
        self._series.record(score, std, n, standard_error)
        self._looks_before = self._looks
        self.report = self._look()
        self._looks = self.report.looks
        return self.report

    def restart(self) -> None:
        """Start counting looks again; the evaluations stay."""
        self._looks = 0

    def begin_anew(self, evaluations: Iterable[tuple[float, float, int, float]]) -> None:
        """Forget everything but these: (score, spread of single episodes, their number, standard error) each.

        They are the start from which a rise is measured.
        """
        self._series = EvaluationSeries(self._keep)
        for score, std, n, standard_error in evaluations:
            self._series.record(score, std, n, standard_error)
        self._looks = self._looks_before = 0
        self._fit = self.report = None

    @property
    def converged(self) -> bool:
        """Whether the last look found a plateau."""
        return self.report is not None and self.report.verdict == "plateau"

    @property
    def passing(self) -> bool:
        """Whether looks are passing, but not yet as many as it takes."""
        return self.report is not None and self.report.verdict == "passed"

    @property
    def window(self) -> int:
        """Evaluations the decision takes, as of the last look."""
        if self.report is None:
            return self._settings.convergence_window or SMALLEST_WINDOW
        return self.report.window

    def has_risen(self) -> bool:
        """Whether the score passed the floor or, without one, rose by three standard errors since the start.

        A curve that has been flat from the start looks exactly like a converged one; only a floor tells them
        apart.
        """
        recent = self._series.scores[-self.window :]
        if self._settings.score_floor is not None:
            return bool(len(recent) and recent.mean() >= self._settings.score_floor)
        if len(recent) < 3:
            return False
        fit = self._fit if self._fit is not None else fit_slope(recent)
        start = self._series.start[:, 0]
        single = max(fit.residual_sd, self._series.start_error())
        error = math.hypot(single / math.sqrt(len(start)), fit.residual_sd / math.sqrt(max(fit.n_eff, 1.0)))
        gain = float(recent.mean() - start.mean())
        return gain > 0.0 and gain >= _PROVEN * error

    def best_effort(self) -> EquivalenceReport | None:
        """A look at whatever there is, for the report of a run that ended before its window was full."""
        if self.report is None or self.report.window_full or len(self._series) < 5:
            return self.report
        recent = self._series.scores[-self.report.window :]
        return equivalence_test(recent, self.report.margin, looks_needed=self._settings.looks + 1)

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on."""
        return {"series": self._series.state(), "looks": self._looks, "looks_before": self._looks_before}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`. The last report is made again: it follows from the evaluations."""
        self._series.load_state(state["series"])
        self._looks = self._looks_before = int(state["looks_before"])
        self.report = self._look() if len(self._series) else None
        self._looks = int(state["looks"])

    def _look(self) -> EquivalenceReport:
        settings, scores = self._settings, self._series.scores
        self._fit = None
        window = settings.convergence_window or SMALLEST_WINDOW
        if settings.convergence == "classical":
            if window > len(scores):
                return filling("classical", window, math.nan, settings.looks)
            return classical_test(scores[-window:], looks_before=self._looks, looks_needed=settings.looks)
        own = self._own_margin
        longest = settings.convergence_window or (_LONG if own else settings.max_convergence_window)
        needed = 0.0
        while window <= len(scores):
            fit = fit_slope(scores[-window:])
            spread = self._episode_sd(fit, window)
            asked = margin = self._margin(spread)
            noise, r = self._noise(fit, spread, window)
            needed = required_window(noise, margin, r)
            if window >= longest and not own:
                margin = max(margin, resolvable_margin(noise, window, r))
            if window >= longest or (needed <= window and fit.half_width <= margin):
                self._fit = fit
                return equivalence_test(
                    scores[-window:],
                    margin,
                    looks_before=self._looks,
                    looks_needed=settings.looks,
                    asked_margin=asked,
                    fit=fit,
                )
            # Step by step: a longer window knows noise and correlation better than the one that asks for it.
            grown = min(max(needed, _LEAST_GROWTH * window), _MOST_GROWTH * window)
            window = int(min(grown, longest))
        missing = int(min(max(needed, window), longest))
        spread = self._series.episode_sd(len(scores))
        return filling("equivalence", missing, self._margin(spread), settings.looks)

    def _margin(self, spread: float) -> float:
        """The rise per window that matters: the user's own, or from the data.

        Measured in single episodes, not in means of them, so that more evaluation episodes sharpen the test
        instead of moving it; and never less than a share of what the run has gained, so that a policy without
        any noise is judged by a scale that means something.
        """
        if self._settings.convergence_margin is not None:
            return self._settings.convergence_margin
        share = self._settings.margin_score_share * self._series.gained()
        return share if math.isnan(spread) else max(self._settings.margin_episode_sd * spread, share)

    def _episode_sd(self, fit: SlopeFit, window: int) -> float:
        """Standard deviation of single episodes: as reported, otherwise from the noise of their means."""
        reported = self._series.episode_sd(window)
        if not math.isnan(reported):
            return reported
        return fit.residual_sd * math.sqrt(self._series.episodes(window) or _TYPICAL_EPISODES)

    def _noise(self, fit: SlopeFit, spread: float, window: int) -> tuple[float, float]:
        """Noise of an evaluation and its autocorrelation, for choosing the window; never flattered.

        A short window often looks calmer and less correlated than the run is, and would then be taken for
        long enough, where the same margin allows a steeper rise. So r is taken at the upper end of what it
        may be. The noise is the standard error that the evaluations report, which rests on all their
        episodes, unless what the scores show is more than chance makes of that.
        """
        if fit.residual_sd == 0.0:
            return 0.0, 0.0
        episodes = self._series.episodes(window)
        reported = spread / math.sqrt(episodes) if episodes > 1 else 0.0
        likely = reported * (1.0 + _CHANCE / math.sqrt(2.0 * max(fit.n_eff, 2.0)))
        noise = reported if fit.noise < likely else fit.noise
        beyond = min(max(window - SMALLEST_WINDOW, 0) / _CAUTIOUS_FROM, 1.0)
        caution = _CERTAIN if self._own_margin else _CAUTION * beyond
        return noise, min(fit.r_corrected + caution * fit.r_error, 0.95)
