"""Density of a squashed normal number by the change of variables, from the action alone, in float64."""

from __future__ import annotations

import math


def density(action: float, mean: float, std: float, low: float = -1.0, high: float = 1.0) -> float:
    """Density at ``action`` of ``centre + reach * tanh(u)`` with u normal."""
    reach = (high - low) / 2.0
    unit = (action - (low + high) / 2.0) / reach
    u = math.atanh(unit)
    normal = math.exp(-0.5 * ((u - mean) / std) ** 2) / (std * math.sqrt(2.0 * math.pi))
    return normal / ((1.0 - unit * unit) * reach)
