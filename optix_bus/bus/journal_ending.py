"""What stands behind the data of a segment that was closed in order, and whether it is whole.

Nothing of ours reads the summary: it is there for tools that seek. It carries a checksum of its own, so that
it can be judged without knowing what the segment held.
"""

from __future__ import annotations

import os
import zlib

from optix_bus.bus import mcap_format as mcap

#: The record between data and summary; it is always the same.
DATA_END = mcap.PREFIX_BYTES + 4
_DATA_END_RECORD = mcap.ending(0, {}, {}, (), 0, 0)[:DATA_END]
#: Footer record and magic.
_FOOTER = mcap.PREFIX_BYTES + 20 + len(mcap.MAGIC)
#: The summary names every event type and every metadata record once: a million records are 60 MB.
_MAX_BYTES = 256 * 1024 * 1024


def judge_ending(descriptor: int, position: int, size: int) -> str | None:
    """What is wrong with the ending at this offset: nothing (an empty text), words, or None for no ending.

    Args:
        descriptor: the open segment.
        position: where the data ends, as far as is known.
        size: of the file.
    """
    front = os.pread(descriptor, DATA_END, position)
    begins = front == _DATA_END_RECORD
    footer = os.pread(descriptor, _FOOTER, max(size - _FOOTER, position))
    has_end = footer.endswith(mcap.MAGIC)
    points_here = has_end and footer[9:17] == (position + DATA_END).to_bytes(8, "little")
    if not begins and not points_here:
        cut = bool(front) and len(front) < DATA_END and _DATA_END_RECORD.startswith(front)
        return "it is cut short" if cut else None
    checked = points_here and footer[0] == mcap.FOOTER and _is_checked(descriptor, position + DATA_END, size)
    if begins and checked:
        return ""
    if begins:
        return "its checksum is wrong" if has_end else "it is cut short or overwritten"
    return "the record that ends the data is damaged" if checked else None


def _is_checked(descriptor: int, start: int, size: int) -> bool:
    """Whether summary and footer are those that their checksum was made of."""
    if size - start > _MAX_BYTES:
        return False
    content = os.pread(descriptor, size - start, start)
    crc = len(content) - len(mcap.MAGIC) - 4
    return zlib.crc32(content[:crc]) == int.from_bytes(content[crc : crc + 4], "little")
