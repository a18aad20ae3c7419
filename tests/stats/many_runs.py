"""The convergence tests for hundreds of runs at once, so that their error rates can be simulated in seconds.

The decisions are those of `optix_bus.loop.ConvergenceWatch` and `optix_bus.stats.classical_test`, which
`test_gates` holds this to run by run. Sums over a window come from running sums: a look at hundreds of runs
costs what a look at one does there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from optix_bus.loop import LoopSettings
from tests.stats.curves import EPISODES, Series

SMALLEST = 20
#: Standard errors by which r is taken higher for choosing the window: with a margin of the user's own, and
#: otherwise, where it is reached with so many evaluations more than the smallest window.
CERTAIN, CAUTION, CAUTIOUS_FROM = 2.58, 1.75, 100.0


@dataclass
class Fits:
    """What `optix_bus.stats.fit_slope` says of one window of each run, ``[runs]`` each."""

    n: Series
    slope: Series
    residual_sd: Series
    r: Series
    n_eff: Series
    half_width: Series
    noise: Series

    @property
    def rise(self) -> Series:
        return self.slope * self.n


class Runs:
    """Scores ``[runs, length]`` with their running sums."""

    def __init__(self, scores: Series) -> None:
        self.scores = scores
        self.runs, self.length = scores.shape
        places = np.arange(self.length, dtype=np.float64)
        before = np.zeros_like(scores)
        before[:, 1:] = scores[:, 1:] * scores[:, :-1]
        self._sums = [_running(part) for part in (scores, scores * places, scores * scores, before)]

    def fit(self, which: Series, last: int, n: Series, *, corrected: bool = True) -> Fits:
        """Lines through ``n`` ``[k]`` scores that end at index ``last``, of the runs ``which`` ``[k]``."""
        begin, end = last + 1 - n, last + 1
        total, placed, squares, _ = (sums[which, end] - sums[which, begin] for sums in self._sums)
        products = self._sums[3][which, end] - self._sums[3][which, begin + 1]
        first, final = self.scores[which, begin], self.scores[which, last]
        middle = begin + (n - 1) / 2.0
        sxx = n * (n * n - 1.0) / 12.0
        sxy = placed - middle * total
        slope, mean = sxy / sxx, total / n
        rss = np.maximum(squares - n * mean**2 - slope * sxy, 1e-12)
        later, earlier = total - first, total - final
        half = (n - 1) / 2.0
        # The sum of e_t e_(t-1), with e = y - mean - slope x, from the sums of y_t y_(t-1) and y_t x_(t-1).
        crossed = (sxy + first * half - later) + (sxy - final * half + earlier)
        places_together = (n - 1) * (n * n - 2.0 * n - 3.0) / 12.0
        lagged = (
            products
            - mean * (later + earlier)
            - slope * crossed
            + (n - 1) * mean**2
            + slope**2 * places_together
        )
        raw = lagged / rss
        unbiased = raw + (2.0 + 4.0 * raw) / n
        r = np.clip((n * unbiased + 12.0 * 0.3) / (n + 12.0), 0.0, 0.98) if corrected else np.zeros_like(raw)
        n_eff = n * (1.0 - r) / (1.0 + r)
        tells = n_eff > 2.0
        # Without the correction the published rule divides by n - 2 and counts n degrees less two.
        error = np.sqrt(rss / np.where(tells, n_eff - 2.0, 1.0) / sxx)
        degrees = np.maximum(np.floor((n_eff - 2.0) * 100.0) / 100.0, 0.01)
        width = np.where(tells, stdtrit(degrees, 0.95) * error * n, math.inf)
        sd = np.sqrt(rss / (n - 2.0))
        share = np.where(tells, (n - 2.0) * n_eff / (n * np.where(tells, n_eff - 2.0, 1.0)), 1.0)
        return Fits(n, slope, sd, r, n_eff, width, sd * np.sqrt(share))


#: (scores, settings) to the evaluation at which each run stops, the length where it does not, and the window.
Rule = Callable[[Series], tuple[Series, Series]]


def equivalence(scores: Series, **changed: object) -> tuple[Series, Series]:
    """Where the loop's test, alone, finds its plateau; the noise of a score is 1, of `EPISODES` episodes."""
    settings = LoopSettings(**changed)  # type: ignore[arg-type]
    runs = Runs(scores)
    spread, own = math.sqrt(EPISODES), settings.convergence_margin
    longest = 10_000 if own is not None else settings.max_convergence_window
    looks = np.zeros(runs.runs, int)
    stopped, used = np.full(runs.runs, runs.length), np.zeros(runs.runs, int)
    gained = _gained(scores)
    for last in range(SMALLEST - 1, runs.length):
        which = np.flatnonzero(stopped == runs.length)
        if not len(which):
            break
        margin = np.full(len(which), own or 0.0)
        if own is None:
            share = settings.margin_score_share * gained[which, last]
            margin = np.maximum(settings.margin_episode_sd * spread, share)
        passed, window = _look(runs, which, last, margin, longest, own is not None)
        looks[which] = np.where(passed, looks[which] + 1, 0)
        done = looks[which] >= settings.looks
        stopped[which[done]], used[which[done]] = last, window[done]
    return stopped, used


def _look(
    runs: Runs, which: Series, last: int, margin: Series, longest: int, own: bool
) -> tuple[Series, Series]:
    """Whether the look passes, and over how many evaluations, for each run: the window grows until it is
    long enough for what it shows."""
    passed = np.zeros(len(which), bool)
    window = np.full(len(which), SMALLEST)
    growing = np.arange(len(which))
    while len(growing):
        growing = growing[window[growing] <= last + 1]
        if not len(growing):
            break
        n = window[growing].astype(np.float64)
        fit = runs.fit(which[growing], last, window[growing])
        noise = np.where(fit.noise < 1.0 + 2.0 / np.sqrt(2.0 * np.maximum(fit.n_eff, 2.0)), 1.0, fit.noise)
        caution = CERTAIN if own else CAUTION * np.minimum((n - SMALLEST) / CAUTIOUS_FROM, 1.0)
        r = np.minimum(fit.r + caution * np.sqrt((1.0 - fit.r**2) / (n + 12.0)), 0.95)
        wanted = margin[growing]
        needed = np.maximum(np.ceil(12.0 * (1.0 + r) / (1.0 - r) * (2.93 * noise / wanted) ** 2), SMALLEST)
        at_end = n >= longest
        if not own:
            resolved = 2.32 * noise * np.sqrt(12.0 * (1.0 + r) / (1.0 - r) / n)
            wanted = np.where(at_end, np.maximum(wanted, resolved), wanted)
        enough = at_end | ((needed <= n) & (fit.half_width <= wanted))
        bound = fit.rise + fit.half_width
        falling = (bound < 0.0) & (fit.rise < -wanted)
        passed[growing[enough]] = ((bound < wanted) & ~falling)[enough]
        grown = np.minimum(np.maximum(needed, 1.25 * n), 1.5 * n)
        window[growing[~enough]] = np.minimum(grown, longest).astype(int)[~enough]
        growing = growing[~enough]
    return passed, window


def classical(scores: Series, *, window: int = 20, corrected: bool = True) -> tuple[Series, Series]:
    """Where the published rule stops: the first full window in which no change is significant."""
    runs = Runs(scores)
    stopped = np.full(runs.runs, runs.length)
    for last in range(window - 1, runs.length):
        which = np.flatnonzero(stopped == runs.length)
        if not len(which):
            break
        fit = runs.fit(which, last, np.full(len(which), window), corrected=corrected)
        width = fit.half_width
        stopped[which[np.abs(fit.rise) <= width]] = last
    return stopped, np.full(runs.runs, window)


def _gained(scores: Series) -> Series:
    """``[runs, length]``: the highest mean of three scores so far, above the median of the first five."""
    sums = _running(scores)
    places = np.arange(1, scores.shape[1] + 1)
    begin = np.maximum(places - 3, 0)
    smooth = (sums[:, places] - sums[:, begin]) / (places - begin)
    start = np.stack([np.median(scores[:, : min(5, k)], axis=1) for k in places[:5]], axis=1)
    begun = np.concatenate([start, np.repeat(start[:, -1:], scores.shape[1] - 5, axis=1)], axis=1)
    return np.maximum(np.maximum.accumulate(smooth, axis=1) - begun, 0.0)


def _running(parts: Series) -> Series:
    return np.concatenate([np.zeros((len(parts), 1)), np.cumsum(parts, axis=1)], axis=1)
