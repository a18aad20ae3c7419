"""A journal in the formats of other tools: a JSON object a line, or a Parquet table. Memory stays bounded.

Bodies become JSON texts, in which NaN and the infinities are null and bytes are base64, because JSON has
neither. What cannot be said in JSON at all is given as ``{"msgpack": base64}``.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from optix_bus.bus.journal_files import segment_path, segments
from optix_bus.bus.journal_scan import Broken, SegmentScan
from optix_bus.bus.record import Stored
from optix_bus.errors import JournalError, MissingExtra

_json = msgspec.json.Encoder().encode
_body = msgspec.msgpack.Decoder().decode
#: Rows that are handed to Parquet at once: its groups should be large, and memory small.
_ROWS = 20_000
_LINES = 1000


@dataclass(slots=True)
class Selection:
    """Which events; and what was met while they were read.

    Attributes:
        types: only these, where there are any.
        nodes: only of these, where there are any.
        first: only from this sequence number on.
        last: only up to this one; 0 for the end.
        taken: events that were given out.
        damages: damaged places and holes; everything that can be read is given out all the same.
    """

    types: Collection[str] = ()
    nodes: Collection[str] = ()
    first: int = 1
    last: int = 0
    taken: int = 0
    damages: int = 0

    def read(self, directory: Path) -> Iterator[Stored]:
        """The events of a journal, in the order of its files.

        Raises:
            JournalError: there is no journal.
        """
        found = segments(directory)
        if not found:
            raise JournalError(f"{directory} holds no journal: no file in it is named like a segment")
        last = self.last or 2**63
        before, broken = 0, False
        for place, segment in enumerate(found):
            if segment > last or (place + 1 < len(found) and found[place + 1] <= self.first):
                continue
            with SegmentScan(segment_path(directory, segment)) as scan:
                for _, _, event in scan:
                    if isinstance(event, Stored):
                        self.damages += bool(before and event.seq != before + 1 and not broken)
                        before, broken = event.seq, False
                        if event.seq > last:
                            break
                        if event.seq >= self.first and self._wants(event):
                            self.taken += 1
                            yield event
                    elif isinstance(event, Broken):
                        self.damages += 1
                        broken = True

    def _wants(self, event: Stored) -> bool:
        return (not self.types or event.type in self.types) and (not self.nodes or event.node in self.nodes)


def body_as_json(body: Any) -> bytes:
    """A body as JSON text."""
    try:
        return _json(_body(body))
    except (TypeError, ValueError, RecursionError):  # msgspec's own errors are ValueErrors
        return _json({"msgpack": base64.b64encode(bytes(body)).decode()})


def export_json(directory: Path, output: BinaryIO, selection: Selection) -> None:
    """One JSON object a line: all fields of the header, and the body.

    Raises:
        JournalError: there is no journal.
    """
    lines = []
    for event in selection.read(directory):
        # The fields are names and integers: only the body needs the encoder for its values.
        lines.append(
            b'{"seq":%d,"stamp_ns":%d,"node":%b,"incarnation":%d,"cause":%d,"index":%d,"type":%b,"body":%b}\n'
            % (
                event.seq,
                event.stamp_ns,
                _json(event.node),
                event.incarnation,
                event.cause,
                event.index,
                _json(event.type),
                body_as_json(event.body),
            )
        )
        if len(lines) == _LINES:
            output.write(b"".join(lines))
            lines.clear()
    output.write(b"".join(lines))


def export_parquet(directory: Path, output: Path, selection: Selection) -> None:
    """A table with the fields of the header and the body as JSON text. The file appears when it is whole.

    Raises:
        MissingExtra: pyarrow is not installed.
        JournalError: there is no journal, or the table cannot be written.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("pyarrow", "parquet", "for Parquet tables") from None
    numbers = [(name, pa.int64()) for name in ("seq", "stamp_ns", "incarnation", "cause", "index")]
    texts = [(name, pa.string()) for name in ("node", "type", "body")]
    columns = dict([*numbers, *texts])
    order = ("seq", "stamp_ns", "node", "incarnation", "cause", "index", "type", "body")
    schema = pa.schema([(name, columns[name]) for name in order])
    beside = output.with_name(f"{output.name}.{os.getpid()}")
    try:
        with pq.ParquetWriter(beside, schema, compression="zstd") as table:
            for rows in _batches(selection.read(directory)):
                table.write_table(pa.table(dict(zip(order, zip(*rows, strict=True), strict=True)), schema))
        beside.replace(output)
    except (OSError, pa.ArrowException) as error:
        raise JournalError(f"{output} cannot be written: {error}") from None
    finally:
        beside.unlink(missing_ok=True)


def _batches(events: Iterable[Stored]) -> Iterator[list[tuple[Any, ...]]]:
    rows: list[tuple[Any, ...]] = []
    for event in events:
        rows.append(
            (
                event.seq,
                event.stamp_ns,
                event.node,
                event.incarnation,
                event.cause,
                event.index,
                event.type,
                body_as_json(event.body).decode(),
            )
        )
        if len(rows) == _ROWS:
            yield rows
            rows = []
    if rows:
        yield rows
