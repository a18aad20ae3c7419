"""Policies on disk: each with the score that it earned, written whole or not at all."""

from __future__ import annotations

from optix_bus.checkpoints.registry import CheckpointRegistry
from optix_bus.checkpoints.settings import CheckpointSettings

__all__ = ["CheckpointRegistry", "CheckpointSettings"]
