"""Whole runs whose processes are killed, stopped and ended: what was learnt does not show it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from optix_bus.runtime.run_directory import ProcessRecord, RunDirectory
from tests.processes.runs import (
    TOPOLOGIES,
    collected_windows,
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
from tests.processes.worlds import drifting, light

pytestmark = pytest.mark.processes

DEMO = TOPOLOGIES / "cartpole_ppo.yaml"
SHORT = ("--seed", "5", "--set", "nodes.scheduler.max_episodes=12")
FEW = ("--set", "nodes.scheduler.max_episodes=3")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo, short, from start to end."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    done = up(DEMO, run, *SHORT)
    assert done.code == 0, done.err
    return run


def process_of(run: Path, name: str) -> ProcessRecord:
    return next(process for process in RunDirectory(run).read().processes if process.name == name)


def is_back(run: Path, before: ProcessRecord) -> bool:
    now = process_of(run, before.name)
    return now.incarnation > before.incarnation and now.state == "ready"


def kill(run: Path, *names: str) -> None:
    """Kill these at once, and wait until all of them are back."""
    before = [process_of(run, name) for name in names]
    for process in before:
        os.kill(process.pid, signal.SIGKILL)
    wait_until(run, lambda _: all(is_back(run, process) for process in before))


def kill_on_its_way_back(run: Path, name: str) -> None:
    """Kill it, and its successor as soon as there is one."""
    first = process_of(run, name)
    os.kill(first.pid, signal.SIGKILL)
    wait_until(run, lambda _: process_of(run, name).pid != first.pid)
    second = process_of(run, name)
    os.kill(second.pid, signal.SIGKILL)
    wait_until(run, lambda _: is_back(run, second))


def one_by_one(*names: str) -> Callable[[Path], None]:
    def killing(run: Path) -> None:
        for name in names:
            kill(run, name)

    return killing


def kill_nursery_and_learner(run: Path) -> None:
    """The learner finds no nursery that is ready, and starts as a new interpreter."""
    nursery = process_of(run, "nursery")
    os.kill(nursery.pid, signal.SIGKILL)
    wait_until(run, lambda _: process_of(run, "nursery").incarnation > nursery.incarnation)
    kill(run, "learner")


LIGHT = ("pipeline", "validation", "scheduler", "evaluator", "optimizer", "checkpoint")
DISTURBANCES: dict[str, Callable[[Path], None]] = {
    "learner": one_by_one("learner"),
    "light nodes": one_by_one(*LIGHT),
    "hub": one_by_one("hub"),
    "nursery before learner": kill_nursery_and_learner,
    "everybody at once": lambda run: kill(run, "hub", "learner", "pipeline", "scheduler", "checkpoint"),
    "learner on its way back": lambda run: kill_on_its_way_back(run, "learner"),
}
#: Two deaths of one process at a bad moment.
RARE = ("nursery before learner", "learner on its way back")


@pytest.mark.parametrize(
    "disturb",
    [
        pytest.param(disturb, id=name, marks=[pytest.mark.slow] * (name in RARE))
        for name, disturb in DISTURBANCES.items()
    ],
)
def test_whoever_is_killed_the_run_ends_as_if_nobody_had_been(
    disturb: Callable[[Path], None], undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with started(DEMO, run, *SHORT) as process:
        wait_until(run, lambda folder: collected_windows(folder) > 2)
        disturb(run)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert weights(run) == weights(undisturbed)
    assert streams(run) == streams(undisturbed)
    assert re.search(r"came back \(restart [12] of 10, killed by SIGKILL\)", out)
    assert leftovers(run) == []


@contextlib.contextmanager
def running(topology: Path, run: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    with started(topology, run, *options) as process:
        wait_until(run, lambda folder: folder.read().state == "running" and collected_windows(folder) > 3)
        yield process


def cuts(run: Path) -> list[int]:
    return [int(path.name) for path in (run / "cuts").glob("*")]


def goes_on(run: Path) -> None:
    """Wait until windows are collected that were not there yet."""
    before = collected_windows(RunDirectory(run))
    wait_until(run, lambda folder: collected_windows(folder) > before + 3)


def test_what_happened_is_in_events_in_ps_and_in_one_log(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with running(light(tmp_path), run):
        before = process_of(run, "evaluator")
        kill(run, "evaluator")
        rows = json.loads(command("ps", str(run), "--json").stdout)["nodes"]
        row = next(row for row in rows if row["name"] == "evaluator")
        assert (row["state"], row["restarts"], row["incarnation"]) == ("ready", 1, 2)
        assert row["pid"] != before.pid
        assert row["reason"].startswith("killed by SIGKILL")
        goes_on(run)
    events = [e for e in journal(run) if e["type"] in ("NodeReady", "NodeLost")]
    found = [(e["type"], e["body"]["incarnation"]) for e in events if e["body"]["node"] == "evaluator"]
    assert found == [("NodeReady", 1), ("NodeLost", 1), ("NodeReady", 2)]
    lines = (run / "logs" / "evaluator.log").read_text().splitlines()
    assert len([line for line in lines if "evaluator, life 2: restart 1 of 10 after: killed" in line]) == 1


def test_a_process_that_was_stopped_is_silent_and_is_replaced(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with running(light(tmp_path), run, "--set", "run.idle_seconds=1.5"):
        before = process_of(run, "pipeline")
        os.kill(before.pid, signal.SIGSTOP)
        wait_until(run, lambda _: is_back(run, before))
        goes_on(run)
        assert process_of(run, "pipeline").reason.startswith("has been silent for more than 1.5 s")
        assert {process.restarts for process in RunDirectory(run).read().processes} == {0, 1}


def test_a_hub_that_was_stopped_is_replaced_and_nobody_else(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with running(light(tmp_path), run, "--set", "run.idle_seconds=1.5"):
        before = process_of(run, "hub")
        os.kill(before.pid, signal.SIGSTOP)
        wait_until(run, lambda _: is_back(run, before))
        goes_on(run)
        restarts = {process.name: process.restarts for process in RunDirectory(run).read().processes}
        assert [name for name, count in restarts.items() if count] == ["hub"]


def test_the_report_says_where_an_episode_was_cut_that_could_not_be_rebuilt(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with running(drifting(light(tmp_path)), run, "--set", "nodes.scheduler.cut_windows=1") as process:
        kill(run, "pipeline")
        goes_on(run)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    found = re.findall(
        r"^  after a restart, pipeline: (episode \d+ of environment 0) could not be rebuilt: "
        r"cut as truncated after [1-6] steps$",
        out,
        re.MULTILINE,
    )
    (remark,) = json.loads((run / "report.json").read_text())["remarks"]
    assert len(found) == 1
    assert found[0] in remark


def test_an_interrupt_while_somebody_is_on_its_way_back_is_heeded(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with running(light(tmp_path), run) as process:
        os.kill(process_of(run, "learner").pid, signal.SIGKILL)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in out
    assert leftovers(run) == []


def test_the_run_goes_on_without_a_callback_that_is_temporary(tmp_path: Path) -> None:
    run = tmp_path / "run"
    quiet = "  quiet: {node: nodes.callbacks:CallbackNode, callback: 'quiet:Quiet', restart: temporary}"
    with running(light(tmp_path, quiet), run, "--set", "nodes.scheduler.cut_windows=5"):
        os.kill(process_of(run, "quiet").pid, signal.SIGKILL)
        wait_until(run, lambda _: process_of(run, "quiet").state == "lost")
        goes_on(run)
        # A cut is complete without it, so that older ones go, and blobs with them.
        wait_until(run, lambda _: cuts(run))
        newest = max(cuts(run))
        wait_until(run, lambda _: min(cuts(run), default=0) > newest)
    lost = [e["body"] for e in journal(run) if e["type"] == "NodeLost"]
    assert [(body["node"], body["final"]) for body in lost] == [("quiet", True)]


def test_what_is_permanent_comes_back_after_being_terminated(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with running(light(tmp_path), run, "--set", "nodes.evaluator.restart=permanent"):
        before = process_of(run, "evaluator")
        os.kill(before.pid, signal.SIGTERM)
        wait_until(run, lambda _: is_back(run, before))
        goes_on(run)


def test_what_is_transient_ends_the_run_where_others_wait_for_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with running(light(tmp_path), run) as process:
        os.kill(process_of(run, "evaluator").pid, signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: node 'evaluator'")
    assert "ended in order although the run goes on" in last
    assert leftovers(run) == []


def test_too_many_deaths_end_the_run_and_the_last_line_says_who_how_often_and_why(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with running(light(tmp_path), run, "--set", "run.restarts=2") as process:
        for _ in range(2):
            kill(run, "evaluator")
        os.kill(process_of(run, "evaluator").pid, signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: node 'evaluator'")
    assert "died 3 times in 60 s (run.restarts is 2): killed by SIGKILL" in last
    record = RunDirectory(run).read()
    assert (record.state, record.exit_code) == ("failed", 3)
    assert leftovers(run) == []


@pytest.mark.skipif(sys.platform != "linux", reason="others have no shared memory to sweep")
def test_a_killed_supervisor_leaves_no_process_and_whoever_comes_next_sweeps_the_rest(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with started(DEMO, run, *SHORT) as process:
        wait_until(run, lambda folder: collected_windows(folder) > 1)
        record = RunDirectory(run).read()
        assert {"nursery", "learner", "hub"} <= {each.name for each in record.processes}
        below = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait(30)
        _, alive = psutil.wait_procs(below, timeout=3.0)
        assert alive == []
    assert json.loads(command("ps", str(run), "--json").stdout)["state"] == "dead"
    # Another run on this machine may be the next; that the sweeper is named is proved below.
    another = up(light(tmp_path), tmp_path / "another", *FEW)
    assert another.code == 0, another.err
    assert leftovers(run) == []


def test_what_is_swept_is_said_and_a_living_run_is_never_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with tempfile.TemporaryDirectory() as place:  # short: sockets are in it
        monkeypatch.setenv("TMPDIR", place)
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        dead = Path(place) / "optix-bus-dead"
        dead.mkdir()
        with running(light(tmp_path), run):
            (dead / "owner.json").write_text('{"pid": 4194305, "created": 1.0}')
            done = up(light(tmp_path), tmp_path / "another", *FEW)
            assert done.code == 0, done.err
            swept = [
                line for line in done.out.splitlines() if line.startswith("swept what dead runs had left")
            ]
            record = RunDirectory(run).read()
            assert len(swept) == 1
            assert str(dead) in swept[0]
            assert record.sockets not in swept[0]
            assert not dead.exists()
            goes_on(run)
            assert Path(record.sockets).exists()


@pytest.mark.parametrize(
    ("place", "where"),
    [
        # In the process that keeps the cuts one is two files, elsewhere it is one, so it dies there and the
        # second cut never becomes complete. The first one has, unless somebody was four windows behind.
        ("cut.rename.before:3", "the cut after window 3|its beginning"),
        # Nobody has said yet that this world does not keep to its seeds.
        ("cut.rename.before:1", "its beginning"),
    ],
)
def test_a_world_that_does_not_keep_to_its_seeds_goes_back_to_the_cut(
    tmp_path: Path, place: str, where: str
) -> None:
    """What it showed after the cut cannot be shown again, and shared memory held the only copy."""
    run = tmp_path / "run"
    settings = ("--set", "nodes.scheduler.cut_windows=4")
    die_at(place, drifting(light(tmp_path)), "--run-dir", run, *settings)
    before = collected_windows(RunDirectory(run))
    with resumed(run) as process:
        wait_until(run, lambda folder: collected_windows(folder) > before + 3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert re.search(f"^the run went back to ({where}), because", out, re.MULTILINE)
    asked = [e["body"]["window"] for e in journal(run) if e["type"] == "CollectWindow"]
    assert asked == list(range(len(asked)))
    assert leftovers(run) == []


def test_what_a_resumed_run_gave_up_is_said_also_where_its_start_fails(tmp_path: Path) -> None:
    """The journal is exchanged by then, whatever becomes of the nodes."""
    run = tmp_path / "run"
    quiet = "  quiet: {node: nodes.callbacks:CallbackNode, callback: 'quiet:Quiet'}"
    topology = drifting(light(tmp_path, quiet))
    die_at("cut.rename.before:1", topology, "--run-dir", run, "--set", "nodes.scheduler.cut_windows=4")
    (tmp_path / "quiet.py").write_text("raise RuntimeError('gone for good')\n")
    done = command("up", "--resume", str(run))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "\nthe run went back to its beginning, because" in done.stdout
    assert "gone for good" in done.stdout + done.stderr
    assert leftovers(run) == []
