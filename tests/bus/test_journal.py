from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap.reader import NonSeekingReader, make_reader

from optix_bus.bus import mcap_format as mcap
from optix_bus.bus import wire
from optix_bus.bus.journal_files import segment_path, segments
from optix_bus.bus.journal_reader import JournalCursor, read_journal
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import Ledger
from optix_bus.bus.record import Record, stored_form
from optix_bus.errors import JournalError
from tests.bus.harness import body


def entry(journal: JournalWriter, seq: int, topic: str = "Tick", size: int = 0) -> bytes:
    packed = body(n=seq, pad="x" * size)
    head = wire.encode((seq, 1000 + seq, "a", 1, 0, seq))[1:]
    return journal.encode(topic, seq, 1000 + seq, stored_form(head, wire.encode(topic), packed))


def append(journal: JournalWriter, count: int, topics: Sequence[str] = ("Tick",), size: int = 0) -> None:
    for _ in range(count):
        seq = journal.head + 1
        topic = topics[seq % len(topics)]
        assert journal.append([entry(journal, seq, topic, size)], [topic], [1000 + seq]) == 1


def opened(path: Path, **options: int) -> JournalWriter:
    return JournalWriter(path, Ledger(), **options)


def seqs(path: Path, start: int = 1) -> list[int]:
    return [record.seq for record in read_journal(path, start)]


def test_what_was_appended_is_read_back_whole(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    append(journal, 3, ("Tick", "Tock"))
    assert list(read_journal(tmp_path)) == [
        Record(seq, 1000 + seq, "a", 1, 0, seq, ("Tick", "Tock")[seq % 2], body(n=seq, pad=""))
        for seq in (1, 2, 3)
    ]
    journal.close()


def test_a_reader_follows_a_growing_journal_and_sees_each_event_once(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    cursor = JournalCursor(tmp_path)
    assert cursor.read() == []
    seen = []
    for count in (1, 0, 5, 2):
        append(journal, count)
        seen += [record.seq for record in cursor.read()]
    assert seen == list(range(1, 9))
    journal.close()
    assert cursor.read() == []


def test_reading_can_begin_anywhere_and_stop_at_a_head(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    append(journal, 20)
    assert seqs(tmp_path, 17) == [17, 18, 19, 20]
    cursor = JournalCursor(tmp_path, 3)
    assert [record.seq for record in cursor.read(up_to=5)] == [3, 4, 5]
    assert [record.seq for record in cursor.read(limit=2)] == [6, 7]
    cursor.move(2)
    assert [record.seq for record in cursor.read(limit=1)] == [2]
    cursor.move(19)
    assert [record.seq for record in cursor.read()] == [19, 20]
    journal.close()


def test_a_position_from_a_beacon_saves_the_search(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    append(journal, 10, ("Tick", "Tock"))
    position = journal.position
    append(journal, 2, ("Tick", "Tock"))
    assert [record.seq for record in JournalCursor(tmp_path, 11, position).read()] == [11, 12]
    assert [record.type for record in JournalCursor(tmp_path, 12, position).read()] == ["Tick"]
    journal.close()


def test_types_that_are_not_wanted_are_passed(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    append(journal, 6, ("Tick", "Tock", "Tuck"))
    cursor = JournalCursor(tmp_path)
    assert [record.seq for record in cursor.read(types={"Tock"})] == [1, 4]
    assert cursor.seq == 7
    journal.close()


def test_segments_rotate_without_a_gap_and_each_begins_with_the_state(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=4096)
    follower = JournalCursor(tmp_path)
    followed = []
    for _ in range(40):
        append(journal, 5)
        followed += [record.seq for record in follower.read()]
        if journal.is_full:
            assert journal.rotate()
    assert len(segments(tmp_path)) >= 3
    assert followed == seqs(tmp_path) == list(range(1, 201))
    assert seqs(tmp_path, 150) == list(range(150, 201))
    journal.close()


def test_only_the_last_segment_is_read_at_a_restart(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=4096)
    assert journal._ledger.hello("a", 4, "s", 0) == ""
    while len(segments(tmp_path)) < 3:
        append(journal, 10)
        for record in read_journal(tmp_path, journal.head - 9):
            journal._ledger.note_record(record)
        if journal.is_full:
            journal.rotate()
    head = journal.head
    journal.close()
    segment_path(tmp_path, 1).write_bytes(b"not read")
    ledger = Ledger()
    again = JournalWriter(tmp_path, ledger)
    assert again.head == head
    assert ledger.nodes["a"].incarnation == 4
    assert ledger.nodes["a"].root == head
    again.close()


def test_a_reader_that_stands_at_the_end_of_a_closed_journal_goes_on_when_it_is_reopened(
    tmp_path: Path,
) -> None:
    journal = opened(tmp_path)
    append(journal, 3)
    journal.close()
    cursor = JournalCursor(tmp_path)
    assert len(cursor.read()) == 3
    assert cursor.read() == []
    again = opened(tmp_path)
    append(again, 2)
    assert [record.seq for record in cursor.read()] == [4, 5]
    again.close()


@pytest.mark.parametrize("cut", [1, 5, 9, 10, 30])
def test_a_torn_tail_is_cut_off_and_said(tmp_path: Path, cut: int) -> None:
    journal = opened(tmp_path)
    append(journal, 5)
    journal.close(orderly=False)
    path = segment_path(tmp_path, 1)
    os.truncate(path, path.stat().st_size - cut)
    assert seqs(tmp_path) == [1, 2, 3, 4]
    again = opened(tmp_path)
    assert again.torn_bytes > 0
    assert again.head == 4
    append(again, 2)
    assert seqs(tmp_path) == [1, 2, 3, 4, 5, 6]
    again.close()


def test_zeros_that_a_power_cut_left_are_cut_off(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    append(journal, 5)
    journal.close(orderly=False)
    with segment_path(tmp_path, 1).open("ab") as file:
        file.write(bytes(4096))
    again = opened(tmp_path)
    assert (again.torn_bytes, again.head) == (4096, 5)
    again.close()
    assert seqs(tmp_path) == [1, 2, 3, 4, 5]


@given(keep=st.floats(0, 1))
def test_wherever_the_file_ends_the_whole_records_are_kept(
    tmp_path_factory: pytest.TempPathFactory, keep: float
) -> None:
    path = tmp_path_factory.mktemp("j")
    journal = opened(path)
    start = journal.position[1]
    ends = []
    for _ in range(6):
        append(journal, 1)
        ends.append(journal.position[1])
    journal.close(orderly=False)
    size = start + round(keep * (ends[-1] - start))
    os.truncate(segment_path(path, 1), size)
    again = opened(path)
    assert again.head == sum(end <= size for end in ends)
    append(again, 1)
    again.close()
    assert seqs(path) == list(range(1, again.head + 1))


def test_the_stock_seeking_reader_opens_what_was_closed_in_order(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    append(journal, 7, ("Tick", "Tock"))
    assert journal.append_hello("a", 2, "s")
    journal.close()
    with segment_path(tmp_path, 1).open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        assert summary.statistics.message_count == 7
        assert (summary.statistics.message_start_time, summary.statistics.message_end_time) == (1001, 1007)
        assert {channel.topic for channel in summary.channels.values()} == {"Tick", "Tock"}
        messages = [(channel, message) for _, channel, message in reader.iter_messages()]
        assert [message.sequence for _, message in messages] == [1, 2, 3, 4, 5, 6, 7]
        assert {channel.message_encoding for channel, _ in messages} == {"msgpack"}
        unpacked = msgpack.unpackb(messages[0][1].data)
        assert unpacked[:-1] == [1, 1001, "a", 1, 0, 1, "Tock", {"n": 1, "pad": ""}]
        assert unpacked[-1] == zlib.crc32(messages[0][1].data[:-5])
        assert [data.name for data in reader.iter_metadata()] == ["optix-bus/state", "optix-bus/hello"]


def test_the_stock_streaming_reader_reads_what_was_killed(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    append(journal, 3)
    journal.close(orderly=False)
    read = []
    with segment_path(tmp_path, 1).open("rb") as stream:
        messages = NonSeekingReader(stream).iter_messages(log_time_order=False)
        for _, _, message in messages:
            read.append(message.sequence)
            if len(read) == 3:
                break
    assert read == [1, 2, 3]


def test_a_segment_whose_hub_was_killed_while_rotating_gets_its_ending_at_the_next_start(
    tmp_path: Path,
) -> None:
    journal = opened(tmp_path, segment_bytes=4096)
    append(journal, 60)
    ending_start = journal.position[1]
    journal.rotate()
    append(journal, 1)
    journal.close(orderly=False)
    os.truncate(segment_path(tmp_path, 1), ending_start + 3)
    opened(tmp_path).close()
    assert seqs(tmp_path) == list(range(1, 62))
    with segment_path(tmp_path, 1).open("rb") as stream:
        summary = make_reader(stream).get_summary()
        assert summary is not None
        assert summary.statistics is not None
        assert summary.statistics.message_count == 60


def test_a_write_that_was_taken_in_part_keeps_whole_records_and_repeats_the_rest_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path)
    entries = [entry(journal, seq) for seq in (1, 2, 3)]
    real, taken = os.write, len(entries[0]) + 7
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:taken]))
        assert journal.append(entries, ["Tick"] * 3, [1001, 1002, 1003]) == 1
    assert "only a part" in journal.failure
    assert seqs(tmp_path) == [1]
    assert journal.append(entries[1:], ["Tick"] * 2, [1002, 1003]) == 2
    assert journal.failure == ""
    assert seqs(tmp_path) == [1, 2, 3]
    journal.close()


def test_a_write_that_fails_leaves_nothing_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path)

    def refuse(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        assert journal.append([entry(journal, 1)], ["Tick"], [1001]) == 0
        assert not journal.append_hello("a", 1, "s")
        assert not journal.rotate()
    assert "No space left on device (errno 28)" in journal.failure
    assert segments(tmp_path) == [1]
    append(journal, 1)
    journal.close()
    assert seqs(tmp_path) == [1]


def test_a_sync_that_fails_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(tmp_path, sync_seconds=1000)
    append(journal, 1)

    def refuse(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", refuse)
        with pytest.raises(JournalError, match="Input/output error"):
            journal.sync()
    with pytest.raises(JournalError, match="last event known to be safe is 0"):
        journal.check()
    journal.close(orderly=False)


def test_two_hubs_cannot_write_one_journal(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    with pytest.raises(JournalError, match="another hub writes the journal"):
        opened(tmp_path)
    journal.close()
    opened(tmp_path).close()


def test_a_journal_of_another_run_is_refused(tmp_path: Path) -> None:
    JournalWriter(tmp_path, Ledger(), run="monday").close()
    with pytest.raises(JournalError, match="belongs to run 'monday', this is run 'tuesday'"):
        JournalWriter(tmp_path, Ledger(), run="tuesday")


def test_damage_in_the_middle_is_an_error_not_a_skip(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    append(journal, 1)
    second = journal.position[1]
    append(journal, 2)
    journal.close(orderly=False)
    path = segment_path(tmp_path, 1)
    data = bytearray(path.read_bytes())
    data[second] = 0
    path.write_bytes(data)
    with pytest.raises(JournalError, match="damaged"):
        seqs(tmp_path)


def test_a_hole_is_an_error(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    append(journal, 1)
    journal._segment.head = 4
    append(journal, 1)
    with pytest.raises(JournalError, match="has no event 2"):
        seqs(tmp_path)
    journal.close()


def test_events_older_than_the_oldest_segment_are_an_error(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=4096)
    append(journal, 60)
    journal.rotate()
    append(journal, 1)
    segment_path(tmp_path, 1).unlink()
    with pytest.raises(JournalError, match="begins at 61"):
        seqs(tmp_path, 5)
    journal.close()


def test_a_record_larger_than_a_chunk_is_read(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    append(journal, 1)
    append(journal, 1, size=3_000_000)
    append(journal, 1)
    assert seqs(tmp_path) == [1, 2, 3]
    journal.close()


def test_metadata_with_awkward_lengths_comes_back() -> None:
    for size in range(0, 40):
        packed = mcap.metadata("m", {"k": "v" * size, "other": ""})
        (raw,) = mcap.records(packed)
        assert mcap.parse_metadata(packed, raw) == ("m", {"k": "v" * size, "other": ""})


def damage_the_sixth_of_eight(folder: Path, place: int, bit: int, seconds_between: int) -> None:
    journal = opened(folder)
    ends = []
    for seq in range(1, 9):
        stamp = seq * seconds_between * 10**9
        head = wire.encode((seq, stamp, "a", 1, 0, seq))[1:]
        data = stored_form(head, wire.encode("Tick"), body(n=seq))
        assert journal.append([journal.encode("Tick", seq, stamp, data)], ["Tick"], [stamp]) == 1
        ends.append(journal.position[1])
    journal.close(orderly=False)
    path = segment_path(folder, 1)
    stored = bytearray(path.read_bytes())
    stored[ends[4] + place % (ends[5] - ends[4])] ^= 1 << bit
    path.write_bytes(stored)


def test_damage_among_events_that_were_never_synced_is_a_torn_tail(tmp_path: Path) -> None:
    damage_the_sixth_of_eight(tmp_path, 30, 3, seconds_between=1)
    journal = opened(tmp_path)
    assert journal.head == 5
    assert journal.torn_bytes > 0
    journal.close()
    assert seqs(tmp_path) == [1, 2, 3, 4, 5]


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_in_an_event_is_found_and_what_is_before_it_stays_usable(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    damage_the_sixth_of_eight(folder, place, bit, seconds_between=10)
    assert JournalCursor(folder).read(up_to=5)[-1].seq == 5
    with pytest.raises(JournalError, match=r"damaged behind event 5|event 7 behind 5"):
        opened(folder)
    seen: list[int] = []
    try:
        seen.extend(record.seq for record in read_journal(folder))
    except JournalError:
        assert seen == [1, 2, 3, 4, 5]
    else:
        # Only what MCAP says about the event has changed; or its length, which then looks like a torn tail.
        assert seen in ([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5])


def test_a_flipped_bit_in_metadata_is_an_error() -> None:
    packed = mcap.metadata("m", {"k": "value"})
    for place in range(mcap.PREFIX_BYTES, len(packed)):
        for bit in range(8):
            changed = bytearray(packed)
            changed[place] ^= 1 << bit
            (raw,) = mcap.records(bytes(changed))
            try:
                name, pairs = mcap.parse_metadata(bytes(changed), raw)
            except ValueError:
                continue
            # The key itself may have changed: then it is another record, and not one that we write.
            assert mcap.metadata(name, pairs) != bytes(changed)


def test_metadata_without_a_checksum_is_read_too() -> None:
    content = b"\x01\x00\x00\x00m\x0a\x00\x00\x00\x01\x00\x00\x00k\x01\x00\x00\x00v"
    (raw,) = mcap.records(b"\x0c" + len(content).to_bytes(8, "little") + content)
    assert mcap.parse_metadata(b"\x0c" + len(content).to_bytes(8, "little") + content, raw) == (
        "m",
        {"k": "v"},
    )


def test_a_closed_journal_that_was_cut_short_is_not_gone_on_with(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    append(journal, 5)
    journal.close()
    opened(tmp_path).close()
    path = segment_path(tmp_path, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(JournalError, match=r"was closed behind event 5, but ends behind [0-4]"):
        opened(tmp_path)
    path.write_bytes(whole)
    again = opened(tmp_path)
    append(again, 1)
    again.close(orderly=False)
    os.truncate(path, again.position[1] - 1)
    opened(tmp_path).close()
    assert seqs(tmp_path) == [1, 2, 3, 4, 5]


def test_a_mark_that_cannot_be_read_or_written_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path)
    append(journal, 2)
    journal.close()
    (tmp_path / "closed.json").write_bytes(b"{")
    again = opened(tmp_path)
    assert again.head == 2
    real = os.open

    def refuse(path: str | Path, *arguments: int) -> int:
        if "closed" in str(path):
            raise OSError(28, "No space left on device")
        return real(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        again.close()
    assert not (tmp_path / "closed.json").exists()
    assert seqs(tmp_path) == [1, 2]
