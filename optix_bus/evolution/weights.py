"""Weights of ensemble members from their scores."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

#: What the worst member keeps where scores had to be shifted, as a share of their spread.
_FLOOR = 0.05


def score_weights(scores: Sequence[float]) -> list[float]:
    """Weights in proportion to mean scores; 1 on average.

    Scores that are not all above zero are shifted by their smallest, with a twentieth of their spread left to
    it, so that everybody keeps a weight above zero. NaN stands for a member that was never scored; it weighs
    1. Equal scores weigh alike.
    """
    known = [score for score in scores if math.isfinite(score)]
    if not known:
        return [1.0] * len(scores)
    low, spread = min(known), max(known) - min(known)
    floor = _FLOOR * spread
    if floor == 0.0:
        return [1.0] * len(scores)
    # Differences first: beside large scores a small spread would be rounded away.
    shifted = [score if low > 0.0 else (score - low) + floor for score in scores]
    total = math.fsum(value for value in shifted if math.isfinite(value))
    return [
        max(value * len(known) / total, sys.float_info.min) if math.isfinite(value) else 1.0
        for value in shifted
    ]
