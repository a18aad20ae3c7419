"""Before a dead run goes on: what is refused, where it begins, and what it sets aside."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from optix_bus.bus.journal_copy import copy_past
from optix_bus.bus.journal_files import segment_path, segments
from optix_bus.bus.journal_reader import read_journal
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import Ledger
from optix_bus.errors import ConfigurationError
from optix_bus.runtime.cuts import CutFolder
from optix_bus.runtime.names import SUPERVISOR
from optix_bus.runtime.plan import Past, RunPlan
from optix_bus.runtime.replay_run import RecordedRun
from optix_bus.runtime.resume import prepare
from optix_bus.runtime.run_directory import RunDirectory
from tests.bus.journals import place_of
from tests.cli.run_folders import gone, this_process
from tests.runtime.deaths import blobs_of, died, first, stored


def announced(run: RecordedRun, cut: int) -> int:
    return first(run.directory, "CutAnnounced", cut=cut)


def window(run: RecordedRun, number: int) -> int:
    """An event in the middle of a window: the learner has learnt, nothing is judged."""
    return first(run.directory, "PolicyUpdated", window=number)


def cuts_on_disk(run: RunDirectory) -> list[str]:
    return sorted(path.name for path in (run.root / "cuts").iterdir())


def seqs(folder: Path) -> list[int]:
    return [record.seq for record in read_journal(folder)]


# -- what is refused -----------------------------------------------------------------------------------------


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no run"):
        prepare(RunDirectory(tmp_path))


def test_a_run_that_is_running_is_left_alone(repeating: RecordedRun, tmp_path: Path) -> None:
    run = died(repeating.directory.root, tmp_path / "run", window(repeating, 6))
    record = run.read()
    record.supervisor = this_process(SUPERVISOR)
    run.write(record)
    before = stored(run.root)
    with pytest.raises(ConfigurationError, match=rf"is running \(pid {os.getpid()}\)"):
        prepare(run)
    assert stored(run.root) == before


@pytest.mark.parametrize("damaged", [False, True])
def test_a_run_that_has_ended_is_refused_and_loses_nothing(
    repeating: RecordedRun, tmp_path: Path, damaged: bool
) -> None:
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(repeating.directory.root, run.root)
    record = run.read()
    record.supervisor = gone(SUPERVISOR)
    run.write(record)
    if damaged:
        (run.root / "cuts" / "000003" / "learner.safetensors").write_bytes(b"nothing")
    before = stored(run.root)
    end = first(run, "RunFinished")
    with pytest.raises(ConfigurationError, match=rf"ended \(max_episodes\) at event {end}.*optix-bus fork"):
        prepare(run)
    assert stored(run.root) == before


# -- where it begins -----------------------------------------------------------------------------------------


def test_it_begins_at_the_newest_cut_and_repeats_the_rest(repeating: RecordedRun, tmp_path: Path) -> None:
    at = window(repeating, 6)
    run = died(repeating.directory.root, tmp_path / "run", at)
    (tmp_path / "optix-bus-sockets").mkdir()
    record = run.read()
    record.sockets = str(tmp_path / "optix-bus-sockets")
    run.write(record)
    found = prepare(run)
    sequence = announced(repeating, 3)
    assert found.cut is not None
    assert (found.cut.number, found.cut.sequence, found.head) == (3, sequence, at)
    assert (found.started, found.roots, found.remarks) == (True, 1, [])
    assert found.incarnations == {SUPERVISOR: 1, **{node.name: 1 for node in found.plan.nodes}}
    assert found.lines == [f"resumed at cut 3, after window 5: {at - sequence} events are repeated"]
    assert found.plan.run_directory == str(run.root.resolve())
    assert not (tmp_path / "optix-bus-sockets").exists()
    assert seqs(run.journal) == list(range(1, at + 1))
    assert not (run.root / "set-aside").exists()


def test_a_damaged_cut_is_named_and_all_nodes_begin_at_an_older_one(
    repeating: RecordedRun, tmp_path: Path
) -> None:
    run = died(repeating.directory.root, tmp_path / "run", window(repeating, 6))
    damaged = run.root / "cuts" / "000003" / "scheduler.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    found = prepare(run)
    assert found.cut is not None
    assert found.cut.number == 2
    assert len(found.remarks) == 1
    assert found.remarks[0].startswith(f"cut 3 (window 5) was skipped: {damaged} is damaged")
    # No process may begin where another cannot.
    assert cuts_on_disk(run) == ["000001", "000002"]


def test_without_any_whole_cut_it_begins_at_the_first_event(repeating: RecordedRun, tmp_path: Path) -> None:
    run = died(repeating.directory.root, tmp_path / "run", window(repeating, 6))
    for path in (run.root / "cuts").glob("*/learner.safetensors"):
        path.unlink()
    found = prepare(run)
    assert found.cut is None
    assert [remark.split(" (")[0] for remark in found.remarks] == ["cut 3", "cut 2", "cut 1"]
    assert found.lines[-1] == f"resumed: {found.head} events are repeated from the beginning"
    assert cuts_on_disk(run) == []


def test_a_cut_that_was_being_taken_goes(repeating: RecordedRun, tmp_path: Path) -> None:
    """Every state of it is on disk, but not every node has said so."""
    at = announced(repeating, 3) + 3
    run = died(repeating.directory.root, tmp_path / "run", at)
    found = prepare(run)
    assert found.cut is not None
    assert (found.cut.number, found.head, found.remarks) == (2, at, [])
    assert cuts_on_disk(run) == ["000001", "000002"]


def test_a_cut_behind_the_end_of_the_journal_goes(repeating: RecordedRun, tmp_path: Path) -> None:
    """The power went: the end of the journal was not on the disk yet, the states were."""
    at = window(repeating, 4)
    run = died(repeating.directory.root, tmp_path / "run", at)
    found = prepare(run)
    assert found.cut is not None
    assert (found.cut.number, found.head) == (2, at)
    assert cuts_on_disk(run) == ["000001", "000002"]


def test_a_torn_event_is_cut_off_first(repeating: RecordedRun, tmp_path: Path) -> None:
    at = window(repeating, 6)
    run = died(repeating.directory.root, tmp_path / "run", at)
    path = segment_path(run.journal, segments(run.journal)[-1])
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"\x05\x80\x00\x00\x00\x00\x00\x00\x00torn")
    assert prepare(run).head == at
    journal = JournalWriter(run.journal, Ledger())
    assert (journal.head, journal.torn_bytes, journal.position[1]) == (at, 0, whole)
    journal.close()


def test_a_run_that_died_before_it_started_is_started(repeating: RecordedRun, tmp_path: Path) -> None:
    run = died(repeating.directory.root, tmp_path / "run", 0)
    found = prepare(run)
    assert (found.cut, found.head, found.started, found.roots, found.incarnations) == (None, 0, False, 0, {})


# -- what cannot be repeated ---------------------------------------------------------------------------------


def test_what_cannot_be_repeated_is_set_aside_and_the_run_goes_back_to_the_cut(
    forgetful: RecordedRun, tmp_path: Path
) -> None:
    run = died(forgetful.directory.root, tmp_path / "run", window(forgetful, 6))
    before = stored(run.root)
    records = list(read_journal(run.journal))
    sequence = announced(forgetful, 3)
    found = prepare(run)
    aside = run.root / "set-aside" / "1"
    dropped = [r for r in records if r.seq > sequence and not 0 < r.cause <= sequence]
    kept = [r for r in records if r not in dropped]
    assert found.cut is not None
    assert (found.cut.number, found.head, found.started) == (3, len(kept), True)
    assert found.remarks == [
        "the run went back to the cut after window 5, because its agent or its environment keeps more than a "
        f"cut can hold; {len(dropped)} events were set aside in {aside}"
    ]
    # What was decided by the cut stays, above all that every node has taken it.
    assert [r.identity for r in read_journal(run.journal)] == [r.identity for r in kept]
    assert list(read_journal(aside / "journal")) == records
    gone_blobs = {name for record in dropped for name in blobs_of(record)}
    assert gone_blobs
    kept_blobs = {name for record in kept for name in blobs_of(record)}
    there = {
        name.removeprefix("blobs/"): content for name, content in before.items() if name.startswith("blobs/")
    }
    assert set(stored(run.blobs)) == kept_blobs
    # Also those that the journal did not know yet: their names will be used again.
    assert stored(aside / "blobs") == {n: content for n, content in there.items() if n not in kept_blobs}
    assert gone_blobs <= stored(aside / "blobs").keys()
    assert cuts_on_disk(run) == ["000001", "000002", "000003"]
    assert stored(run.root / "checkpoints") == {
        k.removeprefix("checkpoints/"): v for k, v in before.items() if k.startswith("checkpoints/")
    }


def test_who_went_back_goes_on_and_need_not_go_back_again(forgetful: RecordedRun, tmp_path: Path) -> None:
    run = died(forgetful.directory.root, tmp_path / "run", window(forgetful, 6))
    once = prepare(run)
    again = prepare(run)
    assert (again.cut, again.head, again.remarks) == (once.cut, once.head, [])
    assert sorted(path.name for path in (run.root / "set-aside").iterdir()) == ["1"]


def test_snapshots_of_a_future_that_will_not_be_are_set_aside(forgetful: RecordedRun, tmp_path: Path) -> None:
    """Also where the run keeps them in a folder of its own."""
    at = window(forgetful, 6)
    run = died(forgetful.directory.root, tmp_path / "run", at)
    saved = [
        (record.seq, msgspec.msgpack.decode(record.body)["snapshot_id"])
        for record in read_journal(run.journal)
        if record.type == "SnapshotSaved"
    ]
    assert saved
    # Back to the beginning: all of them are of a future that will not be.
    shutil.rmtree(run.root / "cuts")
    elsewhere = tmp_path / "elsewhere"
    shutil.move(run.root / "checkpoints", elsewhere)
    plan = msgspec.json.decode((run.root / "plan.json").read_bytes())
    next(n for n in plan["nodes"] if n["name"] == "checkpoint")["settings"]["directory"] = str(elsewhere)
    (run.root / "plan.json").write_bytes(msgspec.json.encode(plan))
    found = prepare(run)
    assert (found.cut, found.head, found.started, found.roots) == (None, 0, False, 0)
    assert "went back to its beginning" in found.remarks[0]
    assert seqs(run.journal) == []
    assert not any((elsewhere / name).exists() for _, name in saved)
    assert {path.name for path in (run.root / "set-aside/1/checkpoints").iterdir()} == {n for _, n in saved}
    assert stored(run.blobs) == {}


def test_a_later_life_is_newer_than_all_before_also_those_that_were_set_aside(
    forgetful: RecordedRun, tmp_path: Path
) -> None:
    """A frame of theirs may still lie in some queue; and nobody may be taken for them."""
    run = died(forgetful.directory.root, tmp_path / "run", window(forgetful, 6))
    journal = JournalWriter(run.journal, Ledger())
    journal.append_hello("learner", 4, "session")
    journal.append_hello("notebook", 2, "session")
    journal.close()
    found = prepare(run)
    assert found.remarks
    assert (found.incarnations["learner"], found.incarnations["notebook"]) == (4, 2)


def test_where_events_are_in_a_journal_that_was_written_anew_is_searched_for(
    forgetful: RecordedRun, tmp_path: Path
) -> None:
    run = died(forgetful.directory.root, tmp_path / "run", window(forgetful, 6))
    folder = CutFolder(run.root)
    for place in folder.places():
        near = (place.sequence, *place_of(run.journal, place.sequence))
        known = msgspec.structs.replace(place, near=near)
        (run.root / "cuts" / f"{place.cut:06d}" / "cut.json").write_bytes(msgspec.json.encode(known))
    assert prepare(run).remarks
    assert [place.near for place in folder.places()] == [None] * 3


@pytest.mark.parametrize("copied", ["whole", "part"])
def test_who_died_while_going_back_goes_back_all_the_same(
    forgetful: RecordedRun, tmp_path: Path, copied: str
) -> None:
    run = died(forgetful.directory.root, tmp_path / "run", window(forgetful, 6))
    sequence = announced(forgetful, 3)
    copy = run.root / "journal.copied"
    if copied == "whole":
        # The old journal was set aside, the new one has not taken its place.
        head = copy_past(run.journal, copy, run.read().run_id, sequence)
        shutil.move(run.journal, tmp_path / "aside")
        found = prepare(run)
        assert found.remarks == []
    else:
        copy.mkdir()
        (copy / "garbage").write_bytes(b"half")
        found = prepare(run)
        head = len(seqs(run.journal))
        assert len(found.remarks) == 1
    assert (found.head, found.cut is not None) == (head, True)
    assert not copy.exists()


def test_who_can_repeat_everything_sets_nothing_aside_whoever_cannot(
    forgetful: RecordedRun, tmp_path: Path
) -> None:
    """Nothing was answered since the cut by a node that cannot repeat itself."""
    sequence = announced(forgetful, 3)
    at = max(r.seq for r in read_journal(forgetful.directory.journal) if 0 < r.cause <= sequence)
    run = died(forgetful.directory.root, tmp_path / "run", at)
    found = prepare(run)
    assert (found.head, found.remarks) == (at, [])


def test_a_fork_never_goes_back_behind_the_point_where_it_branches_off(
    forgetful: RecordedRun, tmp_path: Path
) -> None:
    run = died(forgetful.directory.root, tmp_path / "run", window(forgetful, 6))
    plan = RunPlan.read(run.root / "plan.json")
    plan.write(run.root / "plan.until-200.json")
    sequence = announced(forgetful, 3)
    past = Past(sequence=sequence + 1, plan="plan.until-200.json")
    msgspec.structs.replace(plan, past=past).write(run.root / "plan.json")
    before = seqs(run.journal)
    with pytest.raises(ConfigurationError, match=rf"branches off at event {sequence + 1}.*fork the original"):
        prepare(run)
    assert seqs(run.journal) == before
