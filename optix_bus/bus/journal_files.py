"""How the segments of a journal are named and found."""

from __future__ import annotations

import os
from bisect import bisect_right
from pathlib import Path

import msgspec

from optix_bus.bus import mcap_format as mcap
from optix_bus.bus.ledger import NodeSummary
from optix_bus.errors import JournalError

STATE = "optix-bus/state"
HELLO = "optix-bus/hello"
#: What every segment begins with.
BEGINNING = mcap.MAGIC + mcap.header("optix-bus 1")


class SegmentState(msgspec.Struct):
    """The first metadata record of every segment: all that was known when it began."""

    first_seq: int
    stamp_ns: int
    run: str
    nodes: dict[str, NodeSummary]

    def record(self) -> bytes:
        """Its bytes in the journal."""
        return mcap.metadata(STATE, {"state": msgspec.json.encode(self).decode()})


def segment_path(directory: Path, first_seq: int) -> Path:
    """The segment whose first event is ``first_seq``."""
    return directory / f"{first_seq:020d}.mcap"


def segments(directory: Path) -> list[int]:
    """First sequence numbers of all segments, oldest first."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(int(name[:20]) for name in names if len(name) == 25 and name[20:] == ".mcap")


def segment_holding(directory: Path, seq: int) -> int | None:
    """The segment that holds, or would hold, an event; None while the journal is empty.

    Raises:
        JournalError: the event is older than the oldest segment.
    """
    found = segments(directory)
    if not found:
        return None
    place = bisect_right(found, seq)
    if place == 0:
        raise JournalError(
            f"event {seq} is asked for, but the journal in {directory} begins at {found[0]}: "
            "older segments were removed; start from a cut behind them"
        )
    return found[place - 1]
