"""What every program of these pages needs: a loop that ends soon, in a folder of its own."""

from __future__ import annotations

from typing import Any

from optix_bus import RLOptimizer


def train(agent: Any, pipeline: Any, folder: Any, windows: int = 2, **options: Any) -> RLOptimizer:
    """A run of two windows; the agent holds the best weights afterwards."""
    opt = RLOptimizer(
        agent=agent,
        pipeline=pipeline,
        checkpoint_dir=str(folder / "checkpoints"),
        max_episodes=windows,
        **options,
    )
    finished = opt.run()
    assert finished.windows == windows
    return opt
