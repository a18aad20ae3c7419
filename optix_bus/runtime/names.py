"""Names that processes of a run agree on."""

from __future__ import annotations

HUB = "hub"
SUPERVISOR = "supervisor"
NURSERY = "nursery"
HEARTBEAT = "heartbeat"
