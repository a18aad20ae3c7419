"""Topologies for whole runs whose world costs nothing, so that what is tested is all that takes time."""

from __future__ import annotations

import shutil
from pathlib import Path

_NOOP = Path(__file__).parents[1] / "benchmarks"

_CALLBACK = """
from optix_bus.interfaces import LoopCallback


class Quiet(LoopCallback): pass
"""

_DRIFTING = """
import random

import gymnasium as gym
import noop_world


class Drifting(noop_world.NoopWorld):
    # Longer than a window, and never twice the same. After 7, 13, 19... steps, so that no window of three
    # ends where an episode does: whoever goes back to a cut is always in the middle of one.
    length = None

    def reset(self, *, seed=None, options=None):
        self.length = 7 if self.length is None else 6
        self.steps = 0
        super().reset(seed=seed)
        self.seen = noop_world._OBSERVATION + random.SystemRandom().random()
        return self.seen, {}

    def step(self, action):
        self.steps += 1
        return self.seen, self.reward, self.steps == self.length, False, {}


if "OptixBusDrifting-v0" not in gym.registry:
    gym.register("OptixBusDrifting-v0", entry_point=Drifting)
"""


def light(folder: Path, *extra: str) -> Path:
    """A topology without a framework, over a world that costs nothing; it never ends by itself."""
    shutil.copy(_NOOP / "noop_world.py", folder)
    (folder / "quiet.py").write_text(_CALLBACK)
    text = (_NOOP / "noop.yaml").read_text().replace("max_episodes: 1000\n", "max_episodes: 1000000\n")
    path = folder / "light.yaml"
    path.write_text("\n".join([text.rstrip(), *extra, ""]))
    return path


def drifting(topology: Path) -> Path:
    """The same over a world whose episodes no seed brings back, and which are longer than a window."""
    (topology.parent / "drifting.py").write_text(_DRIFTING)
    text = topology.read_text().replace("noop_world:OptixBusNoop-v0", "drifting:OptixBusDrifting-v0")
    topology.write_text(text.replace("window_steps: 1}", "window_steps: 3}"))
    return topology
