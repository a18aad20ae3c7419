"""Has it stopped rising? Two answers: the equivalence test, and the classical test that it replaces.

The classical test asks whether a rise is *proven* and takes "not proven" for "there is none", so the less
data there is, the sooner it stops. The equivalence test asks whether a rise of a size that matters is
*excluded*: less data makes it wait longer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from optix_bus.stats.slope import SlopeFit, fit_slope

Verdict = Literal["plateau", "passed", "rising", "falling", "undecided", "filling"]


@dataclass(frozen=True)
class EquivalenceReport:
    """One look of a convergence test, with everything it was decided by. Score units unless stated.

    Attributes:
        method: ``equivalence`` or ``classical``.
        verdict: ``plateau`` after enough looks running that passed, ``passed`` before; ``rising`` where
            a rise above the margin is likelier than not; ``falling``; ``undecided``; ``filling`` while the
            window is not full.
        slope: per evaluation.
        rise: slope times window.
        bound: upper 95 % bound of `rise`.
        margin: the rise that had to be excluded.
        asked_margin: the margin before it was widened to what the longest window resolves; usually `margin`.
        noise: standard deviation of one evaluation around the line.
        r: bias-corrected lag-1 autocorrelation of the residuals.
        n_eff: effective number of evaluations.
        window: evaluations in the window; what it should be while it is filling.
        looks: looks running that passed, this one included.
        looks_needed: how many a plateau takes.
    """

    method: str
    verdict: Verdict
    slope: float
    rise: float
    bound: float
    margin: float
    asked_margin: float
    noise: float
    r: float
    n_eff: float
    window: int
    looks: int
    looks_needed: int

    @property
    def not_excluded(self) -> float:
        """The largest rise per window that this look leaves possible at 95 %."""
        return max(self.bound, 0.0)

    @property
    def window_full(self) -> bool:
        """Whether there were as many evaluations as the decision takes."""
        return self.verdict != "filling"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a message or a file; what is not finite becomes None."""
        found = {**vars(self), "not_excluded": self.not_excluded}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in found.items()}


def filling(method: str, window: int, margin: float, looks_needed: int) -> EquivalenceReport:
    """The report while there are fewer than ``window`` evaluations: nothing is excluded."""
    unknown = math.nan
    return EquivalenceReport(
        method,
        "filling",
        unknown,
        unknown,
        math.inf,
        margin,
        margin,
        unknown,
        unknown,
        0.0,
        window,
        0,
        looks_needed,
    )


def equivalence_test(
    scores: Sequence[float] | np.ndarray[Any, Any],
    margin: float,
    *,
    looks_before: int = 0,
    looks_needed: int = 3,
    asked_margin: float | None = None,
    fit: SlopeFit | None = None,
) -> EquivalenceReport:
    """Whether the ``[n]`` scores, the window itself, exclude a rise of ``margin`` (score units) per window.

    One-sided t-test at 95 % of ``slope * n < margin`` with the corrected standard error of `fit_slope`
    (equivalence testing: Schuirmann 1987; Wellek 2010, chapter 1). A clear fall is no plateau. Without noise
    the decision is exact: a flat window passes at any margin, also at 0.

    Args:
        scores: raw evaluation means, oldest first.
        margin: the rise per window that matters.
        looks_before: looks running that passed before this one.
        looks_needed: looks running for the verdict ``plateau``.
        asked_margin: what `margin` would have been with an unlimited window.
        fit: the line through these scores, where it is known already.
    """
    if fit is None:
        fit = fit_slope(scores)
    spread = fit.half_width
    bound = fit.rise + spread
    verdict: Verdict
    looks = 0
    if fit.residual_sd == 0.0 and fit.slope == 0.0:
        verdict, looks = "passed", looks_before + 1
    elif bound < 0.0 and fit.rise < -margin:
        verdict = "falling"
    elif bound < margin:
        verdict, looks = "passed", looks_before + 1
    else:
        verdict = "rising" if fit.rise > margin else "undecided"
    if looks >= looks_needed:
        verdict = "plateau"
    asked = margin if asked_margin is None else asked_margin
    return _report("equivalence", verdict, fit, bound, margin, asked, looks, looks_needed)


def classical_test(
    scores: Sequence[float] | np.ndarray[Any, Any],
    *,
    looks_before: int = 0,
    looks_needed: int = 1,
    corrected: bool = True,
) -> EquivalenceReport:
    """The published rule: a plateau is a window whose slope is not significantly positive at 5 %.

    Kept by name for comparison. The margin it reports is the rise that it would have noticed.

    Args:
        scores: ``[n]`` raw evaluation means, the window itself.
        looks_before: looks running that passed before this one.
        looks_needed: looks running for the verdict ``plateau``.
        corrected: whether the standard error knows the autocorrelation.
    """
    fit = fit_slope(scores)
    if not corrected and fit.residual_sd > 0.0:
        plain = fit.residual_sd / math.sqrt(fit.n * (fit.n**2 - 1.0) / 12.0)
        fit = SlopeFit(fit.n, fit.slope, fit.residual_sd, fit.r, 0.0, float(fit.n), plain)
    spread = fit.half_width
    verdict: Verdict
    if fit.rise > spread:
        verdict, looks = "rising", 0
    elif fit.rise < -spread:
        verdict, looks = "falling", 0
    else:
        looks = looks_before + 1
        verdict = "plateau" if looks >= looks_needed else "passed"
    return _report("classical", verdict, fit, fit.rise + spread, spread, spread, looks, looks_needed)


def _report(
    method: str,
    verdict: Verdict,
    fit: SlopeFit,
    bound: float,
    margin: float,
    asked: float,
    looks: int,
    looks_needed: int,
) -> EquivalenceReport:
    return EquivalenceReport(
        method=method,
        verdict=verdict,
        slope=fit.slope,
        rise=fit.rise,
        bound=bound,
        margin=margin,
        asked_margin=asked,
        noise=fit.residual_sd,
        r=fit.r_corrected,
        n_eff=fit.n_eff,
        window=fit.n,
        looks=looks,
        looks_needed=looks_needed,
    )
