"""The policy manager in topologies: what is refused and where, what is drawn, and what it would have done."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from optix_bus.cli import cli
from optix_bus.runtime.topology import TopologyError, load_topology
from tests.runtime.recorded import ROOT, record, records

EVOLVING = ROOT / "tests" / "runtime" / "evolving.yaml"
WHOLE = (
    "nodes.scheduler.max_episodes=60",
    "nodes.pipeline.window_steps=20",
    "nodes.pipeline.environments=1",
)


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def changed(folder: Path, old: str, new: str) -> Path:
    text = EVOLVING.read_text(encoding="utf-8")
    assert old in text
    path = folder / "other.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("variants: clones", "expected one of 'continue', 'nodes'"),
        ("max_spawns: -1", "expected at least 0, found -1"),
        ("max_spwans: 2", "did you mean 'max_spawns'"),
        ("min_noise: 0.5", "above max_noise"),
    ],
)
def test_what_it_cannot_do_is_refused_at_its_place(written: str, said: str, tmp_path: Path) -> None:
    path = changed(tmp_path, "max_spawns: 2", written)
    with pytest.raises(TopologyError) as refused:
        load_topology(path, build_environment=False)
    (problem,) = refused.value.problems
    assert said in f"{problem.message} {problem.suggestion}"
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if written in text)
    assert (problem.line, bool(problem.column)) == (line, True)


def test_a_policy_manager_needs_a_loop_that_comes_to_plateaus(tmp_path: Path) -> None:
    text = EVOLVING.read_text(encoding="utf-8")
    start, end = text.index("  scheduler:"), text.index("  checkpoint:")
    path = tmp_path / "other.yaml"
    path.write_text(text[:start] + text[end:], encoding="utf-8")
    with pytest.raises(TopologyError, match=r"nodes\.scheduler:SchedulerNode"):
        load_topology(path, build_environment=False)


def test_what_another_budget_would_have_decided_is_told_without_a_run(tmp_path: Path) -> None:
    run = record(tmp_path / "run", EVOLVING, *WHOLE)
    decided = records(run, "EvolutionDecided")
    other = changed(tmp_path, "max_spawns: 2", "max_spawns: 1")
    asked = CliRunner().invoke(
        cli, ["replay", str(run.directory.root), "--node", "policy_manager", "--with", str(other)]
    )
    assert "EvolutionDecided.action" in asked.output
    assert f"event {decided[1].seq}" in asked.output
    assert "recorded 'spawn', now 'stop'" in asked.output
    same = CliRunner().invoke(
        cli, ["replay", str(run.directory.root), "--node", "policy_manager", "--with", str(EVOLVING)]
    )
    assert same.exit_code == 0
    assert "EvolutionDecided" not in same.output


def test_up_says_why_it_went_on_and_what_became_of_the_variants(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli, ["up", str(EVOLVING), "--inline", "--run-dir", str(tmp_path / "run")], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    assert "evolution: spawn (variant 1, noise" in done.output
    assert "evolution: stop at window" in done.output
    assert "Spawns used          2 / 2" in done.output
