"""What can be read of a journal, as rows of events without a gap, wherever in the files they stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from optix_bus.bus.journal_files import HELLO, STATE, SegmentState, segment_path, segments
from optix_bus.bus.journal_scan import Broken, SegmentScan
from optix_bus.bus.journal_whole import Channel, Metadata
from optix_bus.bus.record import Stored


@dataclass(slots=True)
class Piece:
    """Events ``first`` to ``last`` of a segment stand one behind the other between two bytes. ``last`` is one
    less than ``first`` where only other records stand there."""

    segment: int
    start: int
    end: int
    first: int
    last: int

    @property
    def order(self) -> tuple[int, int, int]:
        """By events, and where two have the same, by file."""
        return self.first, self.segment, self.start


@dataclass(slots=True)
class Survey:
    """What is in a journal: its pieces in the order of their events, and what its metadata says.

    Attributes:
        first: the event that it should begin with.
        run: the run that it belongs to, where that can be read.
        has_hub: a node has said HELLO.
        states: what was known at the beginning of each segment, where that can be read.
    """

    first: int
    pieces: list[Piece] = field(default_factory=list)
    run: str = ""
    has_hub: bool = False
    states: dict[int, SegmentState] = field(default_factory=dict)


def survey(directory: Path) -> Survey:
    """Look through all segments."""
    found = segments(directory)
    result = Survey(found[0])
    for segment in found:
        with SegmentScan(segment_path(directory, segment)) as scan:
            _look_through(scan, segment, result)
    result.pieces.sort(key=lambda piece: piece.order)
    return result


def _look_through(scan: SegmentScan, segment: int, result: Survey) -> None:
    piece: Piece | None = None
    for start, end, content in scan:
        if isinstance(content, Stored):
            seq = content.seq
            if piece is not None and piece.last < piece.first:
                piece.first, piece.last = seq, seq - 1  # until now it had no events
            if piece is None or seq != piece.last + 1:
                piece = Piece(segment, start, end, seq, seq - 1)
                result.pieces.append(piece)
            piece.last, piece.end = seq, end
        elif isinstance(content, Metadata):
            _note(content, segment, result)
            if piece is None:
                piece = Piece(segment, start, end, segment, segment - 1)
                result.pieces.append(piece)
            piece.end = end


def _note(content: Metadata, segment: int, result: Survey) -> None:
    if content.name == HELLO:
        result.has_hub = True
    elif content.name == STATE and segment not in result.states:
        try:
            state = msgspec.json.decode(content.pairs["state"], type=SegmentState)
        except (KeyError, msgspec.DecodeError):
            return
        result.states[segment] = state
        result.run = result.run or state.run
        result.has_hub = result.has_hub or any(node.session for node in state.nodes.values())


def read_piece(directory: Path, piece: Piece) -> Iterator[tuple[int, int, Stored | Metadata, bytes]]:
    """The records of a piece: (offset, where it ends, what it is, its stored form where it is an event)."""
    with SegmentScan(segment_path(directory, piece.segment), piece.start) as scan:
        for start, end, content in scan:
            if start >= piece.end:
                return
            if isinstance(content, Stored):
                yield start, end, content, scan.data(start, end)
            elif not isinstance(content, Channel | Broken):
                yield start, end, content, b""
