"""The checkpoint node answers from what it was told; the disk is only written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from nodes.checkpoint import CheckpointNode
from optix_bus.bus import blob_format
from optix_bus.checkpoints import CheckpointRegistry
from optix_bus.messages import (
    CollectWindow,
    Event,
    PolicyPromoted,
    PolicyUpdated,
    RollbackRequested,
    RolledBack,
    SnapshotSaved,
)
from optix_bus.runtime.fold import Fold
from optix_bus.types import NamedArrays
from tests.nodes.stage import Store, stored


class Desk:
    """A checkpoint node and its store."""

    def __init__(self, folder: Path, run: str = "a", keep: int = 2) -> None:
        self.store = Store()
        self.node = CheckpointNode(CheckpointRegistry(folder, keep, run_id=run))
        self.fold = Fold("checkpoint", self.node, seed=0, store=self.store)
        self.sequence = 0

    def tell(self, event: Event) -> list[Any]:
        self.sequence += 1
        return self.fold.apply(event, self.sequence, 10**18 + self.sequence)

    def promote(self, version: int, score: float) -> SnapshotSaved:
        policy = NamedArrays({"w": np.full(3, version, np.float32)}, {"policy": {"version": version}})
        ref = self.store.write(f"learner/policy-{version:06d}", policy)
        self.tell(
            PolicyUpdated(
                version=version, window=version - 1, hyperparams_version=0, origin="learned", policy=ref
            )
        )
        self.tell(CollectWindow(window=version, policy_version=version, hyperparams_version=0, evaluate=True))
        (saved,) = self.tell(
            PolicyPromoted(
                policy_version=version,
                window=version,
                hyperparams_version=0,
                score=score,
                n=3,
                standard_error=1.0,
                metrics={"n": 3.0},
                params={"learning_rate": 0.1},
            )
        )
        assert isinstance(saved, SnapshotSaved)
        return saved

    def roll_back(self) -> tuple[RolledBack, float]:
        (answer,) = self.tell(RollbackRequested(window=9, reason="degradation"))
        assert isinstance(answer, RolledBack)
        assert answer.policy is not None
        return answer, float(self.store.read(answer.policy).arrays["w"][0])

    def manifest(self, snapshot_id: str) -> Any:
        registry = CheckpointRegistry(self.node._registry.directory, resume=True)
        found = {snapshot.snapshot_id: snapshot for snapshot in registry.snapshots}
        return registry.manifest(found[snapshot_id])


def test_a_rollback_is_answered_from_memory_whatever_happened_to_the_disk(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.promote(1, 10.0)
    best = desk.promote(2, 30.0)
    shutil.rmtree(tmp_path)
    answer, value = desk.roll_back()
    assert (answer.snapshot_id, answer.policy_version, answer.score, value) == (
        best.snapshot_id,
        2,
        30.0,
        2.0,
    )


def test_before_the_first_promotion_there_is_nothing_to_give_back(tmp_path: Path) -> None:
    (answer,) = Desk(tmp_path).tell(RollbackRequested(window=0, reason="stop", final=True))
    assert answer == RolledBack(window=0, final=True) or answer.policy is None


def test_the_parent_is_the_best_that_the_node_knew_and_not_what_lies_on_disk(tmp_path: Path) -> None:
    desk = Desk(tmp_path, keep=9)
    first, second = desk.promote(1, 10.0), desk.promote(2, 30.0)
    desk.promote(3, 50.0)
    again = Desk(tmp_path, keep=9)
    assert again.promote(1, 10.0) == first
    assert again.promote(2, 30.0) == second
    assert again.manifest(first.snapshot_id).parent == ""
    assert again.manifest(second.snapshot_id).parent == first.snapshot_id


def test_a_policy_that_is_no_better_leaves_the_best_where_it_is(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.promote(1, 10.0)
    desk.promote(2, 10.0)
    desk.promote(3, 9.0)
    assert desk.roll_back()[0].policy_version == 1


def test_a_run_that_branched_off_has_the_best_policy_in_its_own_folder(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "first")
    parent = desk.promote(1, 10.0).snapshot_id
    best = desk.promote(2, 30.0)
    state = blob_format.parse(stored(desk.node.state()), "checkpoint")
    branch = Desk(tmp_path / "second", run="b")
    assert branch.node.load_state(state) == (
        f"snapshot {best.snapshot_id}, the best so far, was not on disk: written again",
    )
    registry = CheckpointRegistry(tmp_path / "second", run_id="b")
    assert registry.best is not None
    assert (registry.best.snapshot_id, registry.sha256(registry.best)) == (best.snapshot_id, best.sha256)
    assert registry.manifest(registry.best).parent == parent
    assert registry.best.hyperparams.params == {"learning_rate": 0.1}
    assert branch.roll_back()[1] == 2.0
    assert branch.node.load_state(state) == ()
    assert Desk(tmp_path / "first").node.load_state(state) == ()
