from __future__ import annotations

import os
from pathlib import Path

import pytest

from optix_bus.bus import journal_gap, journal_scan
from optix_bus.bus import mcap_format as mcap
from optix_bus.bus.journal_ending import judge_ending
from optix_bus.bus.journal_files import BEGINNING, segment_path
from optix_bus.bus.journal_scan import Broken, SegmentScan
from optix_bus.bus.journal_whole import Channel, Metadata
from optix_bus.bus.record import Record, Stored, decode_record, encode_record
from tests.bus.harness import body
from tests.bus.journals import Journal, flip, spans, write


def scanned(path: Path, position: int = 0) -> list[str]:
    """What is there, in words."""
    with SegmentScan(path, position) as scan:
        return [word(content) for _, _, content in scan]


def word(content: object) -> str:
    if isinstance(content, Stored):
        return str(content.seq)
    if isinstance(content, Broken):
        return "broken"
    assert isinstance(content, Channel | Metadata)
    return content.topic if isinstance(content, Channel) else content.name.removeprefix("optix-bus/")


def test_everything_between_beginning_and_ending_is_given_out_with_its_place(tmp_path: Path) -> None:
    records = write(tmp_path, 4)
    path = segment_path(tmp_path, 1)
    stored = path.read_bytes()
    expected = ["state", "hello", "hello", "hello", "Learnt", "1", "Collected", "2", "Asked", "3", "4"]
    assert scanned(path) == expected
    with SegmentScan(path) as scan:
        position = len(BEGINNING)
        for start, end, content in scan:
            assert start == position
            position = end
            if isinstance(content, Stored):
                assert decode_record(scan.data(start, end)) == records[content.seq - 1]
        assert (scan.position, scan.closed, scan.ending_damage) == (position, True, "")
        assert (scan.ending(), scan.size, scan.torn_bytes) == (stored[position:], len(stored), 0)


def test_a_scan_goes_on_with_what_was_written_meanwhile(tmp_path: Path) -> None:
    journal = Journal(tmp_path, hub=False)
    with SegmentScan(segment_path(tmp_path, 1)) as scan:
        seen = []
        for count in (1, 0, 3):
            for _ in range(count):
                journal.append(kind="Tick")
            seen.append([word(content) for _, _, content in scan])
        journal.close()
        assert [*scan] == []
        assert scan.closed
    assert seen == [["state", "Tick", "1"], [], ["2", "3", "4"]]


@pytest.mark.parametrize("chunk", [64, 300, 4096])
def test_records_are_found_wherever_a_chunk_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    write(tmp_path, 30)
    path = segment_path(tmp_path, 1)
    whole = scanned(path)
    flip(path, spans(path.read_bytes())[9][1] - 12)
    flip(path, spans(path.read_bytes())[12][0] + 4)
    damaged = scanned(path)
    assert damaged.count("broken") == 2
    assert [each for each in damaged if each != "broken"] == [each for each in whole if each != "10"]
    monkeypatch.setattr(journal_scan, "_CHUNK_BYTES", chunk)
    monkeypatch.setattr(journal_gap, "_CHUNK_BYTES", chunk)
    assert scanned(path) == damaged


def test_a_record_larger_than_a_chunk_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path, hub=False)
    journal.append(kind="Tick")
    journal.append(kind="Tick", packed=body(pad="x" * 2_000_000))
    journal.append(kind="Tick")
    journal.close()
    assert scanned(segment_path(tmp_path, 1)) == ["state", "Tick", "1", "2", "3"]


def test_a_scan_can_begin_at_any_record(tmp_path: Path) -> None:
    write(tmp_path, 9)
    path = segment_path(tmp_path, 1)
    found = scanned(path, spans(path.read_bytes())[5][0])
    assert [each for each in found if each.isdigit()] == ["6", "7", "8", "9"]


def test_events_that_only_their_checksum_finds(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    records = [
        Record(seq, seq, "n", 1, 0, seq, "T", body(n=seq, pad="\x99\x01" * 40)) for seq in (1, 200, 70000)
    ]
    path.write_bytes(b"\x99\x01\x02\xa1" + b"".join(b"noise\xce" * 3 + encode_record(r) for r in records))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found = list(journal_gap.loose_events(descriptor, 0, path.stat().st_size))
        none = list(journal_gap.loose_events(descriptor, 0, 100))
    finally:
        os.close(descriptor)
    assert [stored.seq for _, _, stored in found] == [1, 200, 70000]
    assert [end - start for start, end, _ in found] == [len(encode_record(record)) for record in records]
    assert none == []


@pytest.mark.parametrize(
    ("front", "back", "judged"),
    [
        (0, 0, ""),
        (3, 0, "the record that ends the data is damaged"),
        (0, 40, "its checksum is wrong"),
        (0, 2, "it is cut short or overwritten"),
        (3, 2, None),
    ],
)
def test_an_ending_is_judged_by_itself(tmp_path: Path, front: int, back: int, judged: str | None) -> None:
    write(tmp_path, 3)
    path = segment_path(tmp_path, 1)
    position = spans(path.read_bytes())[-1][1]
    for offset in (position + front if front else 0, path.stat().st_size - back if back else 0):
        if offset:
            flip(path, offset)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert judge_ending(descriptor, position, path.stat().st_size) == judged
        assert judge_ending(descriptor, position - 5, path.stat().st_size) is None
    finally:
        os.close(descriptor)


def test_a_record_that_no_hub_writes_is_passed(tmp_path: Path) -> None:
    write(tmp_path, 3, orderly=False)
    path = segment_path(tmp_path, 1)
    stored = path.read_bytes()
    place = spans(stored)[1][0]
    foreign = b"\x80" + (5).to_bytes(8, "little") + b"hello"
    path.write_bytes(stored[:place] + foreign + stored[place:])
    with SegmentScan(path) as scan:
        broken = [(start, end, content) for start, end, content in scan if isinstance(content, Broken)]
    assert broken == [(place, place + len(foreign), Broken("a record of kind 128, which no hub writes"))]


def test_a_channel_that_changes_its_topic_is_broken(tmp_path: Path) -> None:
    write(tmp_path, 3, orderly=False)
    path = segment_path(tmp_path, 1)
    with path.open("ab") as file:
        file.write(mcap.channel(1, "Another"))
    assert scanned(path)[-2:] == ["broken", "Another"]


def test_an_empty_file_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert scanned(path) == ["broken"]
