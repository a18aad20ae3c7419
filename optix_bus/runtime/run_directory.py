"""The folder of a run: what is in it, and who runs in it. What it has elsewhere is in `outside`.

RUN/topology.yaml     the resolved topology
RUN/run.json          who runs: written anew at every change, read by `ps`, `down`, `logs`
RUN/journal/          every event, in order (MCAP)
RUN/checkpoints/      the best policies
RUN/logs/NODE.log     what each process said
RUN/failures/NODE.json why a node died
RUN/cuts/             what every node knew at some event
RUN/blobs/            arrays that were recorded, or are needed to go on
RUN/shared/           living arrays, where there is no shared memory
RUN/report.json       how it ended
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psutil

from optix_bus.errors import ConfigurationError


@dataclass
class ProcessRecord:
    """One process of a run. ``created`` tells it from a later process with the same pid; ``reason`` says why
    its last life ended."""

    name: str
    pid: int
    created: float
    state: str = "starting"
    restarts: int = 0
    incarnation: int = 0
    nodes: list[str] = field(default_factory=list)
    reason: str = ""

    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return process_alive(self.pid, self.created)


@dataclass
class RunRecord:
    """The state of a run as `run.json` holds it."""

    run_id: str
    name: str
    state: str
    supervisor: ProcessRecord
    seed: int
    sockets: str
    shared_memory: str
    topology: str
    processes: list[ProcessRecord] = field(default_factory=list)
    exit_code: int | None = None
    reason: str = ""
    started: float = 0.0


class RunDirectory:
    """Paths of one run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.topology = root / "topology.yaml"
        self.record = root / "run.json"
        self.journal = root / "journal"
        self.checkpoints = root / "checkpoints"
        self.logs = root / "logs"
        self.failures = root / "failures"
        self.blobs = root / "blobs"
        self.overflow = root / "shared"
        self.report = root / "report.json"

    @classmethod
    def create(cls, root: Path) -> RunDirectory:
        """A new folder; one that already holds a run is refused, so that runs are never mixed."""
        run = cls(root)
        if run.record.exists() or (root.exists() and not root.is_dir()):
            raise ConfigurationError(
                f"{root} already holds a run: choose another --run-dir, or remove that one first"
            )
        try:
            for folder in (root, run.journal, run.logs, run.failures):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"cannot make the run directory {root}: {error.strerror}") from error
        return run

    def write(self, record: RunRecord) -> None:
        """Write the record beside and rename: readers never see half of it."""
        beside = self.record.with_suffix(".new")
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(asdict(record)), indent=2))
        beside.replace(self.record)

    def read(self) -> RunRecord:
        """The record of this run.

        Raises:
            ConfigurationError: there is no run here, or its record is damaged.
        """
        try:
            return msgspec.json.decode(self.record.read_bytes(), type=RunRecord)
        except FileNotFoundError:
            raise ConfigurationError(f"{self.root} holds no run (no run.json in it)") from None
        except (msgspec.DecodeError, OSError) as error:
            raise ConfigurationError(f"{self.record} is damaged: {error}") from error

    def failure(self, name: str) -> dict[str, Any]:
        """Why a node died, as its own process wrote it; empty where it could not."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            found: dict[str, Any] = msgspec.json.decode((self.failures / f"{name}.json").read_bytes())
            return found
        return {}


def process_alive(pid: int, created: float) -> bool:
    """Whether the process with this pid and creation time runs (a zombie does not)."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - created) < 2.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def creation_time(pid: int) -> float:
    """When a process was started, seconds since the epoch; 0 where it is already gone."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def end_processes(record: RunRecord, seconds: float = 5.0) -> list[str]:
    """End what is left of a run whose supervisor is gone; returns the names of what had to be ended."""
    left = [process for process in record.processes if process.alive()]
    for process in left:
        with contextlib.suppress(psutil.Error):
            psutil.Process(process.pid).terminate()
    deadline = time.monotonic() + seconds
    while any(process.alive() for process in left) and time.monotonic() < deadline:
        time.sleep(0.02)
    for process in left:
        if process.alive():
            with contextlib.suppress(psutil.Error):
                psutil.Process(process.pid).kill()
    return [process.name for process in left]


def default_run_directory(name: str) -> Path:
    """``runs/NAME-DATE``, with a number behind it where two start in one second."""
    base = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder, count = base, 2
    while folder.exists():
        folder, count = Path(f"{base}-{count}"), count + 1
    return folder
