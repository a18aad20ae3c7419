"""Reads all of a journal and names everything in it that is not as a hub wrote it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from optix_bus.bus import mcap_format as mcap
from optix_bus.bus.codec import UNKNOWN_TYPE
from optix_bus.bus.journal_closing import read_mark
from optix_bus.bus.journal_files import HELLO, STATE, SegmentState, segment_path, segments
from optix_bus.bus.journal_report import MAX_DAMAGES, Damage, JournalReport, SegmentReport
from optix_bus.bus.journal_rules import JournalRules
from optix_bus.bus.journal_scan import Broken, SegmentScan
from optix_bus.bus.journal_whole import Channel, Metadata
from optix_bus.bus.record import Stored
from optix_bus.errors import CodecError, JournalError

#: Makes an event of (type, body), or raises `CodecError`.
Decode = Callable[[str, bytes], object]
#: Gets the events of one type.
Visit = Callable[[Stored], object]


def verify_journal(
    directory: str | os.PathLike[str],
    *,
    decode: Decode | None = None,
    visit: Mapping[str, Visit] | None = None,
) -> JournalReport:
    """Read all of a journal, also while a hub writes it.

    Args:
        directory: where the segments are.
        decode: tries each body; without it bodies are only known to be those that were written.
        visit: functions that get all events of a type.

    Raises:
        JournalError: there is no journal, or a file cannot be read.
    """
    reading = _Reading(Path(directory), decode, visit or {})
    try:
        return reading.read()
    except OSError as error:
        raise JournalError(f"the journal in {directory} cannot be read: {error.strerror}") from error


@dataclass(slots=True)
class _Contents:
    """What a segment holds besides events, and what its ending has to say of it."""

    channels: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    metadata: list[mcap.MetadataEntry] = field(default_factory=list)
    first_ns: int = 0
    last_ns: int = 0

    @property
    def has_state(self) -> bool:
        return any(entry.name == STATE for entry in self.metadata)

    def ending(self, position: int) -> bytes:
        """The bytes that close such a segment at this offset."""
        counts = {self.channels[topic]: count for topic, count in self.counts.items()}
        return mcap.ending(position, self.channels, counts, self.metadata, self.first_ns, self.last_ns)


class _Reading:
    """One reading of one journal."""

    def __init__(self, directory: Path, decode: Decode | None, visit: Mapping[str, Visit]) -> None:
        self._directory = directory
        self._decode = decode
        self._visit = visit
        found = segments(directory)
        if not found:
            raise JournalError(f"{directory} holds no journal: no file in it is named like a segment")
        self._rules = JournalRules(found[0])
        #: The next event, and the first of the present row without a gap.
        self._expected = self._piece = found[0]
        #: Damages behind which no event has come yet.
        self._open: list[Damage] = []
        self._unchecked = 0
        self.report = JournalReport(directory)
        self._segment = SegmentReport(found[0])

    def read(self) -> JournalReport:
        """All of it."""
        report = self.report
        while len(report.segments) < len(found := segments(self._directory)):
            self._read_segment(found, len(report.segments))
        self._look_for_endings()
        self._compare_with_mark()
        for damage in self._open:
            if damage.kind == "bytes" and damage.lost is None:
                damage.lost = (self._expected, 0)
        self._end_piece()
        if found[0] != 1:
            report.notes.append(f"the journal begins with event {found[0]}: older segments are not here")
        if self._unchecked:
            report.notes.append(f"{self._unchecked} metadata records are from before they had checksums")
        report.run = self._rules.run
        report.events = sum(segment.events for segment in report.segments)
        report.damages.sort(key=lambda damage: (damage.segment, damage.offset))
        return report

    def _read_segment(self, found: list[int], place: int) -> None:
        first = found[place]
        if first != self._expected:
            self._go_to(first)
        self._segment = segment = SegmentReport(first, head=first - 1)
        self.report.segments.append(segment)
        contents = _Contents()
        with SegmentScan(segment_path(self._directory, first)) as scan:
            while True:
                self._read_items(scan, contents)
                # A hub may have begun another segment since the files were listed: then this one has grown.
                now = segments(self._directory)
                if scan.closed or found[-1] != first or now == found:
                    break
                found = now
            segment.size, segment.torn_bytes = scan.size, scan.torn_bytes
            if not contents.has_state and not segment.damages:
                self._damage(0, 0, "state", "it does not begin with what was known before it")
            if scan.closed:
                self._judge_ending(scan, contents)
        segment.events = sum(contents.counts.values())

    def _read_items(self, scan: SegmentScan, contents: _Contents) -> None:
        report, judge, segment = self.report, self._rules.event, self._segment
        counts, in_segment, decode, visit = report.counts, contents.counts, self._decode, self._visit
        stamp_ns = 0
        for start, end, content in scan:
            if not isinstance(content, Stored):
                self._other(start, end, content, contents)
                continue
            seq, kind, stamp_ns = content.seq, content.type, content.stamp_ns
            if seq != self._expected and not self._out_of_order(start, end, seq):
                continue
            if self._open:
                self._settle(seq)
            self._expected = seq + 1
            wrong = judge(content)
            if wrong:
                self._damage(start, end, "rule", f"event {seq} breaks a rule: {wrong}", event=seq)
            key = (content.node, kind)
            counts[key] = counts.get(key, 0) + 1
            in_segment[kind] = in_segment.get(kind, 0) + 1
            contents.first_ns = contents.first_ns or stamp_ns
            if decode is not None:
                try:
                    decode(kind, bytes(content.body))
                except CodecError as error:
                    if error.reason == UNKNOWN_TYPE:
                        report.unknown[kind] += 1
                    else:
                        self._damage(start, end, "body", f"the body of event {seq}: {error}", event=seq)
            if kind in visit:
                visit[kind](content)
        if stamp_ns:
            contents.last_ns = report.last_ns = stamp_ns
            report.first_ns = report.first_ns or contents.first_ns
        segment.head = max(segment.head, self._expected - 1)

    def _other(self, start: int, end: int, content: Channel | Metadata | Broken, contents: _Contents) -> None:
        if isinstance(content, Broken):
            damage = self._damage(start, end, "bytes", content.text)
            if not content.may_hide_events:
                damage.kind = "record"
            self._open.append(damage)
        elif isinstance(content, Channel):
            contents.channels[content.topic] = content.number
        else:
            self._unchecked += not content.checked
            wrong = self._metadata(content, contents)
            if wrong:
                self._damage(start, end, "rule", wrong)
            contents.metadata.append(mcap.MetadataEntry(start, end - start, content.name))

    def _metadata(self, content: Metadata, contents: _Contents) -> str:
        """What is wrong with a metadata record, or nothing."""
        try:
            if content.name == HELLO:
                node, incarnation = content.pairs["node"], int(content.pairs["incarnation"])
                self.report.incarnations.setdefault(node, []).append(incarnation)
                return self._rules.hello(node, incarnation, content.pairs["session"])
            if content.name == STATE:
                if contents.metadata or contents.counts:
                    return "what was known at the beginning stands here, where it does not belong"
                state = msgspec.json.decode(content.pairs["state"], type=SegmentState)
                return self._rules.state(state, self._segment.first_seq)
        except (KeyError, ValueError, msgspec.DecodeError) as error:
            return f"{content.name} that cannot be understood: {error}"
        return ""

    def _out_of_order(self, start: int, end: int, seq: int) -> bool:
        """Another event than the next; whether it is to be taken all the same, as the first behind a hole."""
        if seq < self._expected:
            text = f"event {seq} stands here, out of its place or for a second time"
            self._damage(start, end, "order", text)
            for damage in reversed(self.report.damages[-8:]):
                if damage.lost == (seq, seq):
                    damage.lost = None
                    damage.text += f"; event {seq} stands at byte {start}"
            return False
        if not self._open:
            self._open.append(self._damage(start, end, "hole", "here is a hole"))
        self._end_piece()
        self._piece = seq
        self._rules.gap()
        return True

    def _go_to(self, first: int) -> None:
        """The next segment does not begin where this one ends."""
        segment = self._segment
        if first > self._expected and not self._open:
            text = "the segment ends too early" if self.report.segments else "the first segments are missing"
            self._open.append(self._damage(segment.size, segment.size, "hole", text))
        elif first < self._expected:
            text = f"the next segment is named after event {first}, which stands in this one or before it"
            self._damage(segment.size, segment.size, "order", text)
        self._settle(first)
        self._end_piece()
        self._expected = self._piece = first
        self._rules.gap()

    def _settle(self, seq: int) -> None:
        """Behind the open damages this is the first event that can be read."""
        if self._open and seq > self._expected:
            self._open[0].lost = (self._expected, seq - 1)
        for damage in self._open:
            damage.after = seq
        self._open.clear()

    def _end_piece(self) -> None:
        if self._expected > self._piece:
            self.report.pieces.append((self._piece, self._expected - 1))

    def _judge_ending(self, scan: SegmentScan, contents: _Contents) -> None:
        segment = self._segment
        segment.ending = "damaged" if scan.ending_damage else "whole"
        wrong = scan.ending_damage
        if not wrong and not segment.damages and scan.ending() != contents.ending(scan.position):
            wrong = "it does not fit what the segment holds"
        if wrong:
            text = f"the ending, which only seeking tools read: {wrong}"
            self._damage(scan.position, segment.size, "ending", text)

    def _look_for_endings(self) -> None:
        """All segments but the last have one: it is written before the first event of the next."""
        found = self.report.segments
        last = found[-1]
        self.report.closed = last.ending == "whole"
        for place, segment in enumerate(found[:-1]):
            just_begun = place == len(found) - 2 and last.events == 0 and last.ending == "none"
            if segment.ending == "none" and not just_begun:
                self._segment = segment
                torn = f" and {segment.torn_bytes} torn bytes" if segment.torn_bytes else ""
                end = segment.size
                text = f"the segment has no ending{torn}, although another one follows"
                self._damage(end - segment.torn_bytes, end, "ending", text, event=segment.head + 1)
        if last.torn_bytes:
            self.report.notes.append(
                f"torn tail: the last {last.torn_bytes} bytes are the beginning of a record, as a killed hub "
                "leaves it; the next one cuts them off"
            )
        if last.ending == "none":
            self.report.notes.append("not closed: the run goes on, or its hub was killed")

    def _compare_with_mark(self) -> None:
        last, self._segment = self.report.segments[-1], self.report.segments[-1]
        try:
            mark = read_mark(self._directory)
        except JournalError as error:
            self._damage(last.size, last.size, "mark", str(error))
            return
        if mark is None:
            return
        if mark.head >= self._expected:
            if not self._open:
                text = (
                    f"the journal was closed behind event {mark.head}, but ends behind {self._expected - 1}"
                )
                self._open.append(self._damage(last.size, last.size, "hole", text))
            self._open[0].lost = (self._expected, mark.head)
        elif (mark.segment, mark.head, mark.bytes) != (last.first_seq, last.head, last.size):
            text = "the segment is not as it was when it was closed in order"
            if last.ending == "none":
                text = "the segment was closed in order, and its ending is gone"
            self._damage(last.size, last.size, "mark", text)

    def _damage(self, start: int, end: int, kind: str, text: str, *, event: int = 0) -> Damage:
        report = self.report
        before = self._expected - 1
        if self._expected == self._piece:
            before = report.pieces[-1][1] if report.pieces else 0
        place = (self._segment.first_seq, start, end, event or self._expected)
        damage = Damage(*place, kind, text, before)
        self._segment.damages += 1
        if len(report.damages) < MAX_DAMAGES:
            report.damages.append(damage)
        else:
            report.further += 1
        return damage
