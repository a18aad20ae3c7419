"""Folders outside the run directory: made, owned, removed, and swept once their owner is dead."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from optix_bus.runtime import outside
from optix_bus.runtime.outside import OutsideFolder, private_directory, remove_outside, sweep, swept_line
from optix_bus.runtime.run_directory import ProcessRecord, RunRecord

_OWNING = """
import sys, time
from pathlib import Path
from optix_bus.runtime.outside import OutsideFolder
folder = OutsideFolder(Path(sys.argv[1]))
(folder.path / "blob").write_text("x")
print(folder.path, flush=True)
time.sleep(600)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place that is swept."""
    monkeypatch.setattr(outside, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return tmp_path


@pytest.fixture
def owner(place: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a folder."""
    process = subprocess.Popen([sys.executable, "-c", _OWNING, str(place)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def folder(place: Path, name: str = "optix-bus-x", age_seconds: float = 0.0) -> Path:
    made = place / name
    made.mkdir()
    then = made.stat().st_mtime - age_seconds
    os.utime(made, (then, then))
    return made


@pytest.mark.processes
def test_the_folder_of_a_living_process_stays_and_that_of_a_dead_one_goes(
    owner: tuple[subprocess.Popen[str], Path],
) -> None:
    process, found = owner
    assert sweep() == []
    assert (found / "blob").exists()
    process.kill()
    process.wait(20)
    assert sweep() == [str(found)]
    assert not found.exists()
    assert sweep() == []


def test_the_lock_decides_and_not_the_number(place: Path) -> None:
    mine = OutsideFolder(place)
    # As another container would see it: a number that nobody has here.
    (mine.path / "owner.json").write_text('{"pid": 4194305, "created": 1.0}')
    assert sweep() == []
    mine.remove()
    assert not mine.path.exists()


def test_a_living_owner_keeps_its_folder_where_locks_do_not_work(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(outside, "_lock", lambda descriptor: None)
        mine = OutsideFolder(place)
        assert sweep() == []
    mine.remove()


def test_a_folder_without_an_owner_is_left_alone(place: Path) -> None:
    old = folder(place, age_seconds=1e6)
    (old / "learner").mkdir()
    damaged = folder(place, "optix-bus-y")
    (damaged / "owner.json").write_text("{")
    assert sweep() == []


def test_one_that_is_empty_goes_after_an_hour(place: Path) -> None:
    old, young = folder(place, "optix-bus-old", 3700.0), folder(place, "optix-bus-young", 3500.0)
    assert sweep() == [str(old)]
    assert young.exists()


def test_only_folders_with_our_name_are_looked_at_and_links_are_not_followed(place: Path) -> None:
    theirs = folder(place, "precious", 1e6)
    (place / "optix-bus-link").symlink_to(theirs)
    (place / "optix-bus-file").write_text("")
    assert sweep() == []
    assert theirs.exists()


def test_folders_of_other_users_are_left_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = folder(place, age_seconds=1e6)
    monkeypatch.setattr(os, "getuid", lambda: theirs.stat().st_uid + 1)
    assert sweep() == []


def test_a_socket_folder_is_private_and_short(place: Path) -> None:
    made = private_directory()
    assert made.path.stat().st_mode & 0o777 == 0o700
    assert made.path.parent == place
    made.remove()
    made.remove()


def test_only_folders_of_our_making_are_removed(place: Path) -> None:
    ours, foreign = private_directory(), folder(place, "precious")
    me = ProcessRecord("supervisor", os.getpid(), 0.0)
    remove_outside(RunRecord("r", "n", "running", me, 0, str(ours.path), str(foreign), "t.yaml"))
    assert not ours.path.exists()
    assert foreign.exists()
    ours.remove()


def test_what_was_swept_is_one_line() -> None:
    assert swept_line([]) == ""
    assert swept_line(["/a", "/b"]) == "swept what dead runs had left: /a, /b"
