"""Catching up from the file, and where in it the search begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from optix_bus.bus import mcap_format as mcap
from optix_bus.bus.journal_files import segment_path, segments
from optix_bus.bus.journal_follower import JournalFollower
from optix_bus.bus.journal_reader import JournalCursor
from optix_bus.bus.link import Link
from optix_bus.errors import JournalError
from tests.bus.harness import HubThread, body, collect
from tests.bus.journals import TYPES, Journal, place_of, ticks, written


def follower(folder: Path, near: tuple[int, tuple[int, int]] | None = None) -> JournalFollower:
    made = JournalFollower(near)
    made.learn_directory(str(folder))
    return made


def spoil_front(folder: Path) -> None:
    """Whoever reads this segment from its beginning meets a record that cannot be."""
    path = segment_path(folder, segments(folder)[-1])
    with path.open("r+b") as file:
        file.seek(len(mcap.MAGIC) + 1)
        file.write(b"\xff" * 8)


def test_a_place_to_begin_at_spares_what_is_before_it(tmp_path: Path) -> None:
    place = place_of(written(tmp_path, ticks(9)), 6)
    spoil_front(tmp_path)
    assert [record.seq for record in follower(tmp_path, (6, place)).read(7, 9)] == [7, 8, 9]
    with pytest.raises(JournalError, match="damaged"):
        follower(tmp_path).read(7, 9)


def test_a_place_behind_the_event_that_is_wanted_is_of_no_use(tmp_path: Path) -> None:
    place = place_of(written(tmp_path, ticks(9)), 6)
    assert [record.seq for record in follower(tmp_path, (6, place)).read(2, 3)] == [2, 3]


@pytest.mark.parametrize("first", [4, 6, 7, 8, 10, 12])
def test_a_place_in_an_older_file_leads_to_the_event_all_the_same(tmp_path: Path, first: int) -> None:
    """A file may be full between the place that was noted and the event that is wanted."""
    place = place_of(written(tmp_path, ticks(12), segment_events=3), 4)
    found = follower(tmp_path, (4, place)).read(first, 12)
    assert [record.seq for record in found] == list(range(first, 13))


def test_a_place_at_the_end_of_a_file_leads_into_the_next(tmp_path: Path) -> None:
    """A beacon points behind the last event, where the ending of a full file then stands."""
    written(tmp_path, ticks(4), segment_events=3)
    last = JournalCursor(tmp_path)
    last.read(limit=3)
    end = (last._segment, last._offset)
    last.close()
    assert end[0] == 1
    assert [record.seq for record in follower(tmp_path, (4, end)).read(4, 4)] == [4]


def test_who_read_other_events_live_jumps_over_whole_files(tmp_path: Path) -> None:
    reader = follower(written(tmp_path, ticks(12), segment_events=3))
    assert [record.seq for record in reader.read(1, 2)] == [1, 2]
    assert [record.seq for record in reader.read(8, 9)] == [8, 9]
    assert [record.seq for record in reader.read(12, 12)] == [12]
    assert reader.read(13, 13) == []


@pytest.mark.parametrize("step", [1, 2, 5, 40])
def test_unwanted_types_are_passed_and_wanted_ones_come_in_order(tmp_path: Path, step: int) -> None:
    """A journal that grows while it is read: new channels, full files, HELLOs between events."""
    journal = Journal(tmp_path, segment_bytes=1500)
    reader, wanted = follower(tmp_path), frozenset({"Asked", "Late"})
    kinds = ["Late" if number % 11 == 0 else TYPES[number % 3] for number in range(1, 41)]
    found: list[int] = []
    for number, kind in enumerate(kinds, start=1):
        journal.append(kind=kind)
        if number % 7 == 0:
            journal.hello("learner", number)
        while number % step == 0 and reader.seq <= number:
            found += [record.seq for record in reader.read(max(reader.seq, 1), number, wanted)]
    assert len(segments(tmp_path)) > 2
    assert found == [number for number, kind in enumerate(kinds, start=1) if kind in wanted]


def test_other_types_can_be_wanted_from_now_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for _ in range(9):
        journal.append()
    reader = follower(tmp_path)
    assert [record.type for record in reader.read(1, 3, frozenset({"Asked"}))] == ["Asked"]
    assert [record.type for record in reader.read(4, 6, frozenset({"Asked"}))] == ["Asked"]
    assert [record.type for record in reader.read(7, 9, frozenset({"Learnt"}))] == ["Learnt"]


def test_damage_is_met_by_who_passes_events_of_that_type_no_sooner_than_by_others(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for _ in range(6):
        journal.append()
    reader = follower(tmp_path)
    assert [record.seq for record in reader.read(1, 2)] == [1, 2]
    path = segment_path(tmp_path, segments(tmp_path)[-1])
    content = path.read_bytes()
    spoilt = content.replace(
        body(n=5, text="some words", score=5 / 3), body(n=5, text="SOME words", score=5 / 3)
    )
    path.write_bytes(spoilt)
    assert [record.seq for record in reader.read(3, 6)] == [3, 4]
    with pytest.raises(JournalError, match="no event"):
        reader.read(5, 6)


def test_a_link_that_is_told_a_place_begins_there(hub: HubThread, connect: Callable[..., Link]) -> None:
    speaker = connect(["a"], 1)
    for index in range(9):
        speaker.emit("a", 0, index, "Tick", body(n=index))
    collect(speaker, 9)
    place = place_of(hub.journal, 6)
    spoil_front(hub.journal)
    listener = connect(from_seq=7, near=(6, place))
    assert [record.seq for record in collect(listener, 3)] == [7, 8, 9]
