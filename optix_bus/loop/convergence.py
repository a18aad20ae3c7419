"""The series of evaluations and the test that says when it has stopped rising."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

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
from optix_bus.stats.power import POWERFUL, SMALLEST_WINDOW

#: Evaluations at the start against which a rise is measured.
_START = 5

#: A rise since the start that chance does not make, in standard errors.
_PROVEN = 3.0

#: Episodes behind a score that does not say; only used to guess the spread of single episodes from the noise.
_TYPICAL_EPISODES = 20.0

#: A window that the formula finds long enough, but whose interval is too wide, grows by this.
_GROWTH = 1.25

#: Stands for a window that no run fills.
_NEVER = 10**9


class ConvergenceWatch:
    """Raw evaluation means, oldest first, and one look at them for each.

    The window holds as many of the latest evaluations as the power formula asks for at the noise found in
    them. It starts small, so a plateau behind a long rise is judged by the plateau alone: the rise in a
    longer window would count as noise.
    """

    def __init__(self, settings: LoopSettings) -> None:
        self._settings = settings
        self._scores: list[float] = []
        self._stds: list[float] = []
        self._counts: list[float] = []
        self._start: list[float] = []
        self._start_errors: list[float] = []
        self._highest = -math.inf
        self._looks = 0
        self._looks_before = 0
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
        if len(self._start) < _START:
            self._start.append(score)
            self._start_errors.append(standard_error)
        keep = max(self._settings.max_convergence_window, self._settings.convergence_window or 0)
        if self._settings.convergence_margin is not None:
            keep = max(keep, 10_000)  # a margin of the user's own is never widened: the window has to grow
        self._scores = [*self._scores[1 - keep :], score]
        self._stds = [*self._stds[1 - keep :], std]
        self._counts = [*self._counts[1 - keep :], float(n)]
        self._highest = max(self._highest, float(np.mean(self._scores[-3:])))
        self._looks_before = self._looks
        self.report = self._look()
        self._looks = self.report.looks
        return self.report

    def restart(self) -> None:
        """Start counting looks again; the evaluations stay."""
        self._looks = 0

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
        recent = self._scores[-self.window :]
        if self._settings.score_floor is not None:
            return bool(recent) and float(np.mean(recent)) >= self._settings.score_floor
        if len(recent) < 3:
            return False
        fit = fit_slope(recent)
        known = [error for error in self._start_errors if math.isfinite(error)]
        single = max(fit.residual_sd, math.sqrt(float(np.mean(np.square(known)))) if known else 0.0)
        error = math.hypot(
            single / math.sqrt(len(self._start)), fit.residual_sd / math.sqrt(max(fit.n_eff, 1.0))
        )
        gain = float(np.mean(recent)) - float(np.mean(self._start))
        return gain > 0.0 and gain >= _PROVEN * error

    def best_effort(self) -> EquivalenceReport | None:
        """A look at whatever there is, for the report of a run that ended before its window was full."""
        if self.report is None or self.report.window_full or len(self._scores) < 5:
            return self.report
        recent = self._scores[-self.report.window :]
        return equivalence_test(recent, self.report.margin, looks_needed=self._settings.looks + 1)

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on."""
        return {
            "scores": list(self._scores),
            "stds": _plain(self._stds),
            "counts": list(self._counts),
            "start": list(self._start),
            "start_errors": _plain(self._start_errors),
            "highest": self._highest if self._scores else None,
            "looks": self._looks,
            "looks_before": self._looks_before,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`. The last report is made again: it follows from the evaluations."""
        self._scores = [float(value) for value in state["scores"]]
        self._stds = _numbers(state["stds"])
        self._counts = [float(value) for value in state["counts"]]
        self._start = [float(value) for value in state["start"]]
        self._start_errors = _numbers(state["start_errors"])
        self._highest = -math.inf if state["highest"] is None else float(state["highest"])
        self._looks = self._looks_before = int(state["looks_before"])
        self.report = self._look() if self._scores else None
        self._looks = int(state["looks"])

    def _look(self) -> EquivalenceReport:
        if self._settings.convergence == "classical":
            return self._classical()
        own = self._settings.convergence_margin is not None
        window = self._settings.convergence_window or SMALLEST_WINDOW
        longest: float = self._settings.convergence_window or self._settings.max_convergence_window
        if own and self._settings.convergence_window is None:
            longest = math.inf
        while True:
            if window > len(self._scores):
                margin = self._margin(None, len(self._scores))
                return filling("equivalence", window, margin, self._settings.looks)
            fit = fit_slope(self._scores[-window:])
            asked = margin = self._margin(fit, window)
            noise, r = self._noise(fit, window)
            needed = required_window(noise, margin, r)
            if needed <= window and fit.half_width * POWERFUL <= margin:
                break
            if window >= longest:
                if not own:
                    margin = max(margin, resolvable_margin(noise, window, r))
                break
            window = int(min(max(needed, _GROWTH * window), longest, _NEVER))
        return equivalence_test(
            self._scores[-window:],
            margin,
            looks_before=self._looks,
            looks_needed=self._settings.looks,
            asked_margin=asked,
        )

    def _classical(self) -> EquivalenceReport:
        window = self._settings.convergence_window or SMALLEST_WINDOW
        if window > len(self._scores):
            return filling("classical", window, math.nan, self._settings.looks)
        return classical_test(
            self._scores[-window:], looks_before=self._looks, looks_needed=self._settings.looks
        )

    def _margin(self, fit: SlopeFit | None, window: int) -> float:
        """The rise per window that matters: the user's own, or from the data.

        Measured in single episodes, not in means of them, so that more evaluation episodes sharpen the test
        instead of moving it; and never less than a share of what the run has gained, so that a policy without
        any noise is judged by a scale that means something.
        """
        if self._settings.convergence_margin is not None:
            return self._settings.convergence_margin
        share = self._settings.margin_score_share * self._gained()
        spread = self._episode_sd(fit, window)
        return max(self._settings.margin_episode_sd * spread, share)

    def _noise(self, fit: SlopeFit, window: int) -> tuple[float, float]:
        """Noise of an evaluation and its autocorrelation, for choosing the window; never flattered.

        A short window often looks calmer and less correlated than the run is, and would then be taken for
        long enough, where the same margin allows a steeper rise. So the noise is at least the standard error
        that the evaluations report, and r one standard error above its estimate.
        """
        if fit.residual_sd == 0.0:
            return 0.0, 0.0
        errors = [
            std / math.sqrt(count)
            for std, count in zip(self._stds[-window:], self._counts[-window:], strict=True)
            if math.isfinite(std) and count > 1
        ]
        reported = float(np.median(errors)) if 2 * len(errors) >= window else 0.0
        r = fit.r_corrected + math.sqrt((1.0 - fit.r_corrected**2) / fit.n)
        return max(fit.residual_sd, reported), min(r, 0.95)

    def _gained(self) -> float:
        """Rise of the smoothed score since the start; the median start forgives one freak episode."""
        return max(self._highest - float(np.median(self._start)), 0.0) if self._start else 0.0

    def _episode_sd(self, fit: SlopeFit | None, window: int) -> float:
        """Standard deviation of single episodes; the median over the window belongs to its newer regime."""
        stds = [std for std in self._stds[-window:] if math.isfinite(std)]
        if stds and 2 * len(stds) >= window:
            return float(np.median(stds))
        if fit is None:
            return 0.0
        count = float(np.median(self._counts[-window:])) or _TYPICAL_EPISODES
        return fit.residual_sd * math.sqrt(count)


def _plain(values: list[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]


def _numbers(values: list[Any]) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]
