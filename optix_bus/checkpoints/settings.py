"""Settings of the checkpoint node."""

from __future__ import annotations

from dataclasses import dataclass

from optix_bus.settings import check, setting


@dataclass(frozen=True)
class CheckpointSettings:
    """Where snapshots go and how many stay."""

    directory: str | None = setting(
        None, "Folder of the snapshots; by default `checkpoints` in the run directory."
    )
    max_snapshots: int = setting(10, "How many of the best snapshots are kept.", minimum=1)

    def __post_init__(self) -> None:
        check(self)
