"""Quantiles of Student's t. The one use of scipy, loaded when the first test is made and not before."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=4096)
def _quantile(probability: float, degrees: float) -> float:
    # scipy.special alone: 22 MB of memory; scipy.stats would be 70.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def t_quantile(probability: float, degrees: float) -> float:
    """The ``probability`` quantile of Student's t with ``degrees`` (real, > 0) degrees of freedom.

    Degrees are taken down to a hundredth, which errs towards the wider interval and keeps the cache small.
    """
    return _quantile(probability, max(int(degrees * 100.0) / 100.0, 0.01))
