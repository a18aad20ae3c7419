"""Small nodes for topologies in tests: a loop of three that feed each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from optix_bus.errors import ConfigurationError
from optix_bus.messages import CollectWindow, PolicyUpdated, SnapshotSaved, WindowCollected
from optix_bus.runtime.node import Context, Node, handles
from optix_bus.settings import setting


@dataclass(frozen=True)
class CollectorSettings:
    """What a collector may be told."""

    environments: int = setting(8, "Environments side by side.", minimum=1, maximum=1024)
    window_steps: int = setting(256, "Steps of each environment in a window.", minimum=1, unit="transitions")
    episodes: int = setting(20, "Episodes of an evaluation.", minimum=1)
    noise: float = setting(0.0, "Added to actions.", minimum=0, below=1)
    sizes: tuple[int, ...] = setting((64, 64), "Layer sizes.", minimum=1)
    mode: Literal["sync", "async"] = setting("sync", "How they run.")
    limit: int | None = setting(None, "Largest number of steps.", above=0)
    keep: bool = setting(False, "Keep what the environment says.")
    extras: dict[str, Any] = setting(factory=dict, description="Anything else.")


class Collector(Node):
    """Collects windows."""

    emits = (WindowCollected,)
    roles = ("train", "validation")
    settings = CollectorSettings
    only_in_role: ClassVar[dict[str, str]] = {"episodes": "validation"}

    @handles(CollectWindow)
    def on_collect(self, event: CollectWindow, ctx: Context) -> None: ...


class Learner(Node):
    """Learns from windows."""

    emits = (PolicyUpdated,)

    @handles(WindowCollected)
    def on_window(self, event: WindowCollected, ctx: Context) -> None: ...


@dataclass(frozen=True)
class DriverSettings:
    """What a driver must be told."""

    windows: int = setting(description="How many windows to ask for.", minimum=1)
    patience: int = setting(5, "Windows without improvement.", minimum=1)
    lookahead: int = setting(0, "Windows ahead of learning.", minimum=0)

    def __post_init__(self) -> None:
        if self.patience > self.windows:
            raise ConfigurationError(f"patience {self.patience} is more than windows {self.windows}")


class Driver(Node):
    """Asks for windows."""

    emits = (CollectWindow,)
    settings = DriverSettings
    optional = (SnapshotSaved,)

    @handles(PolicyUpdated)
    def on_policy(self, event: PolicyUpdated, ctx: Context) -> None: ...

    @handles(SnapshotSaved)
    def on_saved(self, event: SnapshotSaved, ctx: Context) -> None: ...


class Archivist(Node):
    """Needs what nobody in the tests emits."""

    @handles(SnapshotSaved)
    def on_saved(self, event: SnapshotSaved, ctx: Context) -> None: ...


class NoNode:
    """A class, but no node."""


class SixMethods:
    """An agent with nothing but the six methods."""

    def __init__(self, size: int, rate: float = 0.1) -> None:
        self.size, self.rate = size, rate

    def act(self, observation: Any) -> int:
        return 0

    def learn(self, episode_data: Any) -> dict[str, Any]:
        return {}

    def get_hyperparams(self) -> Any: ...

    def set_hyperparams(self, hyperparams: Any) -> None: ...

    def save_weights(self, path: str) -> None: ...

    def load_weights(self, path: str) -> None: ...


class TravellingAgent(SixMethods):
    """An agent whose policy can act elsewhere."""

    def state(self) -> Any: ...

    def load_state(self, state: Any) -> None: ...

    def policy(self) -> Any: ...

    def reseed(self, rng: Any) -> None: ...


class FiveMethods:
    """No agent: it cannot learn."""

    def act(self, observation: Any) -> int:
        return 0

    get_hyperparams = set_hyperparams = save_weights = load_weights = act


def make_six(size: int, **more: Any) -> SixMethods:
    """A function that makes an agent."""
    return SixMethods(size, **more)
