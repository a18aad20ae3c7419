"""Other hyperparameters near given ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optix_bus.optimizers.box import ParamBox


def perturbed(
    params: Mapping[str, Any],
    noise_scale: float,
    rng: np.random.Generator,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    log_params: Sequence[str] = (),
) -> dict[str, Any]:
    """The parameters with some of them moved by normal noise.

    With bounds, those that have some move by ``noise_scale`` of their range (of its logarithm, for those on a
    log scale) and stay inside. Without, every real number moves by about that share of itself: one between 0
    and 1 in its logit, so that a share stays a share, a larger one in its logarithm. Integers (sizes,
    counts), 0, 1, negative numbers and everything else stay.

    Args:
        params: what is in force.
        noise_scale: one standard deviation.
        rng: draws one number for each parameter that moves, in the order of their names.
        bounds: (low, high) by name.
        log_params: names among them on a log scale.
    """
    box = ParamBox(bounds or {}, log_params)
    if box.names:
        box.fit(params)
        point = box.encode(params)
        return box.decode(point + noise_scale * rng.standard_normal(len(point)), params)
    changed = dict(params)
    for name in sorted(params):
        value = params[name]
        if isinstance(value, float) and value > 0.0 and value != 1.0 and math.isfinite(value):
            changed[name] = _moved(value, noise_scale * float(rng.standard_normal()))
    return changed


def _moved(value: float, noise: float) -> float:
    if value > 1.0:
        return value * math.exp(noise)
    odds = value / (1.0 - value) * math.exp(noise)
    return odds / (1.0 + odds)
