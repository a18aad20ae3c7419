"""The few MCAP records that the journal is made of, as bytes (https://mcap.dev/spec).

Written by hand because a record must become one write: the stock writer buffers chunks, and what is buffered
when a process is killed is lost. The stock reader is what the tests open the result with.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, CHANNEL, MESSAGE = 0x01, 0x02, 0x04, 0x05
STATISTICS, METADATA, METADATA_INDEX, SUMMARY_OFFSET, DATA_END = 0x0B, 0x0C, 0x0D, 0x0E, 0x0F

_PREFIX = struct.Struct("<BQ")
#: opcode, length, channel, sequence, log time, publish time
MESSAGE_PREFIX = struct.Struct("<BQHIQQ")
#: The first four of these.
MESSAGE_HEAD = struct.Struct("<BQHI")
_MESSAGE_FIELDS = 22
PREFIX_BYTES = _PREFIX.size
#: The last key of our metadata records, and the length of its value.
CHECKSUM, _DIGITS = "crc32", 8
#: Nothing in a journal is near this size: a larger record is damage.
MAX_RECORD_BYTES = 16 * 1024 * 1024


class Raw(NamedTuple):
    """One record: its opcode, and where its content lies in the buffer."""

    opcode: int
    start: int
    end: int


class MetadataEntry(NamedTuple):
    """Where a metadata record lies in the file."""

    offset: int
    length: int
    name: str


def records(buffer: bytes, start: int = 0) -> Iterator[Raw]:
    """The whole records in a buffer, as far as they go.

    Raises:
        ValueError: bytes that cannot be a record (an impossible opcode or length).
    """
    size = len(buffer)
    while start + PREFIX_BYTES <= size:
        opcode, length = _PREFIX.unpack_from(buffer, start)
        if opcode == 0 or length > MAX_RECORD_BYTES:
            raise ValueError(f"no record at byte {start}: opcode {opcode}, length {length}")
        end = start + PREFIX_BYTES + length
        if end > size:
            return
        yield Raw(opcode, start + PREFIX_BYTES, end)
        start = end


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def _strings(pairs: Mapping[str, str]) -> bytes:
    data = b"".join(_string(key) + _string(value) for key, value in pairs.items())
    return struct.pack("<I", len(data)) + data


def _record(opcode: int, content: bytes) -> bytes:
    return _PREFIX.pack(opcode, len(content)) + content


def header(library: str) -> bytes:
    """The first record of a file."""
    return _record(HEADER, _string("optix-bus") + _string(library))


def channel(number: int, topic: str) -> bytes:
    """A topic; its messages are msgpack and have no schema."""
    no_schema = 0
    fields = struct.pack("<HH", number, no_schema) + _string(topic) + _string("msgpack") + _strings({})
    return _record(CHANNEL, fields)


def message(number: int, seq: int, stamp_ns: int, data: bytes) -> bytes:
    """One message on a channel."""
    return (
        MESSAGE_PREFIX.pack(
            MESSAGE, _MESSAGE_FIELDS + len(data), number, seq & 0xFFFFFFFF, stamp_ns, stamp_ns
        )
        + data
    )


def metadata(name: str, pairs: Mapping[str, str]) -> bytes:
    """Named strings; the last one is the CRC-32 of all content before it, as eight hexadecimal digits."""
    front = (_string(name) + _strings({**pairs, CHECKSUM: "0" * _DIGITS}))[:-_DIGITS]
    return _record(METADATA, front + b"%08x" % zlib.crc32(front))


def parse_channel(buffer: bytes, raw: Raw) -> tuple[int, str]:
    """(number, topic) of a channel record.

    Raises:
        ValueError: it is none.
    """
    content = buffer[raw.start : raw.end]
    topic, _ = _parse_string(content, 4)
    return int.from_bytes(content[:2], "little"), topic


def parse_metadata(buffer: bytes, raw: Raw) -> tuple[str, dict[str, str]]:
    """(name, strings) of a metadata record; its checksum is compared, where it has one, and left out.

    Raises:
        ValueError: the content is no such record, or not what was written.
    """
    content = buffer[raw.start : raw.end]
    name, position = _parse_string(content, 0)
    size = int.from_bytes(content[position : position + 4], "little")
    position += 4
    if position + size != len(content):
        raise ValueError(f"metadata {name!r} says that it has {size} bytes")
    texts: list[str] = []
    while position < len(content):
        text, position = _parse_string(content, position)
        texts.append(text)
    pairs = dict(zip(texts[::2], texts[1::2], strict=True))
    checksum = pairs.pop(CHECKSUM, None)
    if checksum is not None and checksum.encode() != b"%08x" % zlib.crc32(content[:-_DIGITS]):
        raise ValueError(f"the checksum of metadata {name!r} is wrong: a byte has changed")
    return name, pairs


def _parse_string(content: bytes, position: int) -> tuple[str, int]:
    """(text, where it ends)."""
    start = position + 4
    end = start + int.from_bytes(content[position:start], "little")
    if end > len(content) or start > len(content):
        raise ValueError(f"a string that ends at byte {end} of {len(content)}")
    return content[start:end].decode(), end


def parse_message(buffer: bytes, raw: Raw) -> tuple[int, int, int, int]:
    """(number of its channel, sequence, log time, publish time) of a message; times in nanoseconds.

    Raises:
        ValueError: it is none.
    """
    if raw.end - raw.start < _MESSAGE_FIELDS:
        raise ValueError(f"a message of {raw.end - raw.start} bytes")
    _, _, number, sequence, log_ns, publish_ns = MESSAGE_PREFIX.unpack_from(buffer, raw.start - PREFIX_BYTES)
    return number, sequence, log_ns, publish_ns


def message_data_start(raw: Raw) -> int:
    """Where the data of a message record begins."""
    return raw.start + _MESSAGE_FIELDS


def ending(
    data_end: int,
    channels: Mapping[str, int],
    counts: Mapping[int, int],
    metadata_entries: Iterable[MetadataEntry],
    first_ns: int,
    last_ns: int,
) -> bytes:
    """Everything behind the data section: DataEnd, summary, footer, magic.

    ``data_end`` is the offset at which these bytes will be written. With them the stock reader can seek.
    """
    entries = list(metadata_entries)
    closing = _record(DATA_END, struct.pack("<I", 0))
    summary_start = data_end + len(closing)
    groups = [
        (CHANNEL, b"".join(channel(number, topic) for topic, number in channels.items())),
        (
            STATISTICS,
            _record(
                STATISTICS,
                struct.pack(
                    "<QHIIIIQQI",
                    sum(counts.values()),
                    0,
                    len(channels),
                    0,
                    len(entries),
                    0,
                    first_ns,
                    last_ns,
                    10 * len(counts),
                )
                + b"".join(struct.pack("<HQ", number, count) for number, count in counts.items()),
            ),
        ),
        (
            METADATA_INDEX,
            b"".join(
                _record(METADATA_INDEX, struct.pack("<QQ", entry.offset, entry.length) + _string(entry.name))
                for entry in entries
            ),
        ),
    ]
    summary = b""
    offsets = b""
    for opcode, group in groups:
        if group:
            start = summary_start + len(summary)
            offsets += _record(SUMMARY_OFFSET, struct.pack("<BQQ", opcode, start, len(group)))
            summary += group
    offset_start = summary_start + len(summary)
    footer_prefix = _PREFIX.pack(FOOTER, 20) + struct.pack("<QQ", summary_start, offset_start)
    checksum = zlib.crc32(summary + offsets + footer_prefix)
    return closing + summary + offsets + footer_prefix + struct.pack("<I", checksum) + MAGIC
