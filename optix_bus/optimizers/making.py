"""From settings to an optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from optix_bus.interfaces import BaseOptimizer
from optix_bus.optimizers.adaptive import AdaptiveOptimizer
from optix_bus.optimizers.backoff import BackoffOptimizer
from optix_bus.optimizers.momentum import MomentumOptimizer
from optix_bus.optimizers.pbt import PBTOptimizer
from optix_bus.optimizers.settings import TuningSettings
from optix_bus.optimizers.spsa import SPSAOptimizer

#: Per method its class, and what the options are called there that it has another name for.
_MADE: dict[str, tuple[type[Any], dict[str, tuple[str, ...]]]] = {
    "spsa": (
        SPSAOptimizer,
        {
            "perturbation_scale": ("perturbation_scale",),
            "learning_rate": ("learning_rate",),
            "min_perturbation": ("min_perturbation",),
            "gradient_clip": ("gradient_clip",),
            "gains": ("gains",),
            "warmup_episodes": ("warmup_episodes",),
        },
    ),
    "momentum": (
        MomentumOptimizer,
        {
            "perturbation_scale": ("probe_scale",),
            "learning_rate": ("alpha",),
            "warmup_episodes": ("warmup_episodes",),
        },
    ),
    "backoff": (
        BackoffOptimizer,
        {"perturbation_scale": ("perturbation_scale",), "warmup_episodes": ("warmup_episodes",)},
    ),
    "pbt": (
        PBTOptimizer,
        {
            "perturbation_scale": ("explore_scale",),
            "history_size": ("history_size",),
            "warmup_episodes": ("warmup_episodes",),
        },
    ),
    "adaptive": (
        AdaptiveOptimizer,
        {
            "perturbation_scale": (
                "spsa_perturbation_scale",
                "momentum_probe_scale",
                "backoff_perturbation_scale",
                "pbt_explore_scale",
            ),
            "learning_rate": ("spsa_learning_rate", "momentum_alpha"),
            "history_size": ("pbt_history_size",),
            "autocorr_threshold": ("autocorr_threshold",),
            "gap_threshold": ("gap_threshold",),
            "switch_confirmation": ("switch_confirmation",),
            "warmup_episodes": ("spsa_warmup_episodes",),
        },
    ),
}


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
    cls, names = _MADE[settings.method]
    given = {
        name: value for option, meant in names.items() for name, value in _given(settings, option, meant)
    }
    made: BaseOptimizer = cls(chosen, log_params=[*settings.log_params] or [*log_params], rng=rng, **given)
    return made


def _given(settings: TuningSettings, option: str, names: tuple[str, ...]) -> list[tuple[str, Any]]:
    value = getattr(settings, option)
    return [] if value is None else [(name, value) for name in names]
