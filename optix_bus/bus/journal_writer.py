"""The hub's end of the journal: whole records, one write for a batch, never a byte taken back.

A record that was written whole may have been read already, so it stays, whatever happens; only a torn one is
cut off. The same bytes are written again until they fit.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from optix_bus.bus import mcap_format as mcap
from optix_bus.bus.journal_closing import ClosingMark, read_mark, remove_mark, write_mark
from optix_bus.bus.journal_files import BEGINNING, HELLO, STATE, SegmentState, segment_path, segments
from optix_bus.bus.journal_recovery import Segment, ending_of, read_segment, write_ending
from optix_bus.bus.journal_sync import Syncer, sync_data
from optix_bus.bus.ledger import Ledger
from optix_bus.errors import JournalError


class JournalWriter:
    """Opens a journal, or goes on where the last hub stopped.

    A new journal begins with event ``first_seq``.

    Attributes:
        head: sequence number of the last event in the journal.
        stamp_ns: its stamp.
        torn_bytes: what the last hub left half written; already cut off.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        ledger: Ledger,
        *,
        run: str = "",
        segment_bytes: int = 64 * 1024 * 1024,
        sync_seconds: float = 1.0,
        first_seq: int = 1,
    ) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.directory)
        self._ledger = ledger
        self._segment_bytes = segment_bytes
        self._closed = False
        self.run = run
        self.torn_bytes = 0
        found = segments(self.directory)
        try:
            if found:
                self._resume(found)
            else:
                self._segment = Segment(first_seq)
                remove_mark(self.directory)
                self._descriptor = self._begin(self._segment, 0)
        except BaseException:
            os.close(self._lock)
            raise
        self._syncer = Syncer(self._descriptor, sync_seconds, self._segment.head)

    def _resume(self, found: list[int]) -> None:
        if len(found) > 1:
            before = segment_path(self.directory, found[-2])
            if not _has_ending(before):
                write_ending(before, read_segment(before, found[-2], Ledger()))
        path = segment_path(self.directory, found[-1])
        self._segment = read_segment(path, found[-1], self._ledger)
        self.torn_bytes = self._segment.torn_bytes
        self._compare_with_mark()
        if self.run and self._segment.run and self.run != self._segment.run:
            raise JournalError(
                f"the journal in {self.directory} belongs to run {self._segment.run!r}, this is run "
                f"{self.run!r}: give each run a directory of its own"
            )
        self.run = self.run or self._segment.run
        remove_mark(self.directory)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.ftruncate(self._descriptor, self._segment.end)
        os.lseek(self._descriptor, self._segment.end, os.SEEK_SET)

    def _compare_with_mark(self) -> None:
        mark = None
        with contextlib.suppress(JournalError):  # a mark that cannot be read says nothing
            mark = read_mark(self.directory)
        if mark is not None and self._segment.head < mark.head:
            raise JournalError(
                f"the journal in {self.directory} was closed behind event {mark.head}, but ends behind "
                f"{self._segment.head}: it was cut short; restore it from a copy, or let `optix-bus log "
                "repair` say what is lost and keep the rest"
            )

    def _begin(self, segment: Segment, stamp_ns: int) -> int:
        """Create a segment with its header and state; it appears under its name only when they are in it."""
        path = segment_path(self.directory, segment.first_seq)
        state = SegmentState(segment.first_seq, stamp_ns, self.run, self._ledger.dump())
        head, entry = BEGINNING, state.record()
        beside = path.with_suffix(".beginning")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if os.write(descriptor, head + entry) != len(head) + len(entry):
                raise OSError(28, "no space left for the beginning of a segment")
            sync_data(descriptor)
            os.rename(beside, path)
        except OSError:
            os.close(descriptor)
            raise
        segment.metadata.append(mcap.MetadataEntry(len(head), len(entry), STATE))
        segment.end = len(head) + len(entry)
        segment.head = segment.first_seq - 1
        segment.stamp_ns = stamp_ns
        return descriptor

    @property
    def head(self) -> int:
        """Sequence number of the last event in the journal; 0 while it is empty."""
        return self._segment.head

    @property
    def stamp_ns(self) -> int:
        """Stamp of the last event."""
        return self._segment.stamp_ns

    @property
    def position(self) -> tuple[int, int]:
        """(first sequence number of the segment, offset) just behind the head."""
        return self._segment.first_seq, self._segment.end

    @property
    def synced(self) -> int:
        """Sequence number of the last event that is known to survive a power cut."""
        return self._syncer.synced

    @property
    def topics(self) -> int:
        """Number of event types in this segment."""
        return len(self._segment.channels)

    def encode(self, topic: str, seq: int, stamp_ns: int, data: bytes) -> bytes:
        """The bytes to append for one event; where its topic is new, the channel comes before it."""
        number = self._segment.channels.get(topic)
        if number is not None:
            return mcap.message(number, seq, stamp_ns, data)
        number = self._segment.channels[topic] = len(self._segment.channels) + 1
        return mcap.channel(number, topic) + mcap.message(number, seq, stamp_ns, data)

    def append(self, entries: Sequence[bytes], topics: Sequence[str], stamps: Sequence[int]) -> int:
        """Append events in order; returns how many are in the file.

        Fewer than given means that the disk is full or failing: the rest is to be given again, unchanged.
        Nothing torn is left behind.
        """
        written = self._write(b"".join(entries) if len(entries) > 1 else entries[0])
        segment = self._segment
        count = 0
        for entry, topic, stamp_ns in zip(entries, topics, stamps, strict=True):
            if written < len(entry):
                break
            written -= len(entry)
            number = segment.channels[topic]
            segment.counts[number] = segment.counts.get(number, 0) + 1
            segment.end += len(entry)
            segment.stamp_ns = stamp_ns
            count += 1
        if count:
            segment.first_ns = segment.first_ns or stamps[0]
            segment.head += count
            self._syncer.dirty(segment.head)
        if written:
            self._cut()
        return count

    def append_hello(self, node: str, incarnation: int, session: str) -> bool:
        """Write down who speaks for a node from now on; False where the disk would not take it."""
        entry = mcap.metadata(HELLO, {"node": node, "incarnation": str(incarnation), "session": session})
        written = self._write(entry)
        if written != len(entry):
            self._cut()
            return False
        self._segment.metadata.append(mcap.MetadataEntry(self._segment.end, len(entry), HELLO))
        self._segment.end += len(entry)
        self._syncer.dirty(self._segment.head)
        return True

    #: Why the last write was short, in the words of the system; empty when it was not.
    failure = ""

    def _write(self, data: bytes) -> int:
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            self.failure = f"{os.strerror(error.errno or 0)} (errno {error.errno})"
            return 0
        self.failure = "" if written == len(data) else "the disk took only a part of the last write"
        return written

    def _cut(self) -> None:
        os.ftruncate(self._descriptor, self._segment.end)
        os.lseek(self._descriptor, self._segment.end, os.SEEK_SET)

    @property
    def is_full(self) -> bool:
        """Whether the segment has reached its size, so that `rotate` should be called."""
        return self._segment.end >= self._segment_bytes

    def rotate(self) -> bool:
        """Begin the next segment and close this one; False, and nothing changed, where the disk is full."""
        fresh = Segment(self._segment.head + 1)
        try:
            descriptor = self._begin(fresh, self._segment.stamp_ns)
        except OSError as error:
            self.failure = f"{os.strerror(error.errno or 0)} (errno {error.errno})"
            return False
        ending = ending_of(self._segment)
        if self._write(ending) != len(ending):
            self._cut()  # without its ending it is closed by the next start
        self._syncer.follow(descriptor, close=self._descriptor)
        self._segment, self._descriptor = fresh, descriptor
        return True

    def sync(self) -> None:
        """Wait until everything appended so far survives a power cut.

        Raises:
            JournalError: the disk says it has lost something; nobody may go on as if it had not.
        """
        self._syncer.now()

    def check(self) -> None:
        """Raise what the background sync met, if it met something.

        Raises:
            JournalError: as `sync`.
        """
        self._syncer.check()

    def close(self, *, orderly: bool = True) -> None:
        """Give the segment its ending and sync it; not orderly leaves it as SIGKILL would."""
        if self._closed:
            return
        self._closed = True
        try:
            if orderly:
                ending = ending_of(self._segment)
                written = self._write(ending)
                if written != len(ending):
                    self._cut()
                self._syncer.now()
                if written == len(ending):
                    self._leave_mark(self._segment.end + written)
        finally:
            self._syncer.close()
            os.close(self._descriptor)
            os.close(self._lock)

    def _leave_mark(self, size: int) -> None:
        with contextlib.suppress(OSError):  # no space: the journal itself is whole
            write_mark(self.directory, ClosingMark(self._segment.first_seq, self._segment.head, size))


def _lock(directory: Path) -> int:
    """Two hubs on one journal would interleave their numbers; the lock dies with its process."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise JournalError(
            f"another hub writes the journal in {directory}: stop it, or give this run its own directory"
        ) from None
    return descriptor


def _has_ending(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-len(mcap.MAGIC), os.SEEK_END)
        return file.read() == mcap.MAGIC and path.stat().st_size > 2 * len(mcap.MAGIC)
