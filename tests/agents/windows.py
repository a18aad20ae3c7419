"""Windows for the tests of agents: random, or acted by an agent on CartPole."""

from __future__ import annotations

from typing import Any

import numpy as np

from optix_bus.types import ArraySpec, EpisodeData, SpaceSpec

VECTOR = SpaceSpec("vector", ArraySpec("box", (4,), "float32"), ArraySpec("discrete", (), "int64", n=3))
NUMBERS = SpaceSpec(
    "numbers", ArraySpec("discrete", (), "int64", n=5), ArraySpec("discrete", (), "int64", n=2)
)


def random_window(
    seed: int = 0, steps: int = 48, width: int | None = 4, spaces: SpaceSpec = VECTOR, **changes: Any
) -> EpisodeData:
    """A window of random numbers with ends inside, ``[T, B]``, or ``[T]`` where width is None."""
    rng = np.random.default_rng(seed)
    shape = (steps,) if width is None else (steps, width)
    if spaces.observation.kind == "discrete":
        observations, final = rng.integers(0, spaces.observation.n, (2, *shape))
    else:
        observations, final = rng.standard_normal((2, *shape, *spaces.observation.shape)).astype(np.float32)
    terminated = rng.random(shape) < 0.05
    content: dict[str, Any] = {
        "observations": observations,
        "actions": rng.integers(0, spaces.action.n, shape),
        "rewards": rng.standard_normal(shape),
        "terminated": terminated,
        "truncated": (rng.random(shape) < 0.05) & ~terminated,
        "final_observations": final,
        "episode_id": seed,
    }
    return EpisodeData(**{**content, **changes})
