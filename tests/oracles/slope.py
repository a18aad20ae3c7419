"""The corrected slope test straight from the formulas, with scipy's own distributions."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats


def slope_test(scores: list[float]) -> dict[str, float]:
    """OLS by scipy, lag-1 correlation by definition, r + (2 + 4 r) / n, drawn to 0.3 by 12 scores, then
    n (1 - r) / (1 + r) and the quantile of t."""
    n = len(scores)
    x = list(range(n))
    line = stats.linregress(x, scores)
    residuals = [y - (line.intercept + line.slope * t) for t, y in zip(x, scores, strict=True)]
    rss = sum(e * e for e in residuals)
    r = sum(residuals[i] * residuals[i + 1] for i in range(n - 1)) / rss
    corrected = min(max((n * (r + (2 + 4 * r) / n) + 12 * 0.3) / (n + 12), 0.0), 0.98)
    n_eff = n * (1 - corrected) / (1 + corrected)
    sxx = sum((t - (n - 1) / 2) ** 2 for t in x)
    error = math.sqrt(rss / (n_eff - 2) / sxx) if n_eff > 2 else math.inf
    bound = line.slope * n
    bound += float(stats.t.ppf(0.95, n_eff - 2)) * error * n if n_eff > 2 else math.inf
    return {
        "slope": float(line.slope),
        "r": r,
        "r_corrected": corrected,
        "n_eff": n_eff,
        "standard_error": error,
        "bound": bound,
        "residual_sd": float(np.sqrt(rss / (n - 2))),
    }
