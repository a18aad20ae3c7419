"""Evolving policies: variants of the best one, ensembles of several, and when to do what.

Loaded when first used: the node that decides needs neither environments nor agents.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "EnsembleAgent": "optix_bus.evolution.ensemble",
    "MetaAction": "optix_bus.evolution.meta_controller",
    "MetaController": "optix_bus.evolution.meta_controller",
    "PolicyManager": "optix_bus.evolution.manager",
    "PolicyManagerCallback": "optix_bus.evolution.callback",
    "RegimeDetector": "optix_bus.evolution.regime",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
