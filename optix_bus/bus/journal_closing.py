"""The mark that an orderly stop leaves beside the segments: how far the journal went.

A segment that was cut short looks like one whose hub was killed. The mark tells them apart: it says how long
the last segment was when it got its ending, and the next hub removes it before it writes anything.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from optix_bus.bus.journal_sync import sync_data
from optix_bus.errors import JournalError

_NAME = "closed.json"


class ClosingMark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last segment, the last event, and the size of that segment with its ending, in bytes."""

    segment: int
    head: int
    bytes: int


def read_mark(directory: Path) -> ClosingMark | None:
    """The mark of a journal that was closed in order; None for one that was not.

    Raises:
        JournalError: it is damaged.
    """
    path = directory / _NAME
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        mark = msgspec.json.decode(stored, type=ClosingMark)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JournalError(f"{path} is damaged: {error}") from None
    if msgspec.json.encode(mark) != stored:
        raise JournalError(f"{path} is damaged: it is not as a hub writes it")
    return mark


def write_mark(directory: Path, mark: ClosingMark) -> None:
    """Leave the mark; the segment has its ending and is synced."""
    beside = directory / f"{_NAME}.beginning"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, msgspec.json.encode(mark))
        sync_data(descriptor)
    finally:
        os.close(descriptor)
    os.rename(beside, directory / _NAME)


def remove_mark(directory: Path) -> None:
    """Take the mark away for good: from now on the journal grows."""
    try:
        os.unlink(directory / _NAME)
    except FileNotFoundError:
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
