"""The corridor of `tests.nodes.worlds` under a name that a topology can say."""

from __future__ import annotations

import gymnasium as gym

from tests.nodes.worlds import Corridor

if "OptixBusScripted-v0" not in gym.registry:
    gym.register("OptixBusScripted-v0", entry_point=Corridor)
