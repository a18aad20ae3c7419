"""Recorded runs as they would be had their machine stopped at some event."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from optix_bus.bus.codec import Codec
from optix_bus.bus.journal_reader import read_journal
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import Ledger
from optix_bus.bus.record import Record, encode_record
from optix_bus.messages import VOCABULARY
from optix_bus.runtime.retirement import ANNOUNCING, references
from optix_bus.runtime.run_directory import RunDirectory
from tests.cli.run_folders import gone

_codec = Codec(VOCABULARY)


def died(root: Path, target: Path, at: int) -> RunDirectory:
    """A copy of a run whose journal ends with an event, and whose processes are gone. Beside it lie files as
    if every blob that it announces had been recorded."""
    shutil.copytree(root, target, ignore=shutil.ignore_patterns("journal", "report.json"))
    run = RunDirectory(target)
    record = run.read()
    record.state, record.supervisor, record.exit_code = "running", gone("supervisor"), None
    run.write(record)
    writer = JournalWriter(run.journal, Ledger(), run=record.run_id)
    for event in read_journal(root / "journal"):
        if event.seq <= at:
            append(writer, event)
            for name in blobs_of(event):
                path = run.blobs / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(name)
    writer.close(orderly=False)
    return run


def append(writer: JournalWriter, event: Record) -> None:
    """Put an event into a journal as it is."""
    entry = writer.encode(event.type, event.seq, event.stamp_ns, encode_record(event))
    assert writer.append([entry], [event.type], [event.stamp_ns]) == 1


def blobs_of(event: Record) -> list[str]:
    """Files of the blobs that an event announces, relative to the archive."""
    if event.type not in ANNOUNCING:
        return []
    return [f"{ref.name}.safetensors" for ref in references(_codec.decode(event.type, event.body))]


def first(run: RunDirectory, event_type: str, **fields: object) -> int:
    """Number of the first event of a type with these values in its body."""
    return next(
        event.seq
        for event in read_journal(run.journal)
        if event.type == event_type and fields.items() <= msgspec.msgpack.decode(event.body).items()
    )


def stored(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, by path; without the lock that a writer of the journal leaves."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }
