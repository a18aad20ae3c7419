"""Every kind of node is killed ten times, the hub included, and every run ends as if nobody had been."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from optix_bus.runtime.run_directory import ProcessRecord, RunDirectory
from tests.processes.runs import (
    TOPOLOGIES,
    collected_windows,
    command,
    leftovers,
    started,
    streams,
    up,
    wait_until,
    weights,
)

pytestmark = [pytest.mark.processes, pytest.mark.slow]

DEMO = TOPOLOGIES / "cartpole_ppo.yaml"
OPTIONS = ("--seed", "5", "--set", "nodes.scheduler.max_episodes=14", "--set", "run.restarts=1000")
KINDS = ("hub", "learner", "pipeline", "validation", "scheduler", "evaluator", "optimizer", "checkpoint")
KILLS = 10


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    done = up(DEMO, run, *OPTIONS)
    assert done.code == 0, done.err
    return run


def process_of(folder: RunDirectory, name: str) -> ProcessRecord:
    return next(process for process in folder.read().processes if process.name == name)


def kill_again_and_again(run: Path, name: str, most: int) -> int:
    """Kill a process, and every later life once there is a new window, until the run ends; how often."""
    killed = 0
    while killed < most:
        windows = collected_windows(RunDirectory(run))
        wait_until(run, lambda folder, seen=windows: _ended(folder) or collected_windows(folder) > seen)
        wait_until(run, lambda folder: _ended(folder) or process_of(folder, name).state == "ready")
        if _ended(RunDirectory(run)):
            break
        process = process_of(RunDirectory(run), name)
        os.kill(process.pid, signal.SIGKILL)
        killed += 1
        wait_until(
            run,
            lambda folder, life=process.incarnation: (
                _ended(folder) or process_of(folder, name).incarnation > life
            ),
        )
    return killed


def _ended(folder: RunDirectory) -> bool:
    return folder.read().state in ("finished", "failed")


@pytest.mark.parametrize("kind", KINDS)
def test_ten_times_killed(kind: str, undisturbed: Path, tmp_path: Path) -> None:
    kills, runs = 0, 0
    while kills < KILLS:
        run = tmp_path / f"run-{runs}"
        runs += 1
        with started(DEMO, run, *OPTIONS) as process:
            wait_until(run, lambda folder: collected_windows(folder) > 1)
            kills += kill_again_and_again(run, kind, KILLS - kills)
            _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert weights(run) == weights(undisturbed)
        assert streams(run) == streams(undisturbed)
        assert command("log", "verify", str(run)).returncode == 0
        assert leftovers(run) == []
