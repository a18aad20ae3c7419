"""Starting `optix-bus up` as a user does, and looking at what it left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optix_bus.bus.journal_reader import read_journal
from optix_bus.checkpoints import CheckpointRegistry
from optix_bus.runtime.run_directory import RunDirectory, RunRecord

ROOT = Path(__file__).parents[2]
TOPOLOGIES = ROOT / "topologies"


@dataclass
class Finished:
    code: int
    out: str
    err: str
    run: Path

    @property
    def last_line(self) -> str:
        return [line for line in (self.out + self.err).splitlines() if line.strip()][-1]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "optix_bus.cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def up(topology: Path, run: Path, *arguments: str) -> Finished:
    done = command("up", str(topology), "--run-dir", str(run), *arguments)
    return Finished(done.returncode, done.stdout, done.stderr, run)


def die_at(place: str, *arguments: str | Path) -> None:
    """Let a run (``optix-bus up`` with these arguments) die at a failpoint, all its processes at once."""
    done = subprocess.run(
        [sys.executable, "-m", "optix_bus.cli", "up", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OPTIX_BUS_FAILPOINT": place},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, f"{place} was not reached: {done.stdout}{done.stderr}"


@contextmanager
def started(topology: Path, run: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A run in the background of the test; ended at the end whatever happens."""
    with _in_background(str(topology), "--run-dir", str(run), *arguments) as process:
        yield process


@contextmanager
def resumed(run: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that goes on in the background of the test; ended at the end whatever happens.

    Until all its nodes are ready it is the start that an interrupt ends, though the first of them already
    work, and before its name is in the record the journal may still be exchanged.
    """
    with _in_background("--resume", str(run)) as process:
        wait_until(run, lambda folder: _runs(folder.read(), process.pid))
        yield process


def _runs(record: RunRecord, supervisor: int) -> bool:
    return record.supervisor.pid == supervisor and record.state == "running"


@contextmanager
def _in_background(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "optix_bus.cli", "up", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            # Two different signals: two of the same kind can arrive as one.
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def wait_until(run: Path, condition: Any, seconds: float = 60.0) -> None:
    """Wait for something in the run's record or its directory."""
    deadline = time.monotonic() + seconds
    while True:
        folder = RunDirectory(run)
        if folder.record.exists() and condition(folder):
            return
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def collected_windows(folder: RunDirectory) -> int:
    return sum(1 for event in journal(folder.root) if event["type"] == "WindowCollected")


def journal(run: Path) -> list[dict[str, Any]]:
    """Every event: its node, type and decoded body."""
    import msgpack

    return [
        {"seq": r.seq, "node": r.node, "cause": r.cause, "type": r.type, "body": msgpack.unpackb(r.body)}
        for r in read_journal(run / "journal")
    ]


def streams(run: Path) -> dict[str, list[tuple[str, Any]]]:
    """What each node emitted, in its order; the supervisor's facts speak of processes and are left out."""
    found: dict[str, list[tuple[str, Any]]] = {}
    for event in journal(run):
        if event["node"] != "supervisor":
            found.setdefault(event["node"], []).append((event["type"], _comparable(event["body"])))
    return found


def _comparable(value: Any) -> Any:
    """NaN equals NaN here."""
    return json.loads(json.dumps(value, sort_keys=True)) if not _has_nan(value) else repr(value)


def _has_nan(value: Any) -> bool:
    return "nan" in repr(value)


def weights(run: Path) -> dict[str, str]:
    """SHA-256 of the weights of each snapshot, by id."""
    registry = CheckpointRegistry(run / "checkpoints", resume=True)
    return {snapshot.snapshot_id: registry.sha256(snapshot) for snapshot in registry.snapshots}


def leftovers(run: Path) -> list[str]:
    """Processes, sockets and shared memory that a run has left."""
    record = RunDirectory(run).read()
    left = [process.name for process in [record.supervisor, *record.processes] if process.alive()]
    left += [folder for folder in (record.sockets, record.shared_memory) if os.path.exists(folder)]
    return left
