from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from optix_bus.bus import journal_report, journal_verify
from optix_bus.bus import mcap_format as mcap
from optix_bus.bus.codec import Codec
from optix_bus.bus.journal_files import HELLO, segment_path, segments
from optix_bus.bus.journal_report import JournalReport
from optix_bus.bus.journal_verify import verify_journal
from optix_bus.bus.record import Stored
from optix_bus.errors import JournalError
from tests.bus.harness import body
from tests.bus.journals import NODES, SECOND, START, Journal, files, flip, spans, swap, write


def kinds(report: JournalReport) -> list[str]:
    return [damage.kind for damage in report.damages]


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    for sync in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, sync, lambda descriptor: None)


def test_a_whole_journal_is_clean_and_its_events_are_counted(tmp_path: Path) -> None:
    write(tmp_path, 40, segment_bytes=2000)
    report = verify_journal(tmp_path)
    assert (report.damages, report.notes, report.closed, report.run) == ([], [], True, "run")
    assert (report.events, report.pieces, report.usable) == (40, [(1, 40)], (1, 40))
    assert (report.first_ns, report.last_ns) == (START + 10 * SECOND, START + 400 * SECOND)
    assert report.by_type() == {"Learnt": 14, "Asked": 13, "Collected": 13}
    assert report.by_node() == {"learner": 14, "scheduler": 13, "pipeline": 13}
    assert report.counts["learner", "Learnt"] == 14
    assert report.incarnations == {node: [1] for node in NODES}
    assert [segment.first_seq for segment in report.segments] == segments(tmp_path)
    assert sum(segment.events for segment in report.segments) == 40
    assert {segment.ending for segment in report.segments} == {"whole"}
    assert report.size == sum(path.stat().st_size for path in files(tmp_path))


def test_a_journal_of_an_inline_run_has_no_hello_and_is_clean(tmp_path: Path) -> None:
    write(tmp_path, 5, hub=False)
    assert verify_journal(tmp_path).is_clean


@pytest.mark.parametrize("cut", [1, 5, 20, 40])
def test_what_a_killed_hub_leaves_half_written_is_a_note(tmp_path: Path, cut: int) -> None:
    write(tmp_path, 5, orderly=False)
    path = segment_path(tmp_path, 1)
    os.truncate(path, path.stat().st_size - cut)
    report = verify_journal(tmp_path)
    assert report.is_clean
    assert (report.events, report.closed) == (4, False)
    assert report.torn_bytes > 0
    assert "torn tail" in report.notes[0]
    assert "not closed" in report.notes[1]


def test_wherever_a_bit_flips_in_a_closed_journal_it_is_found(tmp_path: Path) -> None:
    write(tmp_path, 4)
    path, chance = segment_path(tmp_path, 1), random.Random(1)
    whole = path.read_bytes()
    for offset in range(len(whole)):
        flip(path, offset, chance.randrange(8))
        assert not verify_journal(tmp_path).is_clean, f"byte {offset}"
        path.write_bytes(whole)


def test_wherever_a_closed_journal_is_cut_short_it_is_found(tmp_path: Path) -> None:
    write(tmp_path, 4)
    path = segment_path(tmp_path, 1)
    for size in reversed(range(path.stat().st_size)):
        os.truncate(path, size)
        assert not verify_journal(tmp_path).is_clean, f"{size} bytes"


def test_wherever_a_journal_that_was_not_closed_is_cut_it_is_one_that_was_killed_earlier(
    tmp_path: Path,
) -> None:
    write(tmp_path, 4, orderly=False)
    path = segment_path(tmp_path, 1)
    stored = path.read_bytes()
    ends = [end for _, end in spans(stored)]
    begun = spans(stored, (mcap.METADATA,))[0][1]
    for size in reversed(range(begun, len(stored))):
        os.truncate(path, size)
        report = verify_journal(tmp_path)
        assert report.is_clean
        assert report.events == sum(end <= size for end in ends)


def test_a_damage_says_where_it_is_and_what_can_be_read_around_it(tmp_path: Path) -> None:
    write(tmp_path, 9)
    path = segment_path(tmp_path, 1)
    start, end = spans(path.read_bytes())[4]
    flip(path, end - 20)
    report = verify_journal(tmp_path)
    (damage,) = report.damages
    assert (damage.segment, damage.offset, damage.end, damage.event) == (1, start, end, 5)
    assert (damage.before, damage.lost, damage.after) == (4, (5, 5), 6)
    assert report.pieces == [(1, 4), (6, 9)]
    assert str(damage) == (
        f"00000000000000000001.mcap, byte {start}, event 5: an event whose checksum is wrong: a byte has "
        "changed; event 5 is lost, readable up to 4, again from 6"
    )


@pytest.mark.parametrize("field", range(31))
def test_an_event_is_read_although_the_bytes_in_front_of_it_are_wrong(tmp_path: Path, field: int) -> None:
    write(tmp_path, 9)
    path = segment_path(tmp_path, 1)
    for place in (2, 4, 8):
        flip(path, spans(path.read_bytes())[place][0] + field, 3)
        report = verify_journal(tmp_path)
        assert report.pieces == [(1, 9)]
        assert [damage.lost for damage in report.damages] == [None] * len(report.damages)
        assert not report.is_clean
        flip(path, report.damages[0].offset + field, 3)


def test_a_zeroed_page_loses_what_was_in_it_and_no_more(tmp_path: Path) -> None:
    write(tmp_path, 30)
    path = segment_path(tmp_path, 1)
    stored = bytearray(path.read_bytes())
    places = spans(bytes(stored))
    first, last = places[9][0] + 40, places[12][0] + 5  # the front of the thirteenth is gone, not its data
    stored[first:last] = bytes(last - first)
    path.write_bytes(stored)
    report = verify_journal(tmp_path)
    assert report.pieces == [(1, 9), (13, 30)]
    assert report.damages[0].lost == (10, 12)


def test_zeros_at_the_tail_are_damage_because_events_may_have_been_there(tmp_path: Path) -> None:
    write(tmp_path, 5, orderly=False)
    with segment_path(tmp_path, 1).open("ab") as file:
        file.write(bytes(4096))
    report = verify_journal(tmp_path)
    assert report.pieces == [(1, 5)]
    assert report.damages[0].lost == (6, 0)
    assert "events 6 to ? are lost" in str(report.damages[0])


def test_a_segment_in_the_middle_that_was_cut_short_or_is_gone_is_a_hole(tmp_path: Path) -> None:
    write(tmp_path, 40, segment_bytes=2000)
    first, second, third = segments(tmp_path)[:3]
    path = segment_path(tmp_path, second)
    os.truncate(path, spans(path.read_bytes())[2][0])
    report = verify_journal(tmp_path)
    assert report.pieces == [(first, second + 1), (third, 40)]
    assert report.damages[0].lost == (second + 2, third - 1)
    path.unlink()
    report = verify_journal(tmp_path)
    assert report.pieces == [(first, second - 1), (third, 40)]
    assert report.damages[0].lost == (second, third - 1)


def test_the_last_segment_of_a_closed_journal_is_missed(tmp_path: Path) -> None:
    write(tmp_path, 40, segment_bytes=2000)
    last = segments(tmp_path)[-1]
    segment_path(tmp_path, last).unlink()
    report = verify_journal(tmp_path)
    assert report.damages[-1].lost == (last, 40)


def test_older_segments_may_have_been_removed(tmp_path: Path) -> None:
    write(tmp_path, 40, segment_bytes=2000)
    second = segments(tmp_path)[1]
    segment_path(tmp_path, 1).unlink()
    report = verify_journal(tmp_path)
    assert report.is_clean
    assert report.notes == [f"the journal begins with event {second}: older segments are not here"]
    assert report.pieces == [(second, 40)]


def test_an_ending_that_is_gone_is_missed_where_another_segment_follows(tmp_path: Path) -> None:
    write(tmp_path, 40, segment_bytes=2000)
    path = segment_path(tmp_path, 1)
    os.truncate(path, spans(path.read_bytes())[-1][1])
    report = verify_journal(tmp_path)
    assert kinds(report) == ["ending"]
    assert report.pieces == [(1, 40)]


def test_a_hub_that_was_killed_while_it_began_a_segment_leaves_no_damage(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for _ in range(5):
        journal.append()
    end = journal.writer.position[1]
    assert journal.writer.rotate()
    journal.close(orderly=False)
    os.truncate(segment_path(tmp_path, 1), end)
    assert verify_journal(tmp_path).is_clean


def test_an_ending_that_does_not_fit_its_segment_is_damage(tmp_path: Path) -> None:
    write(tmp_path / "a", 5)
    write(tmp_path / "b", 5)
    path = segment_path(tmp_path / "a", 1)
    stored = path.read_bytes()
    end = spans(stored)[-1][1]
    fewer = mcap.ending(end, {"Learnt": 1}, {1: 4}, (), START, START)
    path.write_bytes(stored[:end] + fewer)
    (damage, mark) = verify_journal(tmp_path / "a").damages
    assert "it does not fit what the segment holds" in damage.text
    assert mark.kind == "mark"
    segment_path(tmp_path / "b", 1).write_bytes(stored[:end])
    (gone,) = verify_journal(tmp_path / "b").damages
    assert gone.text == "the segment was closed in order, and its ending is gone"


def test_events_behind_what_looks_like_an_ending_are_read(tmp_path: Path) -> None:
    write(tmp_path, 6, orderly=False)
    path = segment_path(tmp_path, 1)
    stored = path.read_bytes()
    start = spans(stored)[3][0]
    path.write_bytes(stored[:start] + mcap.ending(0, {}, {}, (), 0, 0)[:13] + stored[start:])
    report = verify_journal(tmp_path)
    assert report.pieces == [(1, 6)]
    assert len(report.damages) == 1


@pytest.mark.parametrize(
    "stored", [b"", b"{", b'{"segment":1,"head":2}', b'{"segment": 1, "head": 3, "bytes": 9}']
)
def test_a_damaged_mark_is_found(tmp_path: Path, stored: bytes) -> None:
    write(tmp_path, 3)
    (tmp_path / "closed.json").write_bytes(stored)
    assert kinds(verify_journal(tmp_path)) == ["mark"]


def test_events_that_were_exchanged_are_all_found(tmp_path: Path) -> None:
    write(tmp_path, 9)
    swap(segment_path(tmp_path, 1), 4)
    report = verify_journal(tmp_path)
    assert kinds(report) == ["hole", "order"]
    assert "event 5 stands at byte" in report.damages[0].text
    assert report.damages[0].lost is None


def test_a_hello_behind_the_first_event_of_its_node_is_damage(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for _ in range(5):
        journal.append()
    journal.hello("learner", 2)
    journal.append("learner")
    journal.close()
    path = segment_path(tmp_path, 1)
    stored = path.read_bytes()
    hello = spans(stored, (mcap.METADATA,))[-1]
    event = spans(stored)[-1]
    path.write_bytes(stored[: hello[0]] + stored[slice(*event)] + stored[slice(*hello)] + stored[event[1] :])
    report = verify_journal(tmp_path)
    assert "incarnation 2 of learner has not said HELLO; the last that did is 1" in report.damages[0].text


def broken_rule(folder: Path, write_badly: Callable[[Journal], object]) -> str:
    journal = Journal(folder)
    for _ in range(3):
        journal.append()
    write_badly(journal)
    journal.close()
    report = verify_journal(folder)
    assert report.pieces == [(1, report.events)]
    (damage,) = report.damages
    assert damage.kind == "rule"
    return damage.text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"stamp_ns": START + 30 * SECOND}, f"its stamp {START + 30 * SECOND} is not behind the one before"),
        ({"node": "learner", "cause": 0}, "identity"),
        ({"node": "scheduler", "cause": 1}, "identity (1, 0) of scheduler comes behind its (2, 0)"),
        ({"node": "scheduler", "cause": 4}, "its cause 4 is no earlier event"),
        ({"node": "scheduler", "incarnation": 2}, "incarnation 2 of scheduler has not said HELLO"),
        ({"node": "stranger"}, "incarnation 1 of stranger has not said HELLO"),
    ],
)
def test_what_no_hub_writes_is_damage_although_every_byte_is_whole(
    tmp_path: Path, options: dict[str, object], text: str
) -> None:
    if text == "identity":
        said = broken_rule(
            tmp_path, lambda journal: [journal.append("learner", cause=0, index=i) for i in (3, 3)]
        )
        assert "root 3 of learner comes behind its root 3" in said
    else:
        assert text in broken_rule(tmp_path, lambda journal: journal.append(**options))  # type: ignore[arg-type]


def test_a_hello_of_an_older_life_is_damage(tmp_path: Path) -> None:
    said = broken_rule(tmp_path, lambda journal: journal.writer.append_hello("learner", 1, "another"))
    assert said == "incarnation 1 of learner says HELLO behind incarnation 1"


def test_an_older_incarnation_that_speaks_again_is_damage(tmp_path: Path) -> None:
    def two_lives(journal: Journal) -> None:
        journal.hello("learner", 2)
        journal.append("learner")
        journal.append("learner", incarnation=1)

    assert "incarnation 1 of learner has not said HELLO; the last that did is 2" in broken_rule(
        tmp_path, two_lives
    )


def test_a_segment_of_another_journal_is_damage(tmp_path: Path) -> None:
    write(tmp_path / "a", 40, segment_bytes=2000)
    write(tmp_path / "b", 40, segment_bytes=2000)
    second = segments(tmp_path / "a")[1]
    foreign = Journal(tmp_path / "c", segment_bytes=2000, run="another")
    for _ in range(40):
        foreign.append(packed=body(n=foreign.writer.head + 1, text="some words", score=0.5))
    foreign.close()
    segment_path(tmp_path / "a", second).write_bytes(segment_path(tmp_path / "c", second).read_bytes())
    report = verify_journal(tmp_path / "a")
    assert "it belongs to run another, the segments before it to run" in report.damages[0].text
    third = segments(tmp_path / "b")[2]
    segment_path(tmp_path / "b", third).rename(segment_path(tmp_path / "b", 1000))
    report = verify_journal(tmp_path / "b")
    assert any("the file is named after 1000" in damage.text for damage in report.damages)


def test_a_state_that_does_not_follow_from_the_events_is_damage(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for _ in range(3):
        journal.append()
    journal.ledger.nodes["learner"].index = 7
    assert journal.writer.rotate()
    journal.close()
    (damage,) = verify_journal(tmp_path).damages
    assert "it knows other stamps, nodes or identities" in damage.text


class Asked(msgspec.Struct):
    n: int
    text: str


def test_bodies_are_tried_and_types_that_nobody_knows_are_counted(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(kind="Asked", packed=body(n=1, text="a"))
    journal.append(kind="Asked", packed=body(n="one", text="a"))
    journal.append(kind="Unheard")
    journal.close()
    report = verify_journal(tmp_path, decode=Codec([Asked]).decode)
    assert report.unknown == {"Unheard": 1}
    (damage,) = report.damages
    assert (damage.kind, damage.event) == ("body", 2)
    assert "Asked does not fit its fields" in damage.text
    assert verify_journal(tmp_path).is_clean


def test_events_of_a_type_can_be_looked_at_on_the_way(tmp_path: Path) -> None:
    write(tmp_path, 9)
    seen: list[Stored] = []
    verify_journal(tmp_path, visit={"Asked": seen.append})
    assert [event.seq for event in seen] == [3, 6, 9]


def test_a_journal_that_grows_into_further_segments_while_it_is_read_is_read_to_its_end(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path)
    for _ in range(3):
        journal.append()

    def go_on(event: Stored) -> None:
        if event.seq in (3, 6):
            journal.append()
            assert journal.writer.rotate()
            journal.append()
            journal.append()

    report = verify_journal(tmp_path, visit={"Asked": go_on})
    assert report.is_clean
    assert (report.pieces, len(report.segments)) == ([(1, 9)], 3)
    journal.close(orderly=False)


def test_metadata_from_before_it_had_checksums_is_noted(tmp_path: Path) -> None:
    write(tmp_path, 2, hub=False, orderly=False)
    path = segment_path(tmp_path, 1)
    stored = path.read_bytes()
    (start, end) = spans(stored, (mcap.METADATA,))[0]
    (raw,) = mcap.records(stored[start:end])
    name, pairs = mcap.parse_metadata(stored[start:end], raw)

    def text(value: str) -> bytes:
        return len(value).to_bytes(4, "little") + value.encode()

    strings = b"".join(text(key) + text(value) for key, value in pairs.items())
    content = text(name) + len(strings).to_bytes(4, "little") + strings
    plain = b"\x0c" + len(content).to_bytes(8, "little") + content
    path.write_bytes(stored[:start] + plain + stored[end:])
    report = verify_journal(tmp_path)
    assert report.is_clean
    assert report.notes[-1] == "1 metadata records are from before they had checksums"


@pytest.mark.parametrize("pairs", [{"node": "a"}, {"node": "a", "incarnation": "one", "session": "s"}])
def test_a_hello_that_says_nothing_is_damage(tmp_path: Path, pairs: dict[str, str]) -> None:
    write(tmp_path, 2, orderly=False)
    with segment_path(tmp_path, 1).open("ab") as file:
        file.write(mcap.metadata(HELLO, pairs))
    (damage,) = verify_journal(tmp_path).damages
    assert "cannot be understood" in damage.text


def test_damages_are_counted_beyond_those_that_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_verify, "MAX_DAMAGES", 3)
    write(tmp_path, 9)
    path = segment_path(tmp_path, 1)
    for _, end in spans(path.read_bytes())[::2]:
        flip(path, end - 10)
    report = verify_journal(tmp_path)
    assert (len(report.damages), report.further) == (3, 2)
    assert journal_report.MAX_DAMAGES == 1000


def test_no_journal_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="holds no journal"):
        verify_journal(tmp_path)
    with pytest.raises(JournalError, match="holds no journal"):
        verify_journal(tmp_path / "nothing")
    segment_path(tmp_path, 1).mkdir()
    with pytest.raises(JournalError, match="cannot be read"):
        verify_journal(tmp_path)


def test_the_mark_of_a_closed_journal_is_plain_json(tmp_path: Path) -> None:
    write(tmp_path, 3)
    size = segment_path(tmp_path, 1).stat().st_size
    assert json.loads((tmp_path / "closed.json").read_bytes()) == {"segment": 1, "head": 3, "bytes": size}
