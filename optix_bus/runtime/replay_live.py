"""A recorded run, published again on a hub of its own for whoever subscribes: dashboards, recorders, nodes.

The events are those of the run, in their order, from nodes of their names. An event leaves when the one that
caused it has come back, so that causes point to the right events whatever a subscriber sends in between; if
nobody does and no types are left out, all numbers are those of the run.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import tempfile
import threading
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from optix_bus.bus.clock import Clock, SystemClock
from optix_bus.bus.hub import Hub, HubSettings
from optix_bus.bus.journal_files import segment_path, segments
from optix_bus.bus.journal_reader import JournalCursor
from optix_bus.bus.link import Link
from optix_bus.bus.record import Record
from optix_bus.errors import BusError, ConfigurationError
from optix_bus.runtime.outside import OutsideFolder, private_directory
from optix_bus.runtime.replay_run import RecordedRun

#: Events under way at once: below what the sockets queue, so that none has to be sent again.
_AT_ONCE = 500
_SLICE_SECONDS = 0.05
_PATIENCE_SECONDS = 30.0
#: What `--loop` leaves on disk for subscribers that are behind, beside the pass under way.
_SEGMENT_BYTES = 16 * 1024 * 1024


@dataclass
class Published:
    """What was published, and whether it is in the new journal as it was in the old one.

    Attributes:
        events: how many were published, all passes together.
        passes: complete ones.
        same_numbers: whether every event got the sequence number that it has in the run.
        problem: the first event that did not arrive as recorded; empty where all did.
    """

    events: int = 0
    passes: int = 0
    seconds: float = 0.0
    same_numbers: bool = True
    problem: str = ""
    left_out: int = 0


class LiveReplay:
    """A hub, its journal and the one link that speaks for all nodes of a run. Close it.

    The hub turns in a thread of this process, so that nothing is left of it whatever happens to the process.

    Args:
        run: what was recorded.
        types: publish only these event types; all without.
        rate: how many times faster than the run; 0 as fast as possible.
        first, last: which events of the run.
        clock: for the pace.
    """

    def __init__(
        self,
        run: RecordedRun,
        *,
        types: Collection[str] = (),
        rate: float = 1.0,
        first: int = 1,
        last: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        if rate < 0:
            raise ConfigurationError(f"a rate of {rate:g} was asked for, expected 0 or more")
        self._run = run
        self._types = frozenset(types)
        self._rate = rate
        self._range = (first, last)
        self._clock = clock if clock is not None else SystemClock()
        self._stopping = False
        names = self._look_through()
        self._ended = threading.Event()
        self._turning = threading.Thread(target=self._turn_hub, name="hub", daemon=True)
        self._broken: Exception | None = None
        self._outside = contextlib.ExitStack()
        try:
            sockets = private_directory()
            self._outside.callback(sockets.remove)
            self.sockets = sockets.path
            folder = OutsideFolder(Path(tempfile.gettempdir()))
            self._outside.callback(folder.remove)
            self._journal = folder.path / "journal"
            self._hub = Hub(
                HubSettings(
                    directory=str(self.sockets),
                    journal=str(self._journal),
                    run=run.plan.run_id,
                    segment_bytes=_SEGMENT_BYTES,
                )
            )
            self._outside.callback(self._end_hub)
            self._turning.start()
            self._link = Link(self._hub.endpoints, names, 1)
            self._outside.callback(self._link.close, 0.0)
            self._numbers = Renumbering(names)
            self._connect()
        except BaseException:
            self._outside.close()
            raise

    def _look_through(self) -> list[str]:
        """The names of all who speak in what is to be published."""
        names: dict[str, None] = {}
        found: set[str] = set()
        for record in self._records():
            found.add(record.type)
            if not self._types or record.type in self._types:
                names[sender(record)] = None
        unknown = sorted(self._types - found - self._run.codec.names)
        if unknown:
            raise ConfigurationError(
                f"{', '.join(unknown)}: no such event type; the run has {', '.join(sorted(found))}"
            )
        if not names:
            raise ConfigurationError(
                f"the run has none of {', '.join(sorted(self._types))}: nothing to publish; it has "
                f"{', '.join(sorted(found))}"
            )
        return list(names)

    def _records(self) -> Iterator[Record]:
        return self._run.records(*self._range)

    def _chosen(self) -> Iterator[Record]:
        return (record for record in self._records() if not self._types or record.type in self._types)

    def stop(self) -> None:
        """End in order, after what is under way; may be called from a signal handler."""
        self._stopping = True

    def close(self) -> None:
        """Close everything and remove sockets and journal; the run is untouched."""
        self._outside.close()

    def publish(self, *, loop: bool = False, after: Callable[[Record], None] | None = None) -> Published:
        """Publish the run, with ``loop`` again and again until `stop`; then compare what the journal holds.

        Args:
            loop: begin again at the end.
            after: called with each recorded event when it was sent.
        """
        result = Published()
        began = self._clock.monotonic()
        while not self._stopping:
            first = self._hub.journal.head + 1
            sent = self._pass(result, after)
            self._settle()
            self._verify(first, sent, result)
            if result.problem or not loop:
                break
            self._forget_before(first)
        result.seconds = self._clock.monotonic() - began
        return result

    def serve(self, seconds: float) -> None:
        """Stay there for subscribers that are behind."""
        deadline = self._clock.monotonic() + seconds
        while not self._stopping and (left := deadline - self._clock.monotonic()) > 0:
            self._turn(min(left, _SLICE_SECONDS))

    def _turn_hub(self) -> None:
        try:
            while not self._ended.is_set():
                self._hub.step(_SLICE_SECONDS)
        except Exception as error:  # told to whoever waits for the hub
            self._broken = error

    def _end_hub(self) -> None:
        self._ended.set()
        if self._turning.is_alive():
            self._turning.join()
        self._hub.close(orderly=self._broken is None)

    def _connect(self) -> None:
        self._await(lambda: self._link.is_connected)

    def _turn(self, seconds: float) -> None:
        """Take in what has come back; waits at most this long for something."""
        if self._broken is not None:
            raise BusError(f"the hub of the live replay has ended: {self._broken}") from self._broken
        for record in self._link.poll(seconds):
            self._numbers.seen(record)

    def _pass(self, result: Published, after: Callable[[Record], None] | None) -> int:
        began = self._clock.monotonic()
        first_stamp = 0
        sent = 0
        self._numbers.begin()
        for record in self._records():
            first_stamp = first_stamp or record.stamp_ns
            if self._rate:
                self._wait_until(began + (record.stamp_ns - first_stamp) / 1e9 / self._rate)
            if self._stopping:
                return sent
            if self._types and record.type not in self._types:
                result.left_out += 1
                continue
            self._await(functools.partial(self._numbers.knows, record.cause))
            self._await(lambda: self._link.outbox_size < _AT_ONCE)
            cause, index = self._numbers.give(record)
            self._link.emit(sender(record), cause, index, record.type, record.body)
            if not result.events:
                # The first one shows that the socket is connected: before that, events of several nodes could
                # be sent in another order than they were emitted.
                self._await(lambda: self._link.outbox_size == 0)
            sent += 1
            result.events += 1
            if after is not None:
                after(record)
        result.passes += 1
        return sent

    def _wait_until(self, due: float) -> None:
        while not self._stopping and (left := due - self._clock.monotonic()) > 0:
            self._turn(min(left, _SLICE_SECONDS))

    def _await(self, condition: Callable[[], bool]) -> None:
        if condition():
            return
        deadline = self._clock.monotonic() + _PATIENCE_SECONDS
        while not condition():
            if self._clock.monotonic() > deadline:
                failure = self._hub.journal.failure
                raise BusError(
                    f"an event has not come back for {_PATIENCE_SECONDS:g} s"
                    + (f": the journal in {self._journal} cannot be written: {failure}" if failure else "")
                )
            self._turn(_SLICE_SECONDS)

    def _settle(self) -> None:
        """Wait until everything is in the journal."""
        self._await(lambda: self._link.outbox_size == 0 and self._numbers.waiting == 0)

    def _verify(self, first: int, count: int, result: Published) -> None:
        """Read the new journal back and lay it beside the old one."""
        recorded = self._chosen()
        found = 0
        for copy in self._copies(first):
            record = next(recorded, None)
            found += 1
            if record is None or (copy.node, copy.type, copy.body) != (
                sender(record),
                record.type,
                record.body,
            ):
                expected = f"event {record.seq}, {record.type}" if record is not None else "nothing more"
                result.problem = f"event {copy.seq} of the new journal is {copy.type}, expected {expected}"
                return
            same = (copy.seq, copy.cause, copy.index) == (record.seq, record.cause, record.index)
            result.same_numbers = result.same_numbers and same
        if found != count:
            result.problem = f"{found} events are in the new journal, expected {count}"

    def _copies(self, first: int) -> Iterator[Record]:
        """What the new journal holds of our nodes; subscribers may have said something as well."""
        cursor = JournalCursor(self._journal, first)
        try:
            while batch := cursor.read():
                yield from (record for record in batch if record.node in self._numbers.names)
        finally:
            cursor.close()

    def _forget_before(self, seq: int) -> None:
        """Keep the disk from filling: nobody who keeps up needs what lies before the last pass."""
        found = segments(self._journal)
        for segment, following in itertools.pairwise(found):
            if following <= seq:
                segment_path(self._journal, segment).unlink(missing_ok=True)


def sender(record: Record) -> str:
    """The name under which an event is published: that of a source inside a process may not travel."""
    return record.node.replace("!", ":")


class Renumbering:
    """Which number each event of the run has in the new journal, and which identity it is given there."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = frozenset(names)
        #: Events of this pass as they were sent: their numbers in the run, and in the new journal.
        self._old = array("q")
        self._new = array("q")
        self._last: dict[str, tuple[int, int]] = {}
        self._roots: dict[str, int] = {}
        self._roots_before: dict[str, int] = {}

    @property
    def waiting(self) -> int:
        """Sent, and not yet come back."""
        return len(self._old) - len(self._new)

    def begin(self) -> None:
        """A new pass: its events cause each other, and roots are numbered on."""
        self._old, self._new = array("q"), array("q")
        self._roots_before = {node: index + 1 for node, index in self._roots.items()}

    def seen(self, record: Record) -> None:
        """An event has come back; those of our names come in the order in which they were sent."""
        if record.node in self.names and len(self._new) < len(self._old):
            self._new.append(record.seq)

    def knows(self, cause: int) -> bool:
        """Whether an event that was caused by this one can be given its cause."""
        return bisect_right(self._old, cause) <= len(self._new)

    def give(self, record: Record) -> tuple[int, int]:
        """The cause and index of an event in the new journal.

        Where the cause was left out, the last event before it that was published stands for it; without any,
        the event becomes a root.
        """
        node = sender(record)
        place = bisect_right(self._old, record.cause) if record.cause else 0
        self._old.append(record.seq)
        if not place:
            index = record.index if record.cause == 0 else 0
            index = max(self._roots_before.get(node, 0) + index, self._roots.get(node, -1) + 1)
            self._roots[node] = index
            return 0, index
        cause = self._new[place - 1]
        before, last = self._last.get(node, (0, -1))
        index = max(record.index, last + 1) if before == cause else record.index
        self._last[node] = (cause, index)
        return cause, index
