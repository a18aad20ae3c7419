"""Which tuner suits the noise that scores have: the reading behind each decision of `AdaptiveOptimizer`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from optix_bus.stats import fit_slope

Route = Literal["spsa", "momentum", "backoff", "pbt"]

#: A policy that scores below this share of what was scored before does badly.
_BAD = 0.2

#: Newest scores whose mean is set against the others: one alone is noise.
_NEWEST = 3

#: Scores that are looked at. Older ones are of another policy.
_LOOKED_AT = 50


@dataclass(frozen=True)
class Reading:
    """What the scores say, and which tuner that asks for.

    Attributes:
        route: the tuner.
        autocorrelation: lag-1, of the residuals of the raw scores around their line, as computed.
        gap: how far the newest scores lie below the best one, as a share of the best.
        rank: share of the scores that lie below the newest ones.
        reason: the decision in words.
    """

    route: Route
    autocorrelation: float
    gap: float
    rank: float
    reason: str


@dataclass(frozen=True)
class Switch:
    """One tuner took the place of another."""

    old: Route
    new: Route
    reading: Reading


def read(
    scores: Sequence[float], *, autocorrelation: float = 0.3, gap: float = 0.2, at_least: int = 10
) -> Reading | None:
    """What the newest of these ``[n]`` finite scores ask for; None where there are too few to tell.

    Args:
        scores: oldest first.
        autocorrelation: from here on, and below minus this, neighbours resemble or oppose each other.
        gap: a policy does badly only where it lies further below the best than this share of it.
        at_least: scores that are needed.
    """
    looked_at = np.asarray(scores[-_LOOKED_AT:], np.float64)
    if len(looked_at) < max(at_least, _NEWEST + 2):
        return None
    best, newest = float(looked_at.max()), float(looked_at[-_NEWEST:].mean())
    rank = float(np.mean(looked_at < newest))
    below = (best - newest) / abs(best) if best else (math.inf if newest < best else 0.0)
    r = fit_slope(looked_at).r
    if rank < _BAD and below > gap:
        return Reading("pbt", r, below, rank, f"the newest scores lie {below:.0%} below the best")
    if r >= autocorrelation:
        return Reading("momentum", r, below, rank, f"neighbouring scores resemble each other (r {r:.2f})")
    if r <= -autocorrelation:
        return Reading("backoff", r, below, rank, f"scores swing (r {r:.2f})")
    return Reading("spsa", r, below, rank, f"scores are independent of their neighbours (r {r:.2f})")
