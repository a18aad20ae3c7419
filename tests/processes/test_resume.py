"""Runs that die as a whole, at chosen places and at any moment, and go on to the same end."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from optix_bus.runtime.cuts import KEEP, CutFolder
from optix_bus.runtime.plan import RunPlan
from optix_bus.runtime.run_directory import RunDirectory
from tests.processes.runs import (
    TOPOLOGIES,
    collected_windows,
    command,
    die_at,
    journal,
    leftovers,
    started,
    streams,
    up,
    wait_until,
    weights,
)

pytestmark = pytest.mark.processes

DEMO = TOPOLOGIES / "cartpole_ppo.yaml"
SMALL = tuple(
    argument
    for setting in (
        "nodes.scheduler.max_episodes=9",
        "nodes.scheduler.cut_windows=2",
        "nodes.pipeline.environments=2",
        "nodes.pipeline.window_steps=64",
        "nodes.validation.episodes=4",
        "nodes.validation.environments=4",
    )
    for argument in ("--set", setting)
)
#: Places, and how often the small run passes each of them at least.
PLACES = {
    "journal.append.before": 80,
    "publish.before": 80,
    "publish.after": 80,
    "cut.rename.before": 8,
    "cut.rename.after": 8,
    "blob.rename.before": 8,
    "blob.rename.after": 8,
    "snapshot.rename.before": 1,
    "snapshot.rename.after": 1,
}


def failpoints(seed: int, count: int) -> list[str]:
    chance = random.Random(seed)
    places = [*PLACES, *chance.choices(list(PLACES), k=count - len(PLACES))]
    return [f"{place}:{chance.randint(1, PLACES[place])}" for place in places]


ALL = failpoints(7, 25)
#: Of events, cuts, blobs and snapshots one each is tried at every change; the rest with `make learn`.
SOME = [ALL[2], ALL[3], ALL[6], ALL[8]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    done = up(DEMO, run, *SMALL, "--seed", "5")
    assert done.code == 0, done.err
    return run


def die(place: str, run: Path) -> None:
    """The small run, until it dies at a failpoint."""
    die_at(place, DEMO, "--run-dir", run, *SMALL, "--seed", "5")


def resume(run: Path) -> None:
    done = command("up", "--resume", str(run))
    assert done.returncode == 0, done.stdout + done.stderr


def assert_same_end(run: Path, undisturbed: Path) -> None:
    assert weights(run) == weights(undisturbed)
    mine, theirs = streams(run), streams(undisturbed)
    for node in theirs:
        assert mine[node] == theirs[node], node
    numbers = [event["seq"] for event in journal(run)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert leftovers(run) == []


def test_every_complete_cut_of_a_run_in_processes_has_its_place(undisturbed: Path) -> None:
    """One process writes where it lies, before the cut can be complete."""
    nodes = [node.name for node in RunPlan.read(undisturbed / "plan.json").nodes]
    events = journal(undisturbed)
    told = {event["body"]["cut"]: event for event in events if event["type"] == "CutAnnounced"}
    taken = [(event["body"]["cut"], event["node"]) for event in events if event["type"] == "CutTaken"]
    complete = [cut for cut in told if {node for number, node in taken if number == cut} == set(nodes)]
    assert complete
    places = {place.cut: place for place in CutFolder(undisturbed).places()}
    for cut in complete[-KEEP:]:
        assert (places[cut].sequence, places[cut].window) == (told[cut]["seq"], told[cut]["body"]["window"])


@pytest.mark.parametrize("place", SOME)
def test_a_run_that_died_at_a_failpoint_ends_as_if_it_had_not(
    place: str, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    die(place, run)
    resume(run)
    assert_same_end(run, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("place", [place for place in ALL if place not in SOME])
def test_every_failpoint(place: str, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    die(place, run)
    resume(run)
    assert_same_end(run, undisturbed)


def die_after(windows: int, more_seconds: float, run: Path) -> None:
    """Kill every process of a run, the supervisor first, some time after it has collected so many windows."""
    with started(DEMO, run, *SMALL, "--seed", "5") as process:
        wait_until(run, lambda folder: collected_windows(folder) >= windows)
        time.sleep(more_seconds)
        record = RunDirectory(run).read()
        process.kill()
        for child in record.processes:
            if child.alive():
                os.kill(child.pid, signal.SIGKILL)
        process.wait(30)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_any_moment(number: int, undisturbed: Path, tmp_path: Path) -> None:
    chance = random.Random(number)
    run = tmp_path / "run"
    die_after(chance.randint(1, 8), chance.random() * 0.1, run)
    done = command("up", "--resume", str(run))
    if "has ended" in done.stderr:
        assert journal(run)[-1]["type"] == "RunFinished"
    else:
        assert done.returncode == 0, done.stdout + done.stderr
    assert_same_end(run, undisturbed)


def test_a_run_dies_twice_and_still_ends_the_same(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    die("cut.rename.after:5", run)
    die_at("publish.before:15", "--resume", run)
    resume(run)
    assert_same_end(run, undisturbed)


def test_a_damaged_cut_is_named_and_an_older_one_takes_its_place(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    die("publish.after:85", run)
    newest = sorted((run / "cuts").iterdir())[-1]
    for state in newest.glob("*.safetensors"):
        state.write_bytes(state.read_bytes()[:-1] + b"\x00\x01")
    done = command("up", "--resume", str(run))
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same_end(run, undisturbed)


def test_without_any_cut_everything_is_repeated(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    die("publish.after:60", run)
    shutil.rmtree(run / "cuts", ignore_errors=True)
    resume(run)
    assert_same_end(run, undisturbed)


def test_a_run_can_be_moved_before_it_is_resumed(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    die("publish.after:85", run)
    moved = tmp_path / "elsewhere" / "run"
    moved.parent.mkdir()
    shutil.move(run, moved)
    resume(moved)
    assert_same_end(moved, undisturbed)


def test_a_run_that_has_ended_is_not_resumed(undisturbed: Path) -> None:
    done = command("up", "--resume", str(undisturbed))
    assert done.returncode == 2
    assert "has ended (max_episodes)" in done.stderr
    assert "optix-bus fork" in done.stderr


def test_an_agent_that_keeps_more_than_its_weights_goes_back_to_the_cut(tmp_path: Path) -> None:
    """It cannot do the same again, so what came after the cut is set aside and the run goes on from there."""
    run = tmp_path / "run"
    topology = TOPOLOGIES / "custom_agent.yaml"
    options = ("--set", "nodes.scheduler.max_episodes=9", "--set", "nodes.scheduler.cut_windows=2")
    # Three nodes share the agent's process, so with its place a cut is four files there. The second one stays
    # incomplete, and there are windows behind the first, which is complete unless somebody was far behind.
    die_at("cut.rename.before:6", topology, "--run-dir", run, *options)
    done = command("up", "--resume", str(run))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        "^the run went back to (the cut after window 1|its beginning), because", done.stdout, re.MULTILINE
    )
    events = journal(run)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "RunFinished"
    windows = [e["body"]["window"] for e in events if e["type"] == "CollectWindow"]
    assert windows == list(range(9))
    assert list((run / "set-aside" / "1" / "journal").glob("*.mcap"))
    assert leftovers(run) == []
