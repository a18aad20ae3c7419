"""Contracts: tests that our own agents, pipelines and nodes pass, for yours to pass as well. Needs pytest."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

_HOMES = {
    "AgentContract": "optix_bus.testing.agent_contract",
    "NodeContract": "optix_bus.testing.node_contract",
    "PipelineContract": "optix_bus.testing.pipeline_contract",
}

__all__ = sorted(_HOMES)

# A failure of a contract shows what was compared, as in a test of one's own.
pytest.register_assert_rewrite(*_HOMES.values())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
