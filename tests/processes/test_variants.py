"""Nodes of variants in a process of their own: they join a run, come back, go on after a resume, leave."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from optix_bus.runtime.run_directory import RunDirectory
from tests.processes.runs import (
    ROOT,
    command,
    die_at,
    journal,
    leftovers,
    resumed,
    started,
    streams,
    up,
    wait_until,
    weights,
)

pytestmark = pytest.mark.processes

BESIDE = ROOT / "tests" / "runtime" / "beside.yaml"


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run in one process."""
    run = tmp_path_factory.mktemp("inline") / "run"
    done = up(BESIDE, run, "--inline")
    assert done.code == 0, done.err
    return run


def updated(folder: RunDirectory, variant: int) -> int:
    """How many policies of a variant there are."""
    return sum(
        e["type"] == "VariantUpdated" and e["body"]["variant"] == variant for e in journal(folder.root)
    )


def kill(run: Path, name: str) -> None:
    found = next(other for other in RunDirectory(run).read().processes if other.name == name)
    os.kill(found.pid, signal.SIGKILL)


def same(run: Path, inline: Path) -> None:
    """It is the run that the other one is, and its replay agrees."""
    mine, theirs = streams(run), streams(inline)
    assert mine.keys() == theirs.keys()
    for node in theirs:
        assert mine[node] == theirs[node], node
    assert weights(run) == weights(inline)
    assert leftovers(run) == []
    answered = command("replay", str(run), "--all", "--json")
    report = json.loads(answered.stdout)
    assert (answered.returncode, report["equal"], report["unrecorded"]) == (0, True, [])
    assert report["events"] == len(journal(run))


def states(run: Path) -> dict[str, tuple[str, int]]:
    """State and restarts of the processes of variants."""
    processes = RunDirectory(run).read().processes
    return {p.name: (p.state, p.restarts) for p in processes if p.name.startswith("variant-")}


@pytest.mark.slow
def test_they_join_come_back_when_they_are_killed_and_leave_when_they_are_pruned(
    tmp_path: Path, inline: Path
) -> None:
    run = tmp_path / "run"
    with started(BESIDE, run) as process:
        wait_until(run, lambda folder: updated(folder, 1) > 1)
        shown = json.loads(command("ps", str(run), "--json").stdout)
        kill(run, "variant-1")
        wait_until(run, lambda folder: updated(folder, 2) > 1)
        kill(run, "variant-2")
        kill(run, "checkpoint")
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "variant-1 joins with 4 nodes of its own" in out
    assert "variant-1 ends: its variant is no longer in the ensemble" in out
    assert "variant-1" in json.dumps(shown)
    assert states(run) == {"variant-1": ("ended", 1), "variant-2": ("ended", 1)}
    ready = Counter(e["body"]["node"] for e in journal(run) if e["type"] == "NodeReady")
    assert (ready["variant-1-learner"], ready["variant-2-pipeline"], ready["pipeline"]) == (2, 2, 1)
    # Nobody is lost who was dismissed.
    lost = [e["body"] for e in journal(run) if e["type"] == "NodeLost"]
    assert {each["node"].split("-")[0] for each in lost} == {"variant", "checkpoint"}
    assert not any(each["final"] for each in lost)
    same(run, inline)


def test_a_run_that_died_goes_on_with_the_same_variants_also_those_that_had_left_since_its_cut(
    tmp_path: Path, inline: Path
) -> None:
    run = tmp_path / "run"
    place, count = _behind_the_dismissal(inline)
    die_at(f"blob.rename.after:{count}", BESIDE, "--run-dir", run)
    events = journal(run)
    left = [event["seq"] for event in events if event["type"] == "VariantDismissed"]
    cuts = [event["seq"] for event in events if event["type"] == "CutAnnounced"]
    assert left, f"it was to die behind the dismissal, when {place} had written {count} arrays"
    assert cuts[-1] < left[0]
    with resumed(run) as process:
        wait_until(run, lambda folder: updated(folder, 2) > 1)
        kill(run, "variant-2")
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    assert states(run)["variant-1"][0] == "ended"
    same(run, inline)


def _behind_the_dismissal(inline: Path) -> tuple[str, int]:
    """A moment right behind the dismissal of a variant and before the next cut: the process that has written
    most arrays until then, and how many of its arrays there are when it has written one more."""
    events = journal(inline)
    left = next(n for n, event in enumerate(events) if event["type"] == "VariantDismissed")
    written: Counter[str] = Counter()
    for event in events[: left + 1]:
        written.update([_process(event)] * _arrays(event["body"]))
    process = written.most_common(1)[0][0]
    return process, written[process] + 1


def _process(event: dict[str, Any]) -> str:
    name: str = event["node"]
    return "-".join(name.split("-")[:2]) if name.startswith("variant-") else name


def _arrays(body: dict[str, Any]) -> int:
    return sum(isinstance(value, dict) and "checksum" in value for value in body.values())


@pytest.mark.slow
def test_a_fork_without_a_change_has_the_same_variants(tmp_path: Path, inline: Path) -> None:
    """It begins while one variant is trained, and another is made and dismissed behind that."""
    events = journal(inline)
    at = next(e["body"]["window"] for e in events if e["type"] == "VariantUpdated")
    done = command("fork", str(inline), "--run-dir", str(tmp_path / "run"), "--at-window", str(at))
    assert done.returncode == 0, done.stdout + done.stderr
    same(tmp_path / "run", inline)
