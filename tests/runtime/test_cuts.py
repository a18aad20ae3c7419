"""Cuts: when one is complete, what is on disk of it, and which one a process can begin at."""

from __future__ import annotations

import builtins
import math
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from optix_bus.errors import BlobError, CheckpointError, ConfigurationError, JournalError, NodeFailure
from optix_bus.messages import CutAnnounced, CutTaken
from optix_bus.runtime.cuts import (
    KEEP,
    Cut,
    CutBook,
    CutFolder,
    Place,
    complete_cuts,
    take,
    usable_cut,
    write_whole,
)
from optix_bus.runtime.node import Node
from optix_bus.runtime.replay_run import RecordedRun
from optix_bus.types import NamedArrays
from tests.runtime.deaths import stored
from tests.runtime.stories import NODES, Story, knows


def taken(cut: int, node: str) -> CutTaken:
    return CutTaken(cut=cut, node=node, file=f"cuts/{cut:06d}/{node}.safetensors", bytes=1, checksum="0")


def announced(cut: int) -> CutAnnounced:
    return CutAnnounced(cut=cut, window=cut)


class Knowing(Node):
    """A node whose state is what the test says."""

    def __init__(self, state: object) -> None:
        self._state = state

    def state(self) -> NamedArrays:
        if isinstance(self._state, Exception):
            raise self._state
        assert isinstance(self._state, NamedArrays)
        return self._state


def names(cuts: Sequence[Cut]) -> list[int]:
    return [cut.number for cut in cuts]


def files(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file())


# -- when one is complete ------------------------------------------------------------------------------------


def test_a_cut_is_complete_when_the_last_of_its_nodes_has_said_so() -> None:
    book = CutBook({"a", "b"})
    assert not book.note(announced(1), 10)
    assert not book.note(taken(1, "b"), 11)
    assert not book.note(taken(1, "b"), 12)
    assert not book.note(taken(1, "stranger"), 13)
    assert book.complete == []
    assert book.note(taken(1, "a"), 14)
    assert [(cut.number, cut.sequence) for cut in book.complete] == [(1, 10)]


def test_what_was_said_before_the_announcement_is_of_no_cut() -> None:
    book = CutBook({"a", "b"})
    book.note(taken(1, "a"), 9)
    book.note(announced(1), 10)
    assert not book.note(taken(1, "b"), 11)


def test_a_newer_cut_that_is_not_complete_leaves_the_older_one_in_force() -> None:
    book = CutBook({"a"})
    book.note(announced(1), 1)
    book.note(taken(1, "a"), 2)
    book.note(announced(2), 3)
    assert names(book.complete) == [1]


def test_a_cut_that_was_overtaken_is_never_complete() -> None:
    book = CutBook({"a", "b"})
    for event, sequence in ((announced(1), 1), (taken(1, "a"), 2), (announced(2), 3), (taken(2, "a"), 4)):
        book.note(event, sequence)
    assert book.note(taken(2, "b"), 5)
    assert not book.note(taken(1, "b"), 6)
    assert names(book.complete) == [2]


def test_only_the_newest_complete_cuts_are_kept_in_mind() -> None:
    book = CutBook({"a"})
    for number in range(1, 9):
        book.note(announced(number), 10 * number)
        book.note(taken(number, "a"), 10 * number + 1)
    assert names(book.complete) == [8 - KEEP + 1 + i for i in range(KEEP)]


def test_cuts_that_are_known_to_be_complete_stand_before_those_that_follow(tmp_path: Path) -> None:
    with Story(tmp_path) as story:
        cut = story.cut()
    book = CutBook({"a"})
    book.start(cut)
    book.note(announced(2), 50)
    book.note(taken(2, "a"), 51)
    assert names(book.complete) == [1, 2]


# -- one state -----------------------------------------------------------------------------------------------


def test_a_state_comes_back_as_it_was_with_its_types_and_what_is_no_number(tmp_path: Path) -> None:
    state = NamedArrays(
        {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "done": np.array([True]), "n": np.int64(3)},
        {"best": math.nan, "open": [1, {"2": None}], "name": "ä"},
    )
    found = take("a", Knowing(state), announced(7))
    folder = CutFolder(tmp_path)
    folder.write([found], sequence=31, window=5)
    read = folder.read(found.event)
    assert {name: (array.dtype, array.tolist()) for name, array in read.arrays.items()} == {
        name: (np.asarray(array).dtype, np.asarray(array).tolist()) for name, array in state.arrays.items()
    }
    assert math.isnan(read.metadata.pop("best"))
    assert read.metadata == {"open": [1, {"2": None}], "name": "ä"}
    assert found.event.file == "cuts/000007/a.safetensors"
    assert (tmp_path / found.event.file).stat().st_size == found.event.bytes
    assert folder.places() == [Place(7, 31, 5)]


@pytest.mark.parametrize(
    ("state", "error", "words"),
    [
        (NamedArrays({}, {"when": object()}), CheckpointError, "the state of node 'a' cannot be stored"),
        (NamedArrays({"x": np.array(["text"])}), CheckpointError, "the state of node 'a' cannot be stored"),
        (ValueError("no such luck"), NodeFailure, r"'a' in state\(\): ValueError: no such luck"),
        (ConfigurationError("its own words"), ConfigurationError, "^its own words"),
    ],
)
def test_a_node_that_cannot_say_its_state_is_named(state: object, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        take("a", Knowing(state), announced(1))


def test_a_node_that_cannot_repeat_itself_says_so_with_its_state() -> None:
    class Forgetful(Knowing):
        repeats = False

    assert take("a", Knowing(knows(1)), announced(1)).event.repeats
    assert not take("a", Forgetful(knows(1)), announced(1)).event.repeats


@pytest.mark.parametrize("call", ["replace", "makedirs"])
@pytest.mark.parametrize("before", [False, True])
def test_a_disk_that_fails_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, before: bool
) -> None:
    """What was there before, from an earlier life, is still there and whole."""
    folder = CutFolder(tmp_path)
    found = take("a", Knowing(knows(1)), announced(1))
    if before:
        folder.write([found], 5, 1)
    left = files(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    message = r"a cut cannot be written to .* \(state of node 'a'\): No space left"
    with monkeypatch.context() as broken:
        broken.setattr(os, call, fail)
        with pytest.raises(CheckpointError, match=message):
            folder.write([found], 6, 1)
    assert files(tmp_path) == left
    if before:
        assert folder.read(found.event).metadata == knows(1).metadata


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_disk_that_is_full_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CutFolder(tmp_path)
    whole = builtins.open
    with monkeypatch.context() as full:
        full.setattr(
            "builtins.open", lambda path, mode: (whole(path, mode).close(), whole("/dev/full", mode))[1]
        )
        with pytest.raises(CheckpointError, match="No space left"):
            folder.write([take("a", Knowing(knows(1)), announced(1))], 6, 1)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_cut_that_does_not_reach_the_disk_is_reported_at_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes a cut does not wait for the disk, but for the cut before it."""
    folder = CutFolder(tmp_path)
    asked, may_go_on = threading.Event(), threading.Event()

    def refuse(_: int) -> None:
        asked.set()
        assert may_go_on.wait(30)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    folder.write([take("a", Knowing(knows(1)), announced(1))], 6, 1)
    assert asked.wait(30)
    assert folder.read(take("a", Knowing(knows(1)), announced(1)).event).metadata == knows(1).metadata
    may_go_on.set()
    with pytest.raises(CheckpointError, match=r"\(one before it\): Input/output error"):
        folder.write([take("a", Knowing(knows(2)), announced(2))], 9, 2)


def test_a_file_of_many_pieces_is_written_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "file", [memoryview(b"0123456"), memoryview(b""), memoryview(b"789")])
    assert (tmp_path / "new" / "file").read_bytes() == b"0123456789"


@pytest.mark.parametrize("how", ["missing", "flipped", "longer", "shorter", "empty", "another's"])
def test_a_state_that_is_not_what_was_written_is_not_taken(tmp_path: Path, how: str) -> None:
    with Story(tmp_path) as story:
        cut = story.announce()
        said = story.take(cut, "a")
        other = story.take(story.announce(), "a")
    path = tmp_path / said.file
    stored = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "flipped":
        story.spoil(cut, "a")
    elif how == "another's":
        path.write_bytes((tmp_path / other.file).read_bytes())
    else:
        path.write_bytes({"longer": stored + b"\0", "shorter": stored[:-1], "empty": b""}[how])
    with pytest.raises((CheckpointError, BlobError), match=path.name):
        story.folder.read(said)


def test_a_stored_state_holds_neither_a_stamp_nor_a_number_of_an_event(tmp_path: Path) -> None:
    """Only cut.json knows where in its journal a cut lies: the same state gives the same file everywhere."""
    for name, events in (("one", 3), ("other", 8)):
        with Story(tmp_path / name) as story:
            story.pass_time(events)
            story.cut(with_near=True)
    one, other = (
        {p.name: p.read_bytes() for p in (tmp_path / n / "cuts/000001").iterdir()} for n in ("one", "other")
    )
    assert one.pop("cut.json") != other.pop("cut.json")
    assert one == other
    assert set(one) == {f"{node}.safetensors" for node in NODES}


def test_the_same_seed_gives_the_same_cuts_to_the_byte(repeating: RecordedRun, repeated: RecordedRun) -> None:
    one, other = (stored(run.directory.root / "cuts") for run in (repeating, repeated))
    nodes = {f"{node.name}.safetensors" for node in repeating.plan.nodes}
    assert one == other
    assert set(one) == {f"00000{cut}/{name}" for cut in (1, 2, 3) for name in nodes | {"cut.json"}}


# -- the folder ----------------------------------------------------------------------------------------------


def test_old_cuts_go_and_what_is_no_cut_stays(tmp_path: Path) -> None:
    with Story(tmp_path) as story:
        for _ in range(4):
            story.cut()
    (tmp_path / "cuts" / "notes").mkdir()
    story.folder.prune(3)
    story.folder.settle()
    assert sorted(path.name for path in (tmp_path / "cuts").iterdir()) == ["000003", "000004", "notes"]
    story.folder.remove_after(3)
    assert sorted(path.name for path in (tmp_path / "cuts").iterdir()) == ["000003", "notes"]
    story.folder.remove_after(0)
    assert sorted(path.name for path in (tmp_path / "cuts").iterdir()) == ["notes"]


def test_nobody_waits_for_old_cuts_to_go_but_the_next_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Story(tmp_path) as story:
        for _ in range(2):
            story.cut()
        may_go_on, remove = threading.Event(), shutil.rmtree

        def wait(path: Path, ignore_errors: bool) -> None:
            assert may_go_on.wait(30)
            remove(path, ignore_errors)

        monkeypatch.setattr(shutil, "rmtree", wait)
        story.folder.prune(2)
        assert [place.cut for place in story.folder.places()] == [2, 1]
        may_go_on.set()
        story.cut()
        assert [place.cut for place in story.folder.places()] == [3, 2]


def test_of_the_processes_of_a_run_one_keeps_its_cuts(tmp_path: Path) -> None:
    """The others write states, not once more where the cut lies, and remove nothing."""
    keeping, other = CutFolder(tmp_path), CutFolder(tmp_path, keeps=False)
    here = Place(1, 6, 1, (4, 1, 100))
    other.write([take("a", Knowing(knows(1)), announced(1))], 6, 1)
    assert other.places() == []
    keeping.write([take("b", Knowing(knows(1)), announced(1))], 6, 1, here.near)
    other.write([take("c", Knowing(knows(1)), announced(1))], 6, 1)
    assert other.places() == keeping.places() == [here]
    other.prune(2)
    other.settle()
    assert files(tmp_path) == ["a.safetensors", "b.safetensors", "c.safetensors", "cut.json"]
    keeping.prune(2)
    keeping.settle()
    assert files(tmp_path) == []


def test_the_place_of_a_cut_is_brought_to_the_disk_as_its_states_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state that nobody finds is lost."""
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    folder = CutFolder(tmp_path)
    folder.write([take(name, Knowing(knows(1)), announced(1)) for name in NODES], 6, 1)
    folder.settle()
    assert synced == {path.stat().st_ino for path in (tmp_path / "cuts" / "000001").iterdir()}
    assert len(synced) == len(NODES) + 1


def test_a_run_that_never_took_a_cut_has_none(tmp_path: Path) -> None:
    folder = CutFolder(tmp_path)
    folder.prune(3)
    folder.remove_after(3)
    assert folder.places() == []
    assert folder.near(7) is None
    assert complete_cuts(folder, tmp_path / "journal", NODES) == []


def test_the_place_to_search_from_is_the_newest_that_is_not_too_far(tmp_path: Path) -> None:
    with Story(tmp_path) as story:
        story.pass_time(3)
        first = story.near
        story.cut(with_near=True)
        story.pass_time(3)
        second = story.near
        story.cut(with_near=True)
        story.cut()
    assert story.folder.near(99) == (second[0], second[1:])
    assert story.folder.near(second[0]) == (second[0], second[1:])
    assert story.folder.near(second[0] - 1) == (first[0], first[1:])
    assert story.folder.near(first[0] - 1) is None
    story.folder.forget_places()
    assert story.folder.near(99) is None
    assert [place.cut for place in story.folder.places()] == [3, 2, 1]


# -- what the journal says -----------------------------------------------------------------------------------


def test_the_cuts_of_a_journal_are_found_newest_first(tmp_path: Path) -> None:
    with Story(tmp_path) as story:
        made = []
        for _ in range(3):
            story.pass_time(4)
            made.append(story.cut())
        story.pass_time(2)
    found = complete_cuts(story.folder, story.journal, NODES)
    assert [(c.number, c.sequence, c.window) for c in found] == [
        (c.number, c.sequence, c.window) for c in reversed(made)
    ]
    assert [set(cut.taken) for cut in found] == [set(NODES)] * 3


def test_a_cut_that_one_node_has_not_taken_is_not_complete(tmp_path: Path) -> None:
    """Its state may even be on disk: what it emitted before may not be in the journal."""
    with Story(tmp_path) as story:
        story.cut()
        story.cut(without=["b"])
    assert names(complete_cuts(story.folder, story.journal, NODES)) == [1]
    assert names(complete_cuts(story.folder, story.journal, ["a", "scheduler"])) == [2, 1]
    assert complete_cuts(story.folder, story.journal, [*NODES, "new"]) == []


def test_only_what_stands_up_to_an_event_counts_for_who_asks_so(tmp_path: Path) -> None:
    with Story(tmp_path) as story:
        story.cut()
        before = story.head
        story.cut()
        after = story.head
    found = [names(complete_cuts(story.folder, story.journal, NODES, up_to)) for up_to in (0, 2, 3)]
    assert found == [[], [], []]
    assert names(complete_cuts(story.folder, story.journal, NODES, before)) == [1]
    assert names(complete_cuts(story.folder, story.journal, NODES, after - 1)) == [1]
    assert names(complete_cuts(story.folder, story.journal, NODES, after)) == [2, 1]


@pytest.mark.parametrize("how", ["no cut.json", "cut.json damaged", "no folder"])
def test_a_cut_without_its_place_is_no_cut(tmp_path: Path, how: str) -> None:
    with Story(tmp_path) as story:
        story.cut()
        story.cut()
        story.cut()
    place = tmp_path / "cuts" / "000002" / "cut.json"
    if how == "no cut.json":
        place.unlink()
    elif how == "cut.json damaged":
        place.write_bytes(b'{"cut":2,"sequence":')
    else:
        shutil.rmtree(place.parent)
    assert names(complete_cuts(story.folder, story.journal, NODES)) == [3, 1]


@pytest.mark.parametrize("with_near", [False, True])
def test_cuts_are_found_in_a_journal_of_many_files(tmp_path: Path, with_near: bool) -> None:
    """Events of one cut stand in several files, and the place that was noted in an older one."""
    with Story(tmp_path, segment_events=2) as story:
        made = []
        for _ in range(3):
            story.pass_time(5)
            made.append(story.cut(with_near=with_near).sequence)
        story.pass_time(3)
    story.folder.prune(2)
    story.folder.settle()
    found = complete_cuts(story.folder, story.journal, NODES)
    assert [cut.sequence for cut in found] == made[:0:-1]


def test_the_search_begins_at_the_place_and_not_at_the_beginning(tmp_path: Path) -> None:
    with Story(tmp_path) as story:
        story.pass_time(5)
        story.cut(with_near=True)
    path = story.journal / f"{1:020d}.mcap"
    stored = bytearray(path.read_bytes())
    stored[9:17] = b"\xff" * 8
    path.write_bytes(bytes(stored))
    assert names(complete_cuts(story.folder, story.journal, NODES)) == [1]
    story.folder.forget_places()
    with pytest.raises(JournalError):
        complete_cuts(story.folder, story.journal, NODES)


def test_what_a_stranger_published_as_a_cut_keeps_nobody_from_beginning(tmp_path: Path) -> None:
    with Story(tmp_path) as story:
        story.cut()
        story.say_bytes("notebook", "CutTaken", msgspec.msgpack.encode({"cut": "all of them"}))
        story.cut()
    assert names(complete_cuts(story.folder, story.journal, NODES)) == [2, 1]


def test_a_damaged_cut_is_named_and_an_older_one_takes_its_place(tmp_path: Path) -> None:
    with Story(tmp_path) as story:
        for _ in range(3):
            story.cut()
    cuts = complete_cuts(story.folder, story.journal, NODES)
    assert usable_cut(story.folder, cuts, NODES) == (cuts[0], [])
    flipped = story.spoil(cuts[0], "b")
    missing = tmp_path / cuts[1].taken["a"].file
    missing.unlink()
    cut, remarks = usable_cut(story.folder, cuts, NODES)
    assert cut is cuts[2]
    assert [remark.split(":")[0] for remark in remarks] == [
        "cut 3 (window 30) was skipped",
        "cut 2 (window 20) was skipped",
    ]
    assert f"{flipped} is damaged" in remarks[0]
    assert f"state of node 'a' is missing: {missing}" in remarks[1]
    # Who is not concerned by the damage need not go back.
    assert usable_cut(story.folder, cuts, ["scheduler"]) == (cuts[0], [])


def test_without_a_whole_cut_there_is_none(tmp_path: Path) -> None:
    with Story(tmp_path) as story:
        story.spoil(story.cut(), "a")
    cut, remarks = usable_cut(story.folder, complete_cuts(story.folder, story.journal, NODES), NODES)
    assert cut is None
    assert len(remarks) == 1
    assert usable_cut(story.folder, [], NODES) == (None, [])
