"""Puts the policy version that earned the best score on disk, and gives it back. The mind is the registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optix_bus.checkpoints import CheckpointRegistry
from optix_bus.checkpoints.settings import CheckpointSettings
from optix_bus.messages import (
    CollectWindow,
    PolicyPromoted,
    PolicyUpdated,
    RollbackRequested,
    RolledBack,
    SnapshotSaved,
    VariantAdmitted,
    VariantDismissed,
    VariantRequested,
    VariantSeeded,
    VariantSpawned,
    VariantUpdated,
)
from optix_bus.messages.plain import as_plain, from_plain
from optix_bus.nesting import by_number, join, split
from optix_bus.runtime.node import Context, Node, Site, handles
from optix_bus.types import EvalMetrics, HyperparamSet, NamedArrays, PolicySnapshot
from optix_bus.versions import VersionShelf, first_version, variant_of

_POLICY, _BEST = "policy-", "best"


@dataclass(frozen=True)
class _Best:
    """The best promoted policy, with what has to be known to write it again."""

    promotion: PolicyPromoted
    policy: NamedArrays
    snapshot_id: str
    parent: str


class CheckpointNode(Node):
    """Keeps the policies that are still being scored, so that it can save the one that earned the score
    although the learner has long gone on from it.

    What it answers depends on events alone: the best policy is kept in memory, and the registry on disk is
    only written. So a node that does again what it did finds whatever later events left on disk without
    being misled by it.
    """

    emits = (SnapshotSaved, RolledBack, VariantSpawned, VariantSeeded)
    settings = CheckpointSettings
    noted = (PolicyUpdated, CollectWindow, VariantUpdated, VariantDismissed)
    optional = (VariantUpdated,)

    def __init__(self, registry: CheckpointRegistry) -> None:
        self._registry = registry
        self._policies: VersionShelf[NamedArrays] = VersionShelf()
        self._best: _Best | None = None
        self._rollbacks = 0
        # Descent of each variant with its first policy version (-1: not yet there), oldest first.
        self._variants: list[tuple[int, dict[str, Any]]] = []
        # Of variants with nodes of their own, those that are there: the policy that acts, and the newest.
        self._shelves: dict[int, VersionShelf[NamedArrays]] = {}

    @classmethod
    def build(cls, settings: CheckpointSettings, site: Site) -> CheckpointNode:
        registry = CheckpointRegistry(site.checkpoint_directory, settings.max_snapshots, run_id=site.run_id)
        return cls(registry)

    def state(self) -> NamedArrays:
        parts = {f"{_POLICY}{version}": policy for version, policy in self._policies.items.items()}
        best = self._best
        if best is not None:
            parts[_BEST] = best.policy
        facts: dict[str, Any] = {
            "evaluated": self._policies.evaluated,
            "best": None if best is None else [as_plain(best.promotion), best.snapshot_id, best.parent],
            "rollbacks": self._rollbacks,
        }
        if self._variants:
            facts["variants"] = self._variants
        if self._shelves:
            facts["shelves"] = {number: shelf.evaluated for number, shelf in self._shelves.items()}
        for shelf in self._shelves.values():
            parts.update({f"{_POLICY}{version}": policy for version, policy in shelf.items.items()})
        return join(parts, facts)

    def load_state(self, state: NamedArrays) -> Sequence[str]:
        parts, facts = split(state)
        best = parts.pop(_BEST, None)
        policies = {int(name.removeprefix(_POLICY)): policy for name, policy in parts.items()}
        shelves = by_number(facts.get("shelves", {}))
        for number, evaluated in {0: facts["evaluated"], **shelves}.items():
            own = {version: policy for version, policy in policies.items() if variant_of(version) == number}
            self._shelf(number).load(own, evaluated)
        self._rollbacks = int(facts["rollbacks"])
        self._variants = [(int(version), lineage) for version, lineage in facts.get("variants", ())]
        self._best = None
        if best is None:
            return ()
        promotion, snapshot_id, parent = facts["best"]
        self._best = _Best(from_plain(PolicyPromoted, promotion), best, snapshot_id, parent)
        return self._write_missing(self._best)

    @handles(PolicyUpdated)
    def on_policy(self, event: PolicyUpdated, ctx: Context) -> None:
        self._policies.put(event.version, ctx.read_blob(event.policy))
        if event.origin == "variant" and self._variants:
            self._variants[-1] = (event.version, self._variants[-1][1])

    @handles(VariantUpdated)
    def on_variant_policy(self, event: VariantUpdated, ctx: Context) -> None:
        self._shelf(event.variant).put(event.version, ctx.read_blob(event.policy))

    @handles(VariantDismissed)
    def on_dismissed(self, event: VariantDismissed, ctx: Context) -> None:
        self._shelves.pop(event.variant, None)

    @handles(CollectWindow)
    def on_collect(self, event: CollectWindow, ctx: Context) -> None:
        self._policies.plan(event.policy_version, event.evaluate)
        for shelf in self._shelves.values():
            if shelf.items:
                shelf.plan(max(shelf.items), event.evaluate)

    @handles(PolicyPromoted)
    def on_promoted(self, event: PolicyPromoted, ctx: Context) -> None:
        policy = self._shelf(variant_of(event.policy_version)).get(event.policy_version)
        best = self._best
        parent = "" if best is None else best.snapshot_id
        snapshot = self._write(event, policy, parent, ctx.now)
        if best is None or _rank(event) > _rank(best.promotion):
            self._best = _Best(event, policy, snapshot.snapshot_id, parent)
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
        best = self._best
        if best is None:
            ctx.emit(RolledBack(window=event.window, final=event.final))
            return
        self._rollbacks += 1
        ctx.emit(
            RolledBack(
                window=event.window,
                final=event.final,
                snapshot_id=best.snapshot_id,
                policy_version=best.promotion.policy_version,
                score=best.promotion.score,
                policy=ctx.write_blob("best", self._rollbacks, best.policy),
            )
        )

    @handles(VariantRequested)
    def on_variant(self, event: VariantRequested, ctx: Context) -> None:
        """Clone the best for the learner, and remember where the clone comes from."""
        best = self._best
        parent = self._descend(event, -1)
        policy = None if best is None or event.made else best.policy
        ctx.emit(
            VariantSpawned(
                window=event.window,
                variant=event.variant,
                snapshot_id=parent,
                params=event.params,
                noise_scale=event.noise_scale,
                weight_noise=event.weight_noise,
                seed=event.seed,
                policy=None if policy is None else ctx.write_blob("variant", event.variant, policy),
            )
        )

    @handles(VariantAdmitted)
    def on_admitted(self, event: VariantAdmitted, ctx: Context) -> None:
        """Clone the best for the nodes of a variant."""
        parent = self._descend(event, first_version(event.variant))
        self._shelf(event.variant)
        best = self._best
        ctx.emit(
            VariantSeeded(
                window=event.window,
                variant=event.variant,
                snapshot_id=parent,
                params=event.params,
                weight_noise=event.weight_noise,
                seed=event.seed,
                policy=None if best is None else ctx.write_blob("variant", event.variant, best.policy),
            )
        )

    def _shelf(self, variant: int) -> VersionShelf[NamedArrays]:
        """Where the policies of a variant are; 0 is the learner of the topology, whatever it goes on from."""
        return self._policies if not variant else self._shelves.setdefault(variant, VersionShelf())

    def _descend(self, event: VariantRequested | VariantAdmitted, first: int) -> str:
        """Note where a variant comes from, and its first version where that is known; the parent."""
        parent = "" if self._best is None else self._best.snapshot_id
        lineage = {
            "variant": event.variant,
            "parent": parent,
            "noise_scale": event.noise_scale,
            "weight_noise": event.weight_noise,
            "seed": event.seed,
        }
        self._variants.append((first, lineage))
        return parent

    def _lineage(self, version: int) -> dict[str, Any]:
        """Descent of a policy version; empty where it is of no variant."""
        of = [lineage for first, lineage in self._variants if 0 <= first <= version]
        return of[-1] if of else {}

    def _write(self, event: PolicyPromoted, policy: NamedArrays, parent: str, stamp: float) -> PolicySnapshot:
        return self._registry.save_policy(
            policy,
            EvalMetrics(event.score, dict(event.metrics), event.window, stamp),
            HyperparamSet(dict(event.params), event.window, stamp),
            policy_version=event.policy_version,
            # The window, not the event's number: the same seed gives the same snapshots in every run.
            sequence=event.window,
            parent=parent,
            regime=event.regime,
            variant=self._lineage(event.policy_version),
        )

    def _write_missing(self, best: _Best) -> Sequence[str]:
        """Put the best policy into a registry without one as good: a run that branches off has a new one."""
        there = self._registry.best
        if there is not None:
            found = self._registry.manifest(there)
            if (found.regime, found.score) >= _rank(best.promotion):
                return ()
        # A state holds no stamps, so this snapshot has none.
        self._write(best.promotion, best.policy, best.parent, 0.0)
        return (f"snapshot {best.snapshot_id}, the best so far, was not on disk: written again",)


def _rank(promotion: PolicyPromoted) -> tuple[int, float]:
    return promotion.regime, promotion.score
