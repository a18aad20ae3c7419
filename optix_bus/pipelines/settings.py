"""What a topology says about each of its pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from optix_bus.settings import setting


@dataclass(frozen=True)
class PipelineSettings:
    """One pipeline of a topology."""

    environments: int = setting(8, "Environments stepped side by side.", minimum=1)
    window_steps: int = setting(256, "Steps of each environment in a window.", minimum=1, unit="steps")
    episodes: int = setting(20, "Complete episodes of an evaluation (role validation).", minimum=1)
    vectorization: Literal["sync", "async", "native"] = setting(
        "sync",
        "How environments run side by side: sync (in this process), async (one process each), native (the "
        "vector version that the id registers; fast, but its episodes cannot be seeded one by one).",
        choices=("sync", "async", "native"),
    )
    max_evaluation_steps: int | None = setting(
        None,
        "Cut a validation episode after so many steps; null means the environment's own limit, or 100000 "
        "where it has none.",
        minimum=1,
        unit="steps",
    )
    keep_infos: bool = setting(True, "Keep what the environment says in info.")
