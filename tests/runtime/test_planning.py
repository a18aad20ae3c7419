"""From a topology to a plan."""

from __future__ import annotations

from pathlib import Path

import msgspec

from optix_bus.runtime.planning import make_plan
from optix_bus.runtime.topology import load_topology

DEMO = Path(__file__).parents[2] / "topologies" / "cartpole_ppo.yaml"


def plan_of(tmp_path: Path, *overrides: str):
    return make_plan(load_topology(DEMO, overrides), run_id="r", run_directory=tmp_path)


def test_a_small_budget_for_blobs_brings_cuts_forward(tmp_path: Path) -> None:
    """Blobs live until the cut behind the next: four times as much must fit."""
    budget = 8 << 20
    plan = plan_of(tmp_path, f"run.blob_budget_bytes={budget}")
    (scheduler,) = [node for node in plan.nodes if node.name == "scheduler"]
    assert scheduler.settings["cut_bytes"] == budget // 4
    (scheduler,) = [node for node in plan_of(tmp_path).nodes if node.name == "scheduler"]
    assert scheduler.settings["cut_bytes"] == 256 << 20


def test_a_plan_knows_whether_its_run_can_be_taken_up_again(tmp_path: Path) -> None:
    assert plan_of(tmp_path).has_cuts
    assert not plan_of(tmp_path, "nodes.scheduler.cut_windows=0").has_cuts


def test_cuts_are_kept_by_a_process_that_every_complete_cut_has_to_wait_for(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    first, second, *others = plan.nodes
    assert plan.keeper == first.process
    passing = msgspec.structs.replace(first, restart="temporary")
    assert msgspec.structs.replace(plan, nodes=[passing, second, *others]).keeper == second.process
    assert msgspec.structs.replace(plan, nodes=[]).keeper == ""
