"""Searches in processes: workers that share one study, are killed, and die with the search."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from optix_bus.runtime.run_directory import process_alive
from optix_bus.runtime.topology import load_topology
from optix_bus.trials.tune_plan import TunePlan
from tests.processes.runs import ROOT, TOPOLOGIES, command

pytestmark = pytest.mark.processes

#: An agent without a framework, and trials of a few windows.
SMALL = (
    *("--set", "nodes.pipeline.environments=2", "--set", "nodes.pipeline.window_steps=50"),
    *("--set", "nodes.validation.episodes=2", "--set", "nodes.validation.environments=2"),
)
SPACE = "agent.arguments.learning_rate: [log_float, 1e-4, 1e-1]\n"


@contextmanager
def searching(run: Path, *arguments: str):
    """A search in the background of the test, ended at the end whatever happens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "optix_bus.cli", "tune", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def begin(tmp_path: Path, steps: int, trials: int) -> tuple[Path, list[str]]:
    space, run = tmp_path / "space.yaml", tmp_path / "run"
    space.write_text(SPACE)
    limits = ["--steps", str(steps), "--trials", str(trials), "--workers", "2", "--no-prune"]
    topology = str(TOPOLOGIES / "custom_agent.yaml")
    return run, [topology, "--run-dir", str(run), "--space", str(space), *limits, *SMALL]


def running(run: Path, *, scored: bool = True) -> list[dict]:
    """Signatures of the trials under way; ``scored``: only of those that have reported something."""
    if not (run / "study.journal").exists():
        return []
    trials = TunePlan.read(run).study(run).study.get_trials(deepcopy=False)
    begun = [trial for trial in trials if trial.state.name == "RUNNING" and trial.params]
    return [trial.user_attrs["owner"] for trial in begun if trial.intermediate_values or not scored]


def wait_for_trial(run: Path, process: subprocess.Popen, *, scored: bool = True) -> dict:
    deadline = time.monotonic() + 240
    while not (found := running(run, scored=scored)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found[0]


def kill_at_work(run: Path, process: subprocess.Popen) -> int:
    """SIGKILL a worker that certainly is in the middle of a trial: it is stopped first, then looked at."""
    while True:
        owner = wait_for_trial(run, process)
        try:
            os.kill(owner["pid"], signal.SIGSTOP)
        except ProcessLookupError:
            continue
        if owner in running(run):
            os.kill(owner["pid"], signal.SIGKILL)
            return owner["pid"]
        os.kill(owner["pid"], signal.SIGCONT)


def each_ran_once(run: Path) -> None:
    """Every trial was begun by one worker, once, and those that were run have a folder and a seed each."""
    said = "".join(path.read_text() for path in sorted((run / "logs").iterdir()))
    begun = [int(line.split()[1].strip(":")) for line in said.splitlines() if line.startswith("trial ")]
    rows = json.loads((run / "trials.json").read_text())
    assert sorted(begun) == [row["number"] for row in rows]
    seeds = {
        int(path.parent.name): json.loads(path.read_text())["seed"] for path in run.glob("trials/*/run.json")
    }
    assert {row["number"] for row in rows if not row["lost"]} <= set(seeds) <= set(begun)
    assert len(set(seeds.values())) == len(seeds)


def test_a_killed_workers_trial_is_marked_and_the_search_goes_on_to_its_end(tmp_path: Path) -> None:
    run, arguments = begin(tmp_path, 2000, 4)
    with searching(run, *arguments) as process:
        killed = kill_at_work(run, process)
        said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    rows = json.loads((run / "trials.json").read_text())
    lost = [row for row in rows if row["state"] == "failed"]
    assert [row["reason"] for row in lost] == [f"process {killed} is gone"]
    assert Counter(row["state"] for row in rows) == {"complete": 4, "failed": 1}
    assert "killed by SIGKILL" in said
    each_ran_once(run)
    best = max((row for row in rows if row["score"] is not None), key=lambda row: row["score"])
    topology = load_topology(run / "best.yaml", build_environment=False)
    (name,) = best["params"]
    assert topology.agent.arguments["learning_rate"] == best["params"][name]
    small = ("--set", "nodes.scheduler.max_episodes=2")
    started = command("up", str(run / "best.yaml"), "--inline", "--run-dir", str(tmp_path / "up"), *small)
    assert started.returncode == 0, started.stderr


@pytest.mark.slow
def test_workers_die_with_the_search_and_it_is_taken_up_where_it_was(tmp_path: Path) -> None:
    run, arguments = begin(tmp_path, 4000, 4)
    with searching(run, *arguments) as process:
        owner = wait_for_trial(run, process)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    deadline = time.monotonic() + 30
    while any(process_alive(child.pid, child.create_time()) for child in children if child.is_running()):
        assert time.monotonic() < deadline, "a worker has outlived the search"
        time.sleep(0.1)
    assert not process_alive(owner["pid"], owner["created"])
    done = command("tune", "--resume", str(run), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    states = Counter(row["state"] for row in answer["trials"])
    assert states["complete"] == 4
    assert 1 <= states["failed"] <= 2
    assert all(row["lost"] for row in answer["trials"] if row["state"] == "failed")
    each_ran_once(run)


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_leaves_nobody_behind(tmp_path: Path) -> None:
    run, arguments = begin(tmp_path, 1_000_000, 4)
    with searching(run, *arguments) as process:
        owner = wait_for_trial(run, process, scored=False)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=240)
    assert process.returncode == 130, said
    assert f"optix-bus tune --resume {run}" in said
    assert not process_alive(owner["pid"], owner["created"])
    rows = json.loads((run / "trials.json").read_text())
    assert {row["reason"] for row in rows if row["lost"]} == {"interrupted"}
    assert not (run / "best.yaml").exists()
