"""A node for measurements: puts policies on disk whether or not they were the best."""

from __future__ import annotations

from dataclasses import dataclass

from optix_bus.checkpoints import CheckpointRegistry
from optix_bus.messages import CollectWindow, PolicyUpdated
from optix_bus.runtime.node import Context, Node, Site, handles
from optix_bus.settings import setting
from optix_bus.types import EvalMetrics, HyperparamSet, NamedArrays


@dataclass(frozen=True)
class EverySettings:
    """Where to, and how many."""

    directory: str = setting("", "Folder of the snapshots.")
    every: int = setting(1, "Windows from one policy to the next.", minimum=1)


class EveryPolicyNode(Node):
    """Saves the policy that acts in every Nth window that is evaluated, under the number of the window."""

    emits = ()
    settings = EverySettings

    def __init__(self, directory: str, every: int) -> None:
        self._registry = CheckpointRegistry(directory, 1_000_000, resume=True)
        self._every = every
        self._policies: dict[int, NamedArrays] = {}

    @classmethod
    def build(cls, settings: EverySettings, site: Site) -> EveryPolicyNode:
        return cls(settings.directory, settings.every)

    @handles(PolicyUpdated)
    def on_policy(self, event: PolicyUpdated, ctx: Context) -> None:
        policy = ctx.read_blob(event.policy)
        # What the blob shows is the writer's memory, which others may use again.
        kept = NamedArrays({k: v.copy() for k, v in policy.arrays.items()}, dict(policy.metadata))
        self._policies = {v: p for v, p in self._policies.items() if v >= event.version - 3}
        self._policies[event.version] = kept

    @handles(CollectWindow)
    def on_collect(self, event: CollectWindow, ctx: Context) -> None:
        if not event.evaluate or event.window % self._every:
            return
        metrics = EvalMetrics(0.0, {}, event.window, 0.0)
        version = event.policy_version
        self._registry.save_policy(
            self._policies[version], metrics, HyperparamSet({}), version, sequence=event.window + 1
        )
