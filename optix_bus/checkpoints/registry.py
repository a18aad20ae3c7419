"""The best policies of a run, on disk."""

from __future__ import annotations

import math
import platform
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from optix_bus.checkpoints import manifest as manifests
from optix_bus.checkpoints import weights
from optix_bus.checkpoints.durable import digests, sweep, write_folder
from optix_bus.checkpoints.manifest import Manifest
from optix_bus.errors import CheckpointError
from optix_bus.portable import capture
from optix_bus.types import EvalMetrics, HyperparamSet, NamedArrays, PolicySnapshot


class CheckpointRegistry:
    """Keeps the best N snapshots of a run; the best is never deleted.

    Each snapshot is a folder of its own with weights and manifest, written beside, fsynced and renamed. A
    damaged one is named in `damaged` and skipped; the next best takes its place.

    Args:
        checkpoint_dir: the folder; made at the first save.
        max_snapshots: how many of the best are kept.
        run_id: the run that writes; by default a new one.
        resume: go on with the snapshots of another run that the folder holds. Without it such a folder is
            refused, so that one run never counts, or deletes, another's best.

    Raises:
        CheckpointError: the folder holds another run's snapshots.
    """

    def __init__(
        self,
        checkpoint_dir: str | Path,
        max_snapshots: int = 10,
        *,
        run_id: str | None = None,
        resume: bool = False,
    ) -> None:
        if max_snapshots < 1:
            raise CheckpointError(f"found max_snapshots={max_snapshots}, expected at least 1")
        self.directory = Path(checkpoint_dir)
        self.max_snapshots = max_snapshots
        self.run_id = run_id if run_id is not None else f"run-{uuid.uuid4().hex[:12]}"
        self._manifests: dict[str, Manifest] = {}
        #: What was found damaged: one line each, in the order of finding.
        self.damaged: list[str] = []
        self._swept = False
        self._described: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._scan()
        foreign = sorted({m.run for m in self._manifests.values()} - {self.run_id})
        if foreign and not resume:
            raise CheckpointError(
                f"{self.directory} holds snapshots of another run ({', '.join(foreign)}), expected an empty "
                f"folder or this run's own ({self.run_id}); choose another directory, or pass resume=True to "
                "go on from them"
            )

    @property
    def snapshots(self) -> list[PolicySnapshot]:
        """All snapshots, best first; of equal ones the older first."""
        return [self._snapshot(manifest) for manifest in self._ranked()]

    @property
    def best(self) -> PolicySnapshot | None:
        """The best snapshot, or None before the first."""
        ranked = self._ranked()
        return self._snapshot(ranked[0]) if ranked else None

    def save(
        self,
        agent: Any,
        eval_metrics: EvalMetrics,
        hyperparams: HyperparamSet,
        *,
        policy_version: int = -1,
    ) -> PolicySnapshot:
        """Save what the agent is now. The score must be the one that exactly these weights earned."""
        _, lineage = self._described.get(id(agent), (None, None))
        policy = capture(agent)
        return self.save_policy(
            policy, eval_metrics, hyperparams, policy_version=policy_version, variant=lineage
        )

    def describe(self, agent: Any, lineage: Mapping[str, Any]) -> None:
        """Write this lineage (plain values) into the manifests of what is saved of this agent."""
        self._described[id(agent)] = agent, dict(lineage)

    def refresh(self) -> None:
        """Look again at what lies in the folder: another registry may have written there."""
        self.damaged = []
        self._manifests = {}
        self._scan()

    def save_policy(
        self,
        policy: NamedArrays,
        eval_metrics: EvalMetrics,
        hyperparams: HyperparamSet,
        policy_version: int = -1,
        *,
        sequence: int | None = None,
        parent: str | None = None,
        regime: int = 0,
        variant: Mapping[str, Any] | None = None,
    ) -> PolicySnapshot:
        """Save a policy with the score that it earned.

        Args:
            policy: named arrays, or an agent's own form as the single array ``opaque``.
            eval_metrics: the score and what lies behind it.
            hyperparams: what the policy was learnt with.
            policy_version: which version of the run's policy it is.
            sequence: its number within the run, of the event that promoted it; by default counted on. The
                same number again replaces the snapshot, so a step that is executed twice leaves one.
            parent: snapshot it descends from; by default the best of those with smaller numbers that are on
                disk. Who may save the same policy again says it, because by then the disk holds others.
            regime: a snapshot of a later one ranks higher, whatever the scores.
            variant: where the policy comes from, if it is a variant of another; plain values.

        Raises:
            CheckpointError: the disk is full or cannot be written; nothing of the snapshot is left then.
        """
        if not self._swept and self.directory.is_dir():
            sweep(self.directory)
            self._swept = True
        last = max((m.sequence for m in self._manifests.values()), default=0)
        number = last + 1 if sequence is None else sequence
        name = f"{number:08d}" + (f"-v{policy_version:06d}" if policy_version >= 0 else "")
        if name in self._manifests and self._manifests[name].run != self.run_id:
            name += "-" + re.sub(r"[^\w.-]", "_", self.run_id)  # a resumed run replaces nobody's snapshot
        earlier = [m for m in self._ranked() if m.run != self.run_id or m.sequence < number]

        def fill(folder: Path) -> None:
            path, form = weights.write(policy, folder)
            files = digests(folder)
            made = Manifest(
                snapshot_id=name,
                run=self.run_id,
                sequence=number,
                parent=parent if parent is not None else (earlier[0].snapshot_id if earlier else ""),
                policy_version=policy_version,
                episode_id=eval_metrics.episode_id,
                timestamp=eval_metrics.timestamp,
                score=float(eval_metrics.primary_score),
                metrics={key: float(value) for key, value in eval_metrics.metrics.items()},
                hyperparams=dict(hyperparams.params),
                weights=path,
                form=form,
                files=files,
                sha256=manifests.combined(files),
                versions={"python": platform.python_version(), "numpy": np.__version__},
                regime=regime,
                variant=dict(variant or {}),
            )
            manifests.write(made, folder)

        write_folder(self.directory / name, fill)
        # Read back: what a later run would find, and not what was meant to be written.
        self._manifests[name] = manifests.read(self.directory / name)
        self._prune(newest=name)
        return self._snapshot(self._manifests[name])

    def load(self, snapshot: PolicySnapshot) -> NamedArrays:
        """The policy of one snapshot.

        Raises:
            CheckpointError: it is damaged; it is then no longer among `snapshots`.
        """
        manifest = self._verified(snapshot.snapshot_id)
        return weights.read(self.directory / manifest.snapshot_id, manifest.form)

    def restore_best(self) -> tuple[PolicySnapshot, NamedArrays] | None:
        """The best snapshot that is not damaged, with its policy; None where nothing was ever saved.

        Raises:
            CheckpointError: every snapshot is damaged.
        """
        while (best := self.best) is not None:
            try:
                return best, self.load(best)
            except CheckpointError:
                if best.snapshot_id in self._manifests:
                    raise
        self._complain_if_damaged()
        return None

    def load_best(self, agent: Any) -> PolicySnapshot | None:
        """Give the agent the best snapshot that is not damaged; returns which, None where there is none.

        Raises:
            CheckpointError: every snapshot is damaged.
        """
        restored = self.restore_best()
        if restored is None:
            return None
        snapshot, policy = restored
        if "opaque" not in policy.arrays and hasattr(agent, "load_state"):
            agent.load_state(policy)
        else:
            agent.load_weights(snapshot.weights_path)
        return snapshot

    def load_ensemble(self, agent: Any, top_k: int = 3, score_band: float = 0.1) -> list[PolicySnapshot]:
        """Give the agent the mean of the best weights; returns the snapshots that went in, best first.

        Args:
            agent: implements `average_weights`.
            top_k: how many at most.
            score_band: how far below the best a snapshot may lie, as a share of the best's absolute score.

        Raises:
            CheckpointError: every snapshot is damaged.
        """
        chosen: list[PolicySnapshot] = []
        for snapshot in self.snapshots:
            score = snapshot.eval_metrics.primary_score
            if chosen:
                best = chosen[0].eval_metrics.primary_score
                if not score >= best - abs(best) * score_band:
                    break
            if len(chosen) == top_k:
                break
            try:
                self._verified(snapshot.snapshot_id)
            except CheckpointError:
                continue  # named in `damaged`
            chosen.append(snapshot)
        if len(chosen) > 1:
            agent.average_weights([snapshot.weights_path for snapshot in chosen])
        elif chosen:
            self.load_best(agent)
        else:
            self._complain_if_damaged()
        return chosen

    def relative(self, snapshot: PolicySnapshot) -> str:
        """Path of the weights relative to the checkpoint directory."""
        return f"{snapshot.snapshot_id}/{self._manifests[snapshot.snapshot_id].weights}"

    def sha256(self, snapshot: PolicySnapshot) -> str:
        """SHA-256 of the snapshot's weights."""
        return self._manifests[snapshot.snapshot_id].sha256

    def lineage(self, snapshot: PolicySnapshot) -> list[str]:
        """Ids of the snapshots it descends from, nearest first, as far as they are known."""
        line: list[str] = []
        current = self._manifests.get(snapshot.snapshot_id)
        while current is not None and current.parent and current.parent not in line:
            line.append(current.parent)
            current = self._manifests.get(current.parent)
        return line

    def manifest(self, snapshot: PolicySnapshot) -> Manifest:
        """Everything that is written about a snapshot."""
        return self._manifests[snapshot.snapshot_id]

    def _scan(self) -> None:
        if not self.directory.is_dir():
            return
        for folder in sorted(self.directory.iterdir()):
            if not folder.is_dir() or folder.name.startswith("."):
                continue
            try:
                manifest = manifests.read(folder)
                if manifest.snapshot_id != folder.name:
                    raise CheckpointError(f"{folder} holds the manifest of {manifest.snapshot_id}")
                missing = [name for name in manifest.files if not (folder / name).is_file()]
                if missing:
                    raise CheckpointError(f"{folder} lacks {', '.join(missing)}")
            except CheckpointError as error:
                self.damaged.append(str(error))
                continue
            self._manifests[manifest.snapshot_id] = manifest

    def _verified(self, snapshot_id: str) -> Manifest:
        """The manifest of a snapshot whose weights are as they were written."""
        manifest = self._manifests.get(snapshot_id)
        if manifest is None:
            raise CheckpointError(f"found no snapshot {snapshot_id} in {self.directory}")
        folder = self.directory / snapshot_id
        found = {
            f"{weights.FOLDER}/{name}": digest for name, digest in digests(folder / weights.FOLDER).items()
        }
        wrong = [name for name, digest in manifest.files.items() if found.get(name) != digest]
        if not wrong:
            return manifest
        del self._manifests[snapshot_id]
        message = f"{folder} is damaged: {', '.join(wrong)} is not what was written"
        self.damaged.append(message)
        raise CheckpointError(message)

    def _complain_if_damaged(self) -> None:
        if self.damaged:
            raise CheckpointError(
                f"no usable snapshot in {self.directory}; damaged: {'; '.join(self.damaged)}"
            )

    def _ranked(self) -> list[Manifest]:
        def rank(manifest: Manifest) -> tuple[int, float, int]:
            score = -math.inf if math.isnan(manifest.score) else manifest.score
            return manifest.regime, score, -manifest.sequence

        return sorted(self._manifests.values(), key=rank, reverse=True)

    def _prune(self, newest: str) -> None:
        """Delete all but the best; the newest stays until the next save, whatever it scores.

        So do later ones of this run: a run that does again what it did saves an old one after them.
        """
        number = self._manifests[newest].sequence
        for manifest in self._ranked()[self.max_snapshots :]:
            later = manifest.run == self.run_id and manifest.sequence > number
            if manifest.snapshot_id != newest and not later:
                del self._manifests[manifest.snapshot_id]
                shutil.rmtree(self.directory / manifest.snapshot_id, ignore_errors=True)

    def _snapshot(self, manifest: Manifest) -> PolicySnapshot:
        metrics = EvalMetrics(manifest.score, dict(manifest.metrics), manifest.episode_id, manifest.timestamp)
        params = HyperparamSet(dict(manifest.hyperparams), manifest.episode_id, manifest.timestamp)
        path = self.directory / manifest.snapshot_id / manifest.weights
        return PolicySnapshot(
            manifest.snapshot_id,
            metrics,
            params,
            str(path),
            manifest.episode_id,
            manifest.timestamp,
            manifest.policy_version,
        )
