"""Which nodes cannot do again what they did, asked before any cut has said so."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from optix_bus.runtime.plan import RunPlan
from optix_bus.runtime.planning import make_plan
from optix_bus.runtime.repeating import unrepeatable
from optix_bus.runtime.run_directory import RunDirectory
from optix_bus.runtime.topology import load_topology
from tests.processes.worlds import drifting, light


def laid_out(topology: Path, root: Path) -> tuple[RunDirectory, RunPlan]:
    plan = make_plan(load_topology(topology, build_environment=False), run_directory=root, run_id="asked")
    root.mkdir()
    plan.write(root / "plan.json")
    return RunDirectory(root), plan


def test_environments_that_keep_to_their_seeds_are_told_from_those_that_do_not(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert unrepeatable(*laid_out(light(tmp_path / "a"), tmp_path / "steady"), None) == set()
    drifts = drifting(light(tmp_path / "b"))
    world = drifts.parent / "drifting.py"
    # What it prints is not taken for an answer.
    world.write_text(world.read_text().replace("self.steps = 0\n", "self.steps = 0\n        print('[]')\n"))
    assert unrepeatable(*laid_out(drifts, tmp_path / "drifts"), None) == {"pipeline", "validation"}


def test_what_cannot_be_built_says_so_when_it_is_started(tmp_path: Path) -> None:
    run, plan = laid_out(light(tmp_path), tmp_path / "run")
    (tmp_path / "noop_world.py").write_text("raise RuntimeError('gone')\n")
    assert unrepeatable(run, plan, None) == set()


def test_whoever_shares_an_agent_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, plan = laid_out(light(tmp_path), tmp_path / "run")
    monkeypatch.setattr("subprocess.run", None)
    shared = msgspec.structs.replace(plan, shares_agent=True)
    assert unrepeatable(run, shared, None) == {node.name for node in plan.nodes}
