"""A run in processes goes on from variants as one inline does, also when it died on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes.runs import ROOT, command, die_at, journal, leftovers, streams, up, weights

pytestmark = pytest.mark.processes

EVOLVING = ROOT / "tests" / "runtime" / "evolving.yaml"
#: An agent whose saved weights are all that learning changes, so that a run that goes back repeats itself.
WHOLE = ("--set", "agent.class=tests.nodes.worlds:Whole", "--set", "nodes.scheduler.cut_windows=2")


def test_variants_in_processes_are_those_of_a_run_inline_and_survive_a_death(tmp_path: Path) -> None:
    inline, dying = tmp_path / "inline", tmp_path / "dying"
    done = up(EVOLVING, inline, *WHOLE, "--inline")
    assert done.code == 0, done.err
    events = journal(inline)
    decided = [event["body"]["action"] for event in events if event["type"] == "EvolutionDecided"]
    assert decided == ["spawn", "spawn", "stop"]
    # It dies at a cut behind the first variant, with one still to come.
    spawned = next(event["seq"] for event in events if event["type"] == "VariantSpawned")
    cuts = {
        event["body"]["cut"] for event in events if event["type"] == "CutTaken" and event["seq"] < spawned
    }
    # Three nodes share the process of the agent, so that is the first to have been there so often.
    die_at(f"cut.rename.after:{3 * len(cuts) + 2}", EVOLVING, "--run-dir", dying, *WHOLE)
    resumed = command("up", "--resume", str(dying))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    mine, theirs = streams(dying), streams(inline)
    assert mine["policy_manager"] == theirs["policy_manager"]
    for node in theirs:
        assert mine[node] == theirs[node], node
    assert weights(dying) == weights(inline)
    assert leftovers(dying) == []
