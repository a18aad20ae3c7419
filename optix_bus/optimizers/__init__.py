"""Tuning hyperparameters inside one run."""

from __future__ import annotations

from optix_bus.optimizers.adaptive import AdaptiveOptimizer
from optix_bus.optimizers.backoff import BackoffOptimizer
from optix_bus.optimizers.box import ParamBox
from optix_bus.optimizers.making import make_optimizer
from optix_bus.optimizers.momentum import MomentumOptimizer
from optix_bus.optimizers.pbt import PBTOptimizer
from optix_bus.optimizers.settings import TuningSettings
from optix_bus.optimizers.spsa import SPSAOptimizer

__all__ = [
    "AdaptiveOptimizer",
    "BackoffOptimizer",
    "MomentumOptimizer",
    "PBTOptimizer",
    "ParamBox",
    "SPSAOptimizer",
    "TuningSettings",
    "make_optimizer",
]
