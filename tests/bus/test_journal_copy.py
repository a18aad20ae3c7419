"""The past that two futures share: which events belong to it, and that a hub can go on behind them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optix_bus.bus.journal_copy import copy_past
from optix_bus.bus.journal_files import segments
from optix_bus.bus.journal_reader import read_journal
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import ACCEPTED, REPEATED, Ledger
from optix_bus.bus.record import Record
from optix_bus.errors import JournalError
from tests.bus.journals import Identity, ticks, written

#: Two nodes answer each other; 4 is a root of a third, and 6 answers an older event than 5 does.
TALK: list[Identity] = [
    ("a", 0, 0),
    ("a", 1, 0),
    ("b", 1, 0),
    ("c", 0, 0),
    ("a", 3, 0),
    ("b", 2, 0),
    ("b", 5, 0),
    ("c", 0, 1),
    ("a", 3, 1),
]


def copied(source: Path, up_to: int, **options: object) -> tuple[int, list[Record]]:
    target = source.with_name("copy")
    head = copy_past(source, target, "copy", up_to, **options)  # type: ignore[arg-type]
    return head, list(read_journal(target))


def hub_behind(target: Path) -> tuple[JournalWriter, Ledger]:
    """What a hub knows that goes on with a journal."""
    ledger = Ledger()
    return JournalWriter(target, ledger, run="copy"), ledger


def test_the_past_is_copied_as_it_is(tmp_path: Path) -> None:
    source = written(tmp_path / "source", ticks(9))
    head, records = copied(source, 6)
    assert head == 6
    assert records == list(read_journal(source))[:6]


def test_answers_to_the_past_belong_to_it_and_move_up(tmp_path: Path) -> None:
    """At 4, the answers 5, 6 and 9 (to 3, 2 and 3) are decided; 7 answers what will not be, 8 is free."""
    source = written(tmp_path / "source", TALK)
    then = {record.seq: record for record in read_journal(source)}
    head, records = copied(source, 4)
    assert [record.identity for record in records] == [TALK[seq - 1] for seq in (1, 2, 3, 4, 5, 6, 9)]
    assert [record.seq for record in records] == list(range(1, 8))
    assert head == 7
    assert [(r.stamp_ns, r.body) for r in records[4:]] == [
        (then[s].stamp_ns, then[s].body) for s in (5, 6, 9)
    ]


def test_who_copies_is_told_what_stays_and_what_does_not(tmp_path: Path) -> None:
    source = written(tmp_path / "source", TALK)
    kept: list[Record] = []
    dropped: list[Record] = []
    _, records = copied(source, 4, kept=kept.append, dropped=dropped.append)
    assert kept == records
    assert [record.seq for record in dropped] == [7, 8]


def test_nothing_can_be_the_past(tmp_path: Path) -> None:
    assert copied(written(tmp_path / "source", TALK), 0) == (0, [])


def test_the_whole_journal_can_be_the_past(tmp_path: Path) -> None:
    source = written(tmp_path / "source", TALK)
    assert copied(source, len(TALK)) == (len(TALK), list(read_journal(source)))


def test_a_past_that_has_not_been_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "source", ticks(5))
    with pytest.raises(JournalError, match="ends at event 5, 6 was asked for"):
        copied(source, 6)


def test_a_folder_with_a_journal_is_no_place_for_a_copy(tmp_path: Path) -> None:
    source = written(tmp_path / "source", ticks(5))
    written(tmp_path / "copy", ticks(2), run="copy")
    with pytest.raises(JournalError, match="already"):
        copied(source, 4)
    assert len(list(read_journal(tmp_path / "copy"))) == 2


def test_it_is_read_over_several_files_and_written_to_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path / "source", ticks(2000), segment_events=150)
    monkeypatch.setattr(JournalWriter, "is_full", property(lambda journal: journal.position[1] > 8192))
    head, records = copied(source, 1800)
    assert head == 1800
    assert records == list(read_journal(source))[:1800]
    assert len(segments(tmp_path / "copy")) > 2


def test_a_damaged_past_is_refused_and_a_damaged_future_too(tmp_path: Path) -> None:
    """What lies behind could hold answers to the past: nobody can know that there were none."""
    source = written(tmp_path / "source", ticks(9))
    path = source / f"{1:020d}.mcap"
    stored = bytearray(path.read_bytes())
    place = stored.rfind(b"\x81\xa1n\x08")
    stored[place + 3] ^= 1
    path.write_bytes(bytes(stored))
    with pytest.raises(JournalError):
        copied(source, 5)


def test_a_disk_that_takes_no_more_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = written(tmp_path / "source", ticks(9))
    monkeypatch.setattr(JournalWriter, "append", lambda *_: 3)
    monkeypatch.setattr(JournalWriter, "failure", "No space left on device (errno 28)")
    with pytest.raises(JournalError, match="No space left"):
        copied(source, 5)


def test_a_hub_goes_on_behind_a_copy_and_takes_nothing_twice(tmp_path: Path) -> None:
    source = written(tmp_path / "source", TALK)
    copied(source, 4)
    journal, ledger = hub_behind(source.with_name("copy"))
    try:
        assert (journal.head, journal.stamp_ns) == (7, 9000)
        for number, (node, cause, index) in enumerate([("a", 3, 1), ("a", 5, 0), ("a", 0, 1)]):
            assert ledger.hello(node, 2, "next", number) == ACCEPTED
            expected = REPEATED if (cause, index) == (3, 1) else ACCEPTED
            assert ledger.accept(node, 2, number, cause, index, head=7) == expected
        assert ledger.hello("b", 2, "next", 0) == ACCEPTED
        assert ledger.accept("b", 2, 0, 2, 0, head=7) == REPEATED
        assert ledger.hello("c", 2, "next", 0) == ACCEPTED
        assert ledger.accept("c", 2, 0, 0, 0, head=7) == REPEATED
        # Its second root was left out, so it may be said again.
        assert ledger.accept("c", 2, 1, 0, 1, head=7) == ACCEPTED
    finally:
        journal.close()


@st.composite
def talks(draw: st.DrawFn) -> list[Identity]:
    """Any journal: each node answers events in their order, and says roots in between."""
    last: dict[str, tuple[int, int]] = {}
    roots: dict[str, int] = {}
    found: list[Identity] = []
    for seq in range(1, draw(st.integers(2, 30))):
        node = draw(st.sampled_from("abc"))
        cause, index = last.get(node, (0, -1))
        new = draw(st.integers(cause, seq - 1))
        if new and draw(st.booleans()):
            last[node] = (new, index + 1 if new == cause else 0)
            found.append((node, *last[node]))
        else:
            roots[node] = roots.get(node, -1) + 1
            found.append((node, 0, roots[node]))
    return found


@settings(max_examples=25)
@given(talks(), st.data())
def test_a_copy_is_what_the_hub_would_have_written_had_it_stopped_there(
    tmp_path_factory: pytest.TempPathFactory, identities: list[Identity], data: st.DataObject
) -> None:
    """For each node the copy holds the first of its events, and exactly those that the past decides."""
    folder = tmp_path_factory.mktemp("talk")
    up_to = data.draw(st.integers(0, len(identities)))
    source = written(folder / "source", identities)
    head, records = copied(source, up_to)
    assert [record.seq for record in records] == list(range(1, head + 1))
    assert all(record.cause <= up_to for record in records)
    stamps = [record.stamp_ns for record in records]
    assert stamps == sorted(set(stamps))
    for node in "abc":
        kept = [r.identity for r in records if r.node == node]
        assert kept == [
            identity
            for seq, identity in enumerate(identities, start=1)
            if identity[0] == node and (seq <= up_to or 0 < identity[1] <= up_to)
        ]
    journal, ledger = hub_behind(folder / "copy")
    journal.close()
    for record in records:
        state = ledger.nodes[record.node]
        known = state.root if record.cause == 0 else (state.cause, state.index)
        assert (record.index if record.cause == 0 else (record.cause, record.index)) <= known
