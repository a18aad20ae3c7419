"""Puts the policy version that earned the best score on disk, and gives it back. The mind is the registry."""

from __future__ import annotations

from optix_bus.checkpoints import CheckpointRegistry
from optix_bus.checkpoints.settings import CheckpointSettings
from optix_bus.messages import (
    CollectWindow,
    PolicyPromoted,
    PolicyUpdated,
    RollbackRequested,
    RolledBack,
    SnapshotSaved,
)
from optix_bus.runtime.node import Context, Node, Site, handles
from optix_bus.types import EvalMetrics, HyperparamSet, NamedArrays
from optix_bus.versions import VersionShelf


class CheckpointNode(Node):
    """Keeps the policies that are still being scored, so that it can save the one that earned the score
    although the learner has long gone on from it."""

    emits = (SnapshotSaved, RolledBack)
    settings = CheckpointSettings
    noted = (PolicyUpdated, CollectWindow)

    def __init__(self, registry: CheckpointRegistry) -> None:
        self._registry = registry
        self._policies: VersionShelf[NamedArrays] = VersionShelf()
        self._rollbacks = 0

    @classmethod
    def build(cls, settings: CheckpointSettings, site: Site) -> CheckpointNode:
        registry = CheckpointRegistry(site.checkpoint_directory, settings.max_snapshots, run_id=site.run_id)
        return cls(registry)

    @handles(PolicyUpdated)
    def on_policy(self, event: PolicyUpdated, ctx: Context) -> None:
        self._policies.put(event.version, ctx.read_blob(event.policy))

    @handles(CollectWindow)
    def on_collect(self, event: CollectWindow, ctx: Context) -> None:
        self._policies.plan(event.policy_version, event.evaluate)

    @handles(PolicyPromoted)
    def on_promoted(self, event: PolicyPromoted, ctx: Context) -> None:
        snapshot = self._registry.save_policy(
            self._policies.get(event.policy_version),
            EvalMetrics(event.score, dict(event.metrics), event.window, ctx.now),
            HyperparamSet(dict(event.params), event.window, ctx.now),
            policy_version=event.policy_version,
            # The window, not the event's number: the same seed gives the same snapshots in every run.
            sequence=event.window,
        )
        ctx.emit(
            SnapshotSaved(
                snapshot_id=snapshot.snapshot_id,
                policy_version=event.policy_version,
                window=event.window,
                score=event.score,
                path=self._registry.relative(snapshot),
                sha256=self._registry.sha256(snapshot),
                metrics=event.metrics,
                params=event.params,
            )
        )

    @handles(RollbackRequested)
    def on_rollback(self, event: RollbackRequested, ctx: Context) -> None:
        restored = self._registry.restore_best()
        if restored is None:
            ctx.emit(RolledBack(window=event.window, final=event.final))
            return
        best, policy = restored
        for damage in self._registry.damaged:
            ctx.log.warning("damaged snapshot skipped", snapshot=damage)
        self._rollbacks += 1
        ctx.emit(
            RolledBack(
                window=event.window,
                final=event.final,
                snapshot_id=best.snapshot_id,
                policy_version=best.policy_version,
                score=best.eval_metrics.primary_score,
                policy=ctx.write_blob("best", self._rollbacks, policy),
            )
        )
