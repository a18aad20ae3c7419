"""Policies on disk."""

from __future__ import annotations

from typing import Any

from optix_bus.messages.base import Event
from optix_bus.types import BlobRef


class SnapshotSaved(Event, frozen=True, kw_only=True):
    """The promoted policy is on disk; from checkpoint. ``path`` is relative to the checkpoint directory."""

    snapshot_id: str
    policy_version: int
    window: int
    score: float
    path: str
    sha256: str
    metrics: dict[str, float] = {}
    params: dict[str, Any] = {}


class RollbackRequested(Event, frozen=True, kw_only=True):
    """Give the learner the best snapshot; from the scheduler to checkpoint. ``final`` at the end of a run."""

    window: int
    reason: str
    final: bool = False


class RolledBack(Event, frozen=True, kw_only=True):
    """The answer: the best snapshot's policy, or none where nothing was ever saved; from checkpoint to the
    learner."""

    window: int
    final: bool
    snapshot_id: str = ""
    policy_version: int = -1
    score: float = float("nan")
    policy: BlobRef | None = None
