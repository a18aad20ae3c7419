"""Weights of ensemble members from their scores."""

from __future__ import annotations

import math
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
    shift = 0.0 if low > 0.0 else _FLOOR * spread - low
    shifted = [score + shift for score in known]
    total = math.fsum(shifted)
    if spread == 0.0 or not total > 0.0:
        return [1.0] * len(scores)
    return [(score + shift) * len(known) / total if math.isfinite(score) else 1.0 for score in scores]
