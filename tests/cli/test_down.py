from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from optix_bus.cli import main
from optix_bus.runtime.run_directory import ProcessRecord, creation_time
from tests.cli.run_folders import gone, write_run

#: A supervisor of three lines: counts how often it is asked to end, and ends at the given count.
STUBBORN = """
import signal, sys
seen = []
signal.signal(signal.SIGTERM, lambda *_: seen.append("term"))
signal.signal(signal.SIGINT, lambda *_: seen.append("int"))
print("ready", flush=True)
while len(seen) < int(sys.argv[1]):
    signal.pause()
"""


@pytest.fixture
def start():
    """Starts a child of the test; whatever happens, it is gone afterwards."""
    children = []

    def starting(*arguments, wait=False):
        children.append(subprocess.Popen(arguments, stdout=subprocess.PIPE if wait else None, text=True))
        if wait:
            assert children[-1].stdout.readline() == "ready\n"
        return children[-1]

    yield starting
    for child in children:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def record_of(child, name, nodes=()):
    return ProcessRecord(name, child.pid, creation_time(child.pid), "ready", nodes=list(nodes))


def test_what_a_dead_supervisor_left_is_ended(tmp_path, capsys, start):
    child = start("sleep", "600")
    run = write_run(tmp_path / "run", gone("supervisor"), record_of(child, "learner"), gone("hub"))
    assert main(["down", str(run.root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["swept"] == ["learner"]
    assert child.wait(10) == -signal.SIGTERM


def test_a_leftover_that_does_not_listen_is_killed(tmp_path, monkeypatch, start):
    from optix_bus.cli import down as module
    from optix_bus.runtime import run_directory

    child = start(sys.executable, "-c", STUBBORN, "99", wait=True)
    run = write_run(tmp_path / "run", gone("supervisor"), record_of(child, "learner"))
    monkeypatch.setattr(module, "end_processes", lambda record: run_directory.end_processes(record, 0.05))
    assert main(["down", str(run.root)]) == 0
    assert child.wait(10) == -signal.SIGKILL


def test_a_later_process_with_the_same_pid_is_left_alone(tmp_path, capsys, start):
    child = start("sleep", "600")
    impostor = record_of(child, "learner")
    impostor.created -= 3600.0
    run = write_run(tmp_path / "run", gone("supervisor"), impostor)
    assert main(["down", str(run.root)]) == 0
    assert capsys.readouterr().out == "run was not running\n"
    assert child.poll() is None


def test_folders_that_are_ours_are_removed_and_no_others(tmp_path):
    ours = Path(tempfile.mkdtemp(prefix="optix-bus-", dir=tmp_path))
    (ours / "events.sock").write_text("")
    theirs = tmp_path / "precious"
    theirs.mkdir()
    run = write_run(tmp_path / "run", gone("supervisor"), sockets=str(ours), shared_memory=str(theirs))
    assert main(["down", str(run.root)]) == 0
    assert not ours.exists()
    assert theirs.is_dir()


def test_what_other_dead_runs_left_is_swept_and_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "optix-bus-left"
    left.mkdir()
    (left / "owner.json").write_text('{"pid": 4194305, "created": 1.0}')
    run = write_run(tmp_path / "run", gone("supervisor"))
    assert main(["down", str(run.root)]) == 0
    said = capsys.readouterr().out
    assert str(left) in said.splitlines()[-1]
    assert not left.exists()
    assert main(["down", str(run.root), "--json"]) == 0
    assert str(left) not in json.loads(capsys.readouterr().out)["swept_folders"]


def test_a_link_with_our_name_is_not_followed(tmp_path):
    theirs = tmp_path / "precious"
    theirs.mkdir()
    (theirs / "file").write_text("keep me")
    link = tmp_path / "optix-bus-link"
    link.symlink_to(theirs)
    run = write_run(tmp_path / "run", gone("supervisor"), sockets=str(link), shared_memory="")
    assert main(["down", str(run.root)]) == 0
    assert (theirs / "file").read_text() == "keep me"


def test_sweeping_twice_does_nothing_the_second_time(tmp_path, capsys):
    run = write_run(tmp_path / "run", gone("supervisor"), sockets=str(tmp_path / "optix-bus-gone"))
    for _ in range(2):
        assert main(["down", str(run.root), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["swept"] == []


def test_a_supervisor_is_asked_once_and_its_reason_is_told(tmp_path, capsys, start):
    child = start(sys.executable, "-c", STUBBORN, "1", wait=True)
    supervisor = record_of(child, "supervisor")
    run = write_run(tmp_path / "run", supervisor, reason="interrupted", exit_code=130)
    assert main(["down", str(run.root), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["reason"], answer["exit_code"], answer["swept"]) == ("interrupted", 130, [])
    assert child.wait(10) == 0


def test_now_reaches_the_supervisor_as_a_second_request(tmp_path, start):
    child = start(sys.executable, "-c", STUBBORN, "2", wait=True)
    run = write_run(tmp_path / "run", record_of(child, "supervisor"))
    assert main(["down", str(run.root), "--now", "--seconds", "10"]) == 0
    assert child.wait(10) == 0


def test_a_supervisor_that_takes_longer_is_an_error_that_says_what_to_do(tmp_path, capsys, start):
    child = start(sys.executable, "-c", STUBBORN, "99", wait=True)
    run = write_run(tmp_path / "run", record_of(child, "supervisor"))
    assert main(["down", str(run.root), "--seconds", "0.05"]) == 3
    shown = capsys.readouterr().err
    assert f"the supervisor (pid {child.pid}) has not ended in 0.05 s; use --now" in shown
    assert psutil.pid_exists(child.pid)


def test_a_negative_time_is_refused(tmp_path, capsys):
    run = write_run(tmp_path / "run", gone("supervisor"))
    assert main(["down", str(run.root), "--seconds", "-1"]) == 2
    assert "--seconds" in capsys.readouterr().err
