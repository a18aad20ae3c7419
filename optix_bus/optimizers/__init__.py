"""Tuning hyperparameters inside one run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from optix_bus.interfaces import BaseOptimizer
from optix_bus.optimizers.box import ParamBox
from optix_bus.optimizers.settings import TuningSettings
from optix_bus.optimizers.spsa import SPSAOptimizer

__all__ = ["ParamBox", "SPSAOptimizer", "TuningSettings", "make_optimizer"]


def make_optimizer(
    settings: TuningSettings,
    bounds: Mapping[str, tuple[float, float]],
    log_params: Iterable[str],
    rng: np.random.Generator,
) -> BaseOptimizer | None:
    """The optimizer that the settings ask for; None where nothing is to be tuned.

    Args:
        settings: of the optimizer node; bounds named there take the place of the agent's.
        bounds: the agent's own (low, high) by hyperparameter.
        log_params: the agent's own names on a log scale.
        rng: where its random signs come from.
    """
    own = {name: (low, high) for name, (low, high) in settings.param_bounds.items()}
    chosen = own or dict(bounds)
    if settings.method == "none" or not chosen:
        return None
    return SPSAOptimizer(
        chosen,
        settings.perturbation_scale,
        settings.learning_rate,
        settings.min_perturbation,
        settings.gradient_clip,
        [*settings.log_params] or [*log_params],
        settings.warmup_episodes,
        gains=settings.gains,
        rng=rng,
    )
