from __future__ import annotations

import os
from pathlib import Path

import pytest

from optix_bus.bus import mcap_format as mcap
from optix_bus.bus.journal_files import segment_path, segments
from optix_bus.bus.journal_reader import read_journal
from optix_bus.bus.journal_repair import Saved, free_name, repair_journal, replace_journal
from optix_bus.bus.journal_rewriter import LOST_SESSION
from optix_bus.bus.journal_verify import verify_journal
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import Ledger
from optix_bus.errors import ConfigurationError, JournalError
from tests.bus.journals import SECOND, START, Journal, files, flip, spans, swap, write


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    for sync in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, sync, lambda descriptor: None)


def damage_event(folder: Path, place: int, segment: int = 1) -> None:
    path = segment_path(folder, segment)
    flip(path, spans(path.read_bytes())[place][1] - 12)


def seqs(folder: Path, first: int = 1) -> list[int]:
    return [record.seq for record in read_journal(folder, first)]


def test_a_whole_journal_is_copied_to_the_byte(tmp_path: Path) -> None:
    write(tmp_path / "a", 40, segment_bytes=2000)
    repair = repair_journal(tmp_path / "a", tmp_path / "b")
    assert (repair.kept, repair.salvaged, repair.lost) == (Saved(1, 40, tmp_path / "b"), [], [])
    assert (repair.remarks, repair.moved) == ([], False)
    assert [path.name for path in files(tmp_path / "a")] == [path.name for path in files(tmp_path / "b")]
    for ours, theirs in zip(files(tmp_path / "a"), files(tmp_path / "b"), strict=True):
        assert ours.read_bytes() == theirs.read_bytes()
    assert not (tmp_path / "b.salvage").exists()


def test_a_torn_tail_is_cut_off_and_the_copy_is_closed(tmp_path: Path) -> None:
    write(tmp_path / "a", 5, orderly=False)
    path = segment_path(tmp_path / "a", 1)
    os.truncate(path, path.stat().st_size - 7)
    repair = repair_journal(tmp_path / "a", tmp_path / "b")
    assert (repair.kept.last, repair.lost) == (4, [])
    assert verify_journal(tmp_path / "b").closed


def test_events_behind_a_hole_become_journals_of_their_own(tmp_path: Path) -> None:
    records = write(tmp_path / "a", 40, segment_bytes=2000)
    whole = {path: path.read_bytes() for path in files(tmp_path / "a")}
    second = segments(tmp_path / "a")[1]
    damage_event(tmp_path / "a", 4)
    damage_event(tmp_path / "a", 2, second)
    damaged = {path: path.read_bytes() for path in whole}
    repair = repair_journal(tmp_path / "a", tmp_path / "b")
    assert repair.kept == Saved(1, 4, tmp_path / "b")
    assert repair.salvaged == [
        Saved(6, second + 1, tmp_path / "b.salvage" / "00000000000000000006"),
        Saved(second + 3, 40, tmp_path / "b.salvage" / f"{second + 3:020d}"),
    ]
    assert repair.lost == [(5, 5), (second + 2, second + 2)]
    for saved in repair.salvaged:
        assert list(read_journal(saved.path, saved.first)) == records[saved.first - 1 : saved.last]
        assert verify_journal(saved.path).is_clean
    assert {path: path.read_bytes() for path in whole} == damaged


def test_a_hub_goes_on_with_what_was_repaired(tmp_path: Path) -> None:
    write(tmp_path / "a", 40, segment_bytes=2000)
    damage_event(tmp_path / "a", 4, segments(tmp_path / "a")[1])
    repair = repair_journal(tmp_path / "a", tmp_path / "b")
    again = Journal(tmp_path / "b", hub=False)
    assert again.writer.head == repair.kept.last
    learner = again.ledger.nodes["learner"]
    assert (learner.incarnation, learner.session) == (1, "0123456789abcdef")
    again.hello("learner", 2)
    again.append("learner")
    again.close()
    assert verify_journal(tmp_path / "b").is_clean
    assert seqs(tmp_path / "b") == list(range(1, repair.kept.last + 2))


def test_wrong_bytes_around_events_are_mended_without_loss(tmp_path: Path) -> None:
    records = write(tmp_path / "a", 40, segment_bytes=2000)
    first, second, third = files(tmp_path / "a")[:3]
    flip(first, 3)  # the magic
    flip(first, spans(first.read_bytes(), (mcap.CHANNEL,))[0][0] + 20)
    flip(second, 60)  # its state
    flip(second, spans(second.read_bytes())[3][0] + 2)  # a length
    flip(third, third.stat().st_size - 30)  # its ending
    (tmp_path / "a" / "closed.json").write_bytes(b"")
    assert len(verify_journal(tmp_path / "a").damages) >= 6
    repair = repair_journal(tmp_path / "a", tmp_path / "b")
    assert (repair.kept.last, repair.salvaged, repair.lost, repair.moved) == (40, [], [], False)
    assert list(read_journal(tmp_path / "b")) == records
    assert verify_journal(tmp_path / "b").is_clean


def test_events_that_were_exchanged_are_put_in_order(tmp_path: Path) -> None:
    records = write(tmp_path / "a", 9)
    swap(segment_path(tmp_path / "a", 1), 4)
    repair = repair_journal(tmp_path / "a", tmp_path / "b")
    assert (repair.kept.last, repair.salvaged, repair.lost) == (9, [], [])
    assert list(read_journal(tmp_path / "b")) == records


def test_a_hello_that_is_lost_is_written_anew_where_its_first_event_stands(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a")
    for _ in range(3):
        journal.append()
    journal.hello("learner", 2)
    journal.append("learner")
    journal.close()
    path = segment_path(tmp_path / "a", 1)
    flip(path, spans(path.read_bytes(), (mcap.METADATA,))[-1][1] - 30)
    repair = repair_journal(tmp_path / "a", tmp_path / "b")
    assert repair.kept.last == 4
    assert repair.remarks == ["no HELLO of incarnation 2 of learner is before event 4: one is written there"]
    assert repair.moved
    assert verify_journal(tmp_path / "b").is_clean
    ledger = Ledger()
    JournalWriter(tmp_path / "b", ledger).close()
    assert (ledger.nodes["learner"].incarnation, ledger.nodes["learner"].session) == (2, LOST_SESSION)


def test_an_event_that_no_hub_would_have_taken_begins_a_journal_of_its_own(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a")
    for _ in range(3):
        journal.append()
    journal.append(stamp_ns=START + SECOND)
    journal.append()
    journal.append("learner", incarnation=7)
    journal.append()
    journal.append("learner", cause=8)
    journal.append("learner", cause=9)
    journal.close()
    repair = repair_journal(tmp_path / "a", tmp_path / "b")
    assert repair.kept.last == 3
    assert repair.lost == []
    assert [(saved.first, saved.last) for saved in repair.salvaged] == [(4, 7), (8, 8), (9, 9)]
    assert verify_journal(tmp_path / "b").is_clean
    assert "event 4 cannot follow the one before it: its stamp" in repair.remarks[0]


def test_events_that_stand_there_twice_are_kept_once(tmp_path: Path) -> None:
    records = write(tmp_path / "a", 9)
    path = segment_path(tmp_path / "a", 1)
    stored = path.read_bytes()
    start, end = spans(stored)[3][0], spans(stored)[5][1]
    path.write_bytes(stored[:end] + stored[start:])
    repair = repair_journal(tmp_path / "a", tmp_path / "b")
    assert repair.salvaged == []
    assert list(read_journal(tmp_path / "b")) == records


def test_a_segment_that_is_gone_is_lost_with_its_events(tmp_path: Path) -> None:
    write(tmp_path / "a", 40, segment_bytes=2000)
    first, second, third = segments(tmp_path / "a")[:3]
    segment_path(tmp_path / "a", second).unlink()
    repair = repair_journal(tmp_path / "a", tmp_path / "b")
    assert (repair.kept.first, repair.kept.last) == (first, second - 1)
    assert [(saved.first, saved.last) for saved in repair.salvaged] == [(third, 40)]
    assert repair.lost == [(second, third - 1)]
    # The state of the third segment says who lived: no HELLO has to be invented.
    assert repair.remarks == []


def test_a_journal_whose_older_segments_were_removed_is_repaired_from_where_it_begins(tmp_path: Path) -> None:
    write(tmp_path / "a", 40, segment_bytes=2000)
    _, second, third = segments(tmp_path / "a")[:3]
    segment_path(tmp_path / "a", 1).unlink()
    damage_event(tmp_path / "a", 1, third)
    repair = repair_journal(tmp_path / "a", tmp_path / "b")
    assert (repair.kept.first, repair.kept.last) == (second, third)
    assert verify_journal(tmp_path / "b").is_clean
    flip(segment_path(tmp_path / "a", second), 60)
    repair = repair_journal(tmp_path / "a", tmp_path / "c", run="by hand")
    assert repair.remarks[0] == f"what was known of the nodes before event {second} is lost"
    assert verify_journal(tmp_path / "c").is_clean


def test_nothing_that_can_be_read_leaves_an_empty_journal(tmp_path: Path) -> None:
    write(tmp_path / "a", 3)
    segment_path(tmp_path / "a", 1).write_bytes(b"not a journal")
    repair = repair_journal(tmp_path / "a", tmp_path / "b", run="known elsewhere")
    assert (repair.kept.first, repair.kept.last, repair.lost) == (1, 0, [(1, 3)])
    report = verify_journal(tmp_path / "b")
    assert (report.is_clean, report.events, report.run) == (True, 0, "known elsewhere")


def test_a_repaired_journal_takes_the_place_of_the_damaged_one_which_stays(tmp_path: Path) -> None:
    journal, repaired = tmp_path / "journal", tmp_path / "journal.repaired"
    write(journal, 9)
    damage_event(journal, 4)
    damaged = segment_path(journal, 1).read_bytes()
    repair_journal(journal, repaired)
    assert replace_journal(journal, repaired) == tmp_path / "journal.damaged"
    assert segment_path(tmp_path / "journal.damaged", 1).read_bytes() == damaged
    assert not repaired.exists()
    assert seqs(journal) == [1, 2, 3, 4]
    assert free_name(tmp_path / "journal.damaged") == tmp_path / "journal.damaged-2"
    (tmp_path / "journal.damaged-2").mkdir()
    assert free_name(tmp_path / "journal.damaged") == tmp_path / "journal.damaged-3"


def test_a_journal_that_a_hub_writes_is_not_repaired(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a")
    with pytest.raises(JournalError, match="a hub writes the journal in"):
        repair_journal(tmp_path / "a", tmp_path / "b")
    journal.close()
    repair_journal(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "lock").unlink()
    assert repair_journal(tmp_path / "b", tmp_path / "c").kept.last == 0


def test_nothing_is_written_over_and_nothing_half_done_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a", 9)
    (tmp_path / "b").mkdir()
    with pytest.raises(ConfigurationError, match="exists already"):
        repair_journal(tmp_path / "a", tmp_path / "b")
    with pytest.raises(JournalError, match="holds no journal"):
        repair_journal(tmp_path / "b", tmp_path / "c")

    def refuse(*_: object) -> int:
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(JournalWriter, "append", refuse)
        with pytest.raises(JournalError, match="cannot be written"):
            repair_journal(tmp_path / "a", tmp_path / "c")
    with monkeypatch.context() as patch:
        patch.setattr(JournalWriter, "append_hello", refuse)
        with pytest.raises(JournalError, match="cannot be written"):
            repair_journal(tmp_path / "a", tmp_path / "c")
    assert not (tmp_path / "c").exists()
