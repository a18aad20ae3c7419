"""Child processes: lifeline, logs, and words for how they ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from optix_bus.errors import ConfigurationError
from optix_bus.runtime.children import SpawnedChild, explain_exit
from optix_bus.runtime.run_directory import (
    ProcessRecord,
    RunDirectory,
    RunRecord,
    creation_time,
    end_processes,
    process_alive,
)

_WATCHING = "from optix_bus.runtime import lifeline; lifeline.watch(); print('watching', flush=True); "
_WAITING = _WATCHING + "import time; time.sleep(600)"


def wait_for(condition: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.01)


def record(tmp_path: Path, processes: list[ProcessRecord], sockets: str = "", shared: str = "") -> RunRecord:
    me = ProcessRecord("supervisor", os.getpid(), creation_time(os.getpid()), "ready")
    return RunRecord(
        run_id="r",
        name="n",
        state="running",
        supervisor=me,
        seed=0,
        sockets=sockets,
        shared_memory=shared,
        topology="t.yaml",
        processes=processes,
    )


@pytest.mark.processes
def test_what_a_child_says_is_in_its_log_and_its_exit_code_is_known(tmp_path: Path) -> None:
    child = SpawnedChild("n", ["-c", "print('hello'); raise SystemExit(7)"], tmp_path / "n.log")
    assert child.wait(20.0) == 7
    assert child.last_lines() == ["hello"]
    assert explain_exit(7) == "exited with code 7"


@pytest.mark.processes
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from optix_bus.runtime.children import SpawnedChild
        child = SpawnedChild("n", ["-c", {_WAITING!r}], Path({str(tmp_path)!r}) / "n.log")
        print(child.pid, flush=True)
        time.sleep(600)
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_for(lambda: (tmp_path / "n.log").read_text() == "watching\n")
        parent.send_signal(signal.SIGKILL)
        parent.wait(20.0)
        wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


@pytest.mark.processes
def test_a_child_ends_when_the_lifeline_is_given_up(tmp_path: Path) -> None:
    child = SpawnedChild("n", ["-c", _WAITING], tmp_path / "n.log")
    wait_for(lambda: child.last_lines() == ["watching"])
    child.close()
    assert child.wait(20.0) == 70


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-9, "killed by SIGKILL (killed from outside; if nobody did, the machine was out of memory"),
        (-11, "killed by SIGSEGV (a crash in native code)"),
        (-10, "killed by SIG"),
        (3, "exited with code 3"),
    ],
)
def test_the_end_of_a_process_is_explained(code: int, words: str) -> None:
    assert explain_exit(code).startswith(words)


def test_a_folder_that_holds_a_run_is_refused_and_a_record_survives_its_writer(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    written = record(tmp_path, [ProcessRecord("learner", 1, 2.0, "ready", nodes=["learner"])])
    run.write(written)
    assert run.read() == written
    with pytest.raises(ConfigurationError, match="already holds a run"):
        RunDirectory.create(tmp_path / "run")


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    with pytest.raises(ConfigurationError, match="holds no run"):
        run.read()
    run.record.write_text("{")
    with pytest.raises(ConfigurationError, match=r"run\.json is damaged"):
        run.read()


@pytest.mark.processes
def test_what_a_dead_run_left_is_ended_and_nobody_else_with_the_same_pid(tmp_path: Path) -> None:
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        created = creation_time(left.pid)
        assert process_alive(left.pid, created)
        assert not process_alive(left.pid, created - 100.0)
        stranger = ProcessRecord("stranger", left.pid, created - 100.0)
        assert end_processes(record(tmp_path, [stranger])) == []
        assert left.poll() is None
        mine = ProcessRecord("mine", left.pid, created)
        assert end_processes(record(tmp_path, [mine])) == ["mine"]
        assert left.wait(20.0) == -signal.SIGTERM
    finally:
        left.kill()
        left.wait()
