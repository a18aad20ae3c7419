"""The projection of a distribution of returns, atom by atom, algorithm 1 of Bellemare et al. 2017."""

from __future__ import annotations

import math


def project(
    probabilities: list[float], reward: float, discount: float, v_min: float, v_max: float
) -> list[float]:
    """One distribution; a target that falls on an atom gives it everything."""
    n = len(probabilities)
    step = (v_max - v_min) / (n - 1)
    mass = [0.0] * n
    for j, p in enumerate(probabilities):
        moved = min(v_max, max(v_min, reward + discount * (v_min + j * step)))
        place = (moved - v_min) / step
        lower, upper = math.floor(place), math.ceil(place)
        if lower == upper:
            mass[lower] += p
        else:
            mass[lower] += p * (upper - place)
            mass[upper] += p * (place - lower)
    return mass


def loss(target: list[float], logits: list[float]) -> float:
    """Cross-entropy of the softmax of the logits against the target."""
    top = max(logits)
    total = sum(math.exp(z - top) for z in logits)
    return -sum(m * (z - top - math.log(total)) for m, z in zip(target, logits, strict=True))
