"""Environments of our own, registered with Gymnasium when an id in the namespace ``optix_bus/`` is asked for.

* ``optix_bus/CartPoleNoVel-v1``: CartPole-v1 that shows positions and hides velocities. One observation does
  not say where the pole is falling, so a policy needs a memory: without one it balances for some 50 steps.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv

NAMESPACE = "optix_bus/"
_SHOWN = [0, 2]


class CartPoleNoVelocity(CartPoleEnv):
    """CartPole whose observations ``[2]`` are the position of the cart (m) and the angle of the pole (rad).

    Everything else is as in CartPole-v1: reward 1 a step, an end at 2.4 m or 12 degrees, 500 steps at most.
    """

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        whole = self.observation_space
        assert isinstance(whole, gymnasium.spaces.Box)
        self.observation_space = gymnasium.spaces.Box(whole.low[_SHOWN], whole.high[_SHOWN], dtype=np.float32)

    def reset(self, **options: Any) -> Any:
        """As `gymnasium.Env.reset`."""
        observation, info = super().reset(**options)
        return observation[_SHOWN], info

    def step(self, action: Any) -> Any:
        """As `gymnasium.Env.step`."""
        observation, *rest = super().step(action)  # type: ignore[no-untyped-call]
        return (observation[_SHOWN], *rest)


def register() -> None:
    """Make the ids known; calling it again does nothing."""
    id = f"{NAMESPACE}CartPoleNoVel-v1"
    if id not in gymnasium.registry:
        path = f"{__name__}:{CartPoleNoVelocity.__name__}"
        gymnasium.register(id, entry_point=path, max_episode_steps=500, reward_threshold=475.0)
