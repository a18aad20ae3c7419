"""Recorded runs for tests: made in this process, copied, and spoilt one event at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from optix_bus.bus.journal_reader import read_journal
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import Ledger
from optix_bus.bus.record import Record, encode_record
from optix_bus.runtime.inline_run import run_inline
from optix_bus.runtime.progress import QuietView
from optix_bus.runtime.replay_run import RecordedRun
from optix_bus.runtime.run_directory import RunDirectory
from optix_bus.runtime.supervisor import Outcome
from optix_bus.runtime.topology import load_topology

ROOT = Path(__file__).parents[2]
TOPOLOGIES = ROOT / "topologies"
DEMO = TOPOLOGIES / "cartpole_ppo.yaml"
#: Windows so small that a run takes a second.
SMALL = (
    "nodes.scheduler.max_episodes=5",
    "nodes.scheduler.cut_windows=2",
    "nodes.pipeline.environments=2",
    "nodes.pipeline.window_steps=32",
)
SMALL_VALIDATION = ("nodes.validation.episodes=3", "nodes.validation.environments=3")


def record(folder: Path, topology: Path = DEMO, *overrides: str) -> RecordedRun:
    """A small run of a topology, inline, in a new folder."""
    outcome = attempt(folder, topology, *overrides)
    assert outcome.exit_code == 0, outcome.reason
    return RecordedRun(folder)


def attempt(folder: Path, topology: Path = DEMO, *overrides: str) -> Outcome:
    """As `record`, but the run may fail."""
    loaded = load_topology(topology, [*SMALL, *overrides], build_environment=False)
    return run_inline(loaded, RunDirectory.create(folder), QuietView())


def with_validation(*overrides: str) -> tuple[str, ...]:
    """Overrides for a topology that has a validation pipeline."""
    return (*SMALL_VALIDATION, *overrides)


def records(run: RecordedRun, event_type: str = "", **fields: Any) -> list[Record]:
    """The events of a type, with these values in their bodies."""
    return [
        found
        for found in run.records()
        if found.type == (event_type or found.type) and fields.items() <= body(found).items()
    ]


def body(found: Record) -> dict[str, Any]:
    """The body of a record as plain values."""
    decoded: dict[str, Any] = msgspec.msgpack.decode(found.body)
    return decoded


def rewritten(run: RecordedRun, target: Path, change: Callable[[Record], Record | None]) -> RecordedRun:
    """A copy of a run whose journal went through ``change``, with checksums that are right; None drops an
    event and leaves its number out of the journal's sequence for the next one."""
    source = run.directory.root
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("journal"))
    writer = JournalWriter(target / "journal", Ledger(), run=run.plan.run_id)
    try:
        for found in read_journal(source / "journal"):
            changed = change(found)
            if changed is not None:
                data = encode_record(changed)
                entry = writer.encode(changed.type, changed.seq, changed.stamp_ns, data)
                assert writer.append([entry], [changed.type], [changed.stamp_ns]) == 1
    finally:
        writer.close()
    return RecordedRun(target)


def altered(run: RecordedRun, target: Path, seq: int, **fields: Any) -> RecordedRun:
    """A copy of a run with other values in the body of one event."""

    def change(found: Record) -> Record:
        if found.seq != seq:
            return found
        before = body(found)
        assert fields.keys() <= before.keys()
        changed = msgspec.msgpack.encode({**before, **fields})
        assert changed != found.body
        return msgspec.structs.replace(found, body=changed)

    return rewritten(run, target, change)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything in a folder: modification time and content by path."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
