"""Runs in real processes, played again in one."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from optix_bus.runtime.replay_run import RecordedRun
from optix_bus.runtime.replay_session import replay
from optix_bus.runtime.run_directory import RunDirectory
from tests.processes.runs import (
    TOPOLOGIES,
    collected_windows,
    command,
    journal,
    leftovers,
    started,
    up,
    wait_until,
)
from tests.runtime.recorded import contents, records

pytestmark = pytest.mark.processes

SMALL = (
    *("--set", "nodes.scheduler.max_episodes=6", "--set", "nodes.scheduler.cut_windows=2"),
    *("--set", "nodes.pipeline.environments=2", "--set", "nodes.pipeline.window_steps=64"),
)
SMALL_VALIDATION = ("--set", "nodes.validation.episodes=4", "--set", "nodes.validation.environments=4")
BLOBS = ("--set", "run.record=blobs")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """The demo topology in processes, every array recorded."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    done = up(TOPOLOGIES / "cartpole_ppo.yaml", folder, *SMALL, *SMALL_VALIDATION, *BLOBS)
    assert done.code == 0, done.err
    return RecordedRun(folder)


def test_a_run_in_processes_is_reproduced_in_one(demo: RecordedRun) -> None:
    before = contents(demo.directory.root)
    report = replay(demo)
    assert (report.exit_code, report.divergence, report.unrecorded) == (0, None, [])
    assert report.cuts == len(records(demo, "CutTaken")) > 0
    assert report.outputs == sum(bool(found.cause) for found in demo.records())
    assert contents(demo.directory.root) == before


@pytest.mark.parametrize(
    "node", ["validation", "pipeline", "learner", "evaluator", "scheduler", "optimizer", "checkpoint"]
)
def test_every_node_is_played_alone_from_recorded_arrays(demo: RecordedRun, node: str) -> None:
    report = replay(demo, [node])
    assert (report.exit_code, report.divergence, report.obstacle) == (0, None, "")
    assert report.outputs == sum(found.node == node for found in demo.records() if found.cause)


def test_from_every_cut_the_rest_is_reproduced(demo: RecordedRun) -> None:
    """What was under way when a cut was taken is read from what was recorded."""
    cuts = [found.seq for found in records(demo, "CutAnnounced")]
    assert len(cuts) > 1
    for cut in cuts:
        report = replay(demo, first=cut + 1)
        assert (report.exit_code, report.divergence, report.since) == (0, None, cut)


@pytest.mark.parametrize("name", ["cartpole_one_pipeline.yaml", "custom_agent.yaml"])
def test_every_topology_of_the_repository_is_reproduced(name: str, tmp_path: Path) -> None:
    validation = SMALL_VALIDATION if name == "custom_agent.yaml" else ()
    done = up(TOPOLOGIES / name, tmp_path / "run", *SMALL, *validation)
    assert done.code == 0, done.err
    answered = command("replay", str(tmp_path / "run"), "--json")
    report = json.loads(answered.stdout)
    assert (answered.returncode, report["equal"], report["unrecorded"]) == (0, True, [])
    assert report["events"] == len(journal(tmp_path / "run"))
    assert report["cuts"] > 0


def test_lookahead_is_reproduced_whatever_came_first(tmp_path: Path) -> None:
    ahead = ("--set", "nodes.scheduler.lookahead=1")
    done = up(TOPOLOGIES / "cartpole_ppo.yaml", tmp_path / "run", *SMALL, *SMALL_VALIDATION, *ahead)
    assert done.code == 0, done.err
    report = replay(RecordedRun(tmp_path / "run"))
    assert (report.exit_code, report.divergence) == (0, None)


def test_a_run_that_is_alive_is_replayed_up_to_where_it_is(tmp_path: Path) -> None:
    run = tmp_path / "run"
    endless = ("--set", "nodes.scheduler.max_episodes=100000", *BLOBS)
    with started(TOPOLOGIES / "cartpole_ppo.yaml", run, *SMALL, *SMALL_VALIDATION, *endless) as process:
        wait_until(run, lambda folder: collected_windows(folder) > 12)
        recorded = RecordedRun(run)
        for nodes in ((), ("evaluator",), ("scheduler",)):
            report = replay(recorded, nodes)
            assert (report.exit_code, report.divergence, report.obstacle) == (0, None, "")
            assert report.last == recorded.head
        assert process.poll() is None
    assert leftovers(run) == []


LONGER = (*SMALL, *SMALL_VALIDATION, "--set", "nodes.scheduler.max_episodes=14")


@pytest.mark.parametrize(
    ("name", "victim"), [("cartpole_ppo.yaml", "learner"), ("custom_agent.yaml", "agent")]
)
def test_a_run_in_which_a_process_was_killed_is_reproduced(name: str, victim: str, tmp_path: Path) -> None:
    """Also where what came back had not all that it knew before: then it begins anew in the replay too."""
    run = tmp_path / "run"
    with started(TOPOLOGIES / name, run, *LONGER) as process:
        for windows in (8, 16):
            wait_until(run, lambda folder, least=windows: collected_windows(folder) > least)
            found = next(other for other in RunDirectory(run).read().processes if other.name == victim)
            os.kill(found.pid, signal.SIGKILL)
        assert process.wait(120) == 0
    report = replay(RecordedRun(run))
    assert (report.exit_code, report.divergence, report.obstacle) == (0, None, "")
    came_back = [note for note in report.notes if "came back before event" in note]
    assert bool(came_back) == (victim == "agent")


@pytest.mark.parametrize("name", ["cartpole_ppo.yaml", "custom_agent.yaml"])
def test_a_run_that_was_resumed_is_reproduced_across_the_gap(name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with started(TOPOLOGIES / name, run, *LONGER) as process:
        wait_until(run, lambda folder: collected_windows(folder) > 8)
        process.kill()
        process.wait(30)
        wait_until(run, lambda folder: not any(found.alive() for found in folder.read().processes))
    done = command("up", "--resume", str(run), "--quiet")
    assert done.returncode == 0, done.stderr
    recorded = RecordedRun(run)
    assert records(recorded, "RunResumed")
    report = replay(recorded)
    assert (report.exit_code, report.divergence, report.obstacle) == (0, None, "")


def test_a_fork_is_reproduced_under_the_settings_of_its_past_and_of_its_future(
    demo: RecordedRun, tmp_path: Path
) -> None:
    change = ("--set", "agent.hyperparameters.learning_rate=1e-4")
    forked = ("fork", str(demo.directory.root), "--at-window", "3", "--run-dir", str(tmp_path / "run"))
    done = command(*forked, "--quiet", *change)
    assert done.returncode == 0, done.stderr
    run = RecordedRun(tmp_path / "run")
    [boundary] = run.boundaries
    report = replay(run)
    assert (report.exit_code, report.divergence) == (0, None)
    assert replay(run, ["scheduler"], first=boundary + 1).exit_code == 0
    moved = tmp_path / "moved"
    run.directory.root.rename(moved)
    assert replay(RecordedRun(moved), ["scheduler", "optimizer"]).exit_code == 0
