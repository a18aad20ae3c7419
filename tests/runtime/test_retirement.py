"""When blobs go, which of them are recorded, and what becomes of those that an earlier life left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optix_bus.bus.blobs import FileBlobStore
from optix_bus.messages import PolicyUpdated, RolledBack, WindowCollected
from optix_bus.runtime.cuts import Cut, CutBook
from optix_bus.runtime.log import NodeLog
from optix_bus.runtime.retirement import ANNOUNCING, Retirement, references
from optix_bus.types import BlobRef, NamedArrays
from tests.runtime.stories import policy


class Words:
    """A log that keeps what was said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **details: Any) -> None:
        self.said.append((event, details))

    debug = info = warning


class Life:
    """One life of a process with the nodes a and b, whose blobs lie in a folder."""

    def __init__(
        self, root: Path, *, cuts: bool = True, record: str = "events", limit: int = 0, **options: Any
    ) -> None:
        self.root = root
        self.stores = {
            owner: FileBlobStore(
                root / "shm", root / "shared", 10**6, owner, archive_directory=root / "blobs", **options
            )
            for owner in ("a", "b")
        }
        self.book = CutBook(["a", "b"])
        self.log = Words()
        self.retirement = Retirement(
            self.stores, self.book if cuts else None, record=record, record_bytes=limit, log=self.log
        )

    def announce(self, sequence: int, number: int, owner: str = "a", size: int = 4) -> BlobRef:
        """Write a blob, and meet its announcement in the journal."""
        ref = self.write(number, owner, size)
        self.retirement.in_hand = sequence
        self.retirement.announced(sequence, [ref])
        return ref

    def write(self, number: int, owner: str = "a", size: int = 4) -> BlobRef:
        return self.stores[owner].write(f"{owner}/policy-{number:06d}", NamedArrays({"x": np.ones(size)}))

    def complete(self, *sequences: int) -> None:
        for sequence in sequences:
            self.book.start(Cut(len(self.book.complete) + 1, sequence, 0))

    def alive(self, folder: str = "shm") -> list[str]:
        """Blobs in a folder, as OWNER and NUMBER."""
        paths = (self.root / folder).rglob("*.safetensors")
        return sorted(f"{path.parent.name}{int(path.stem[-6:])}" for path in paths)


def test_the_events_that_announce_blobs_are_known_by_their_fields() -> None:
    of_variants = {"VariantSpawned", "VariantSeeded", "VariantCollected", "VariantUpdated"}
    assert {"WindowCollected", "PolicyUpdated", "RolledBack", *of_variants} == ANNOUNCING
    event = policy(3)
    assert references(event) == [event.policy]
    assert references(RolledBack(window=1, final=False)) == []
    assert "data" in WindowCollected.__struct_fields__
    assert "policy" in PolicyUpdated.__struct_fields__


def test_a_blob_goes_when_the_newest_cut_but_one_is_behind_its_announcement(tmp_path: Path) -> None:
    life = Life(tmp_path)
    for sequence in (10, 20, 21, 30):
        life.announce(sequence, sequence)
    life.retirement.turn(progress=99)
    assert life.alive() == ["a10", "a20", "a21", "a30"]
    life.complete(20)
    life.retirement.turn(99)
    assert life.alive() == ["a10", "a20", "a21", "a30"]
    life.complete(40)
    life.retirement.turn(99)
    assert life.alive() == ["a21", "a30"]
    life.complete(50)
    life.retirement.turn(99)
    assert life.alive() == []


def test_who_waits_for_room_gives_up_the_cut_before(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.announce(10, 1)
    life.announce(30, 2)
    life.retirement.press(progress=99)
    assert life.alive() == ["a1", "a2"]
    life.complete(20)
    life.retirement.press(99)
    assert life.alive() == ["a2"]


def test_in_a_run_without_cuts_progress_decides(tmp_path: Path) -> None:
    for ask in ("turn", "press"):
        life = Life(tmp_path / ask, cuts=False)
        life.announce(10, 1)
        life.announce(11, 2)
        getattr(life.retirement, ask)(-1)
        assert life.alive() == ["a1", "a2"]
        getattr(life.retirement, ask)(10)
        assert life.alive() == ["a2"]


def test_each_owner_retires_its_own(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.announce(10, 1, "a")
    life.announce(11, 1, "b")
    life.complete(10, 20)
    life.retirement.turn(0)
    assert life.alive() == ["b1"]


# -- what an earlier life left -------------------------------------------------------------------------------


@pytest.fixture
def returned(tmp_path: Path) -> Callable[..., Life]:
    """A later life that begins at the cut of event 20, in a journal that ended at event 35.

    The earlier one left 1 (announced at 15), 2 (at 25), 3 (at 30) and 4, whose announcement was lost.
    """

    def make(**options: Any) -> Life:
        first = Life(tmp_path)
        for number in (1, 2, 3, 4):
            first.write(number)
        later = Life(tmp_path, **options)
        later.complete(10, 20)
        later.retirement.begun = later.retirement.in_hand = 20
        later.retirement.recovered = 35
        return later

    return make


def test_until_the_journal_is_repeated_nothing_that_was_left_goes(returned: Callable[..., Life]) -> None:
    """Somebody else may still have to read it, and will not wait for it to be written again."""
    life = returned()
    life.complete(34)
    life.retirement.in_hand = 34
    life.retirement.turn(99)
    life.retirement.press(99)
    assert life.alive() == ["a1", "a2", "a3", "a4"]


def test_what_was_left_from_before_the_cut_goes_with_it(returned: Callable[..., Life]) -> None:
    life = returned()
    life.announce(25, 2)
    life.announce(30, 3)
    life.write(4)
    life.retirement.in_hand = 35
    life.retirement.turn(99)
    assert life.alive() == ["a1", "a2", "a3", "a4"]
    life.complete(40)
    life.retirement.turn(99)
    assert life.alive() == ["a2", "a3", "a4"]


def test_who_waits_for_room_right_after_a_return_does_not_wait_for_what_was_left(
    returned: Callable[..., Life],
) -> None:
    """The next cut may never come before there is room."""
    life = returned()
    life.announce(25, 2)
    life.announce(30, 3)
    life.retirement.in_hand = 35
    life.retirement.press(99)
    assert life.alive() == ["a2", "a3"]


def test_what_was_written_again_and_is_on_its_way_stays(returned: Callable[..., Life]) -> None:
    life = returned()
    life.write(4)
    life.complete(40, 50)
    life.retirement.in_hand = 50
    life.retirement.turn(99)
    assert life.alive() == ["a4"]


def test_what_the_journal_announces_and_nobody_writes_again_is_kept_as_long_as_the_rest(
    returned: Callable[..., Life],
) -> None:
    """A node that cannot repeat itself does not write its blobs again; those of its earlier life are read."""
    life = returned()
    left = BlobRef(name="a/policy-000002", bytes=1, checksum="0" * 32, owner="a")
    life.retirement.announced(25, [left])
    life.retirement.in_hand = 35
    life.retirement.press(99)
    assert life.alive() == ["a2"]
    life.complete(26, 40)
    life.retirement.turn(99)
    assert life.alive() == []


def test_what_was_left_is_recorded_like_the_rest(returned: Callable[..., Life]) -> None:
    life = returned(record="blobs")
    life.announce(25, 2)
    life.retirement.in_hand = 35
    life.retirement.press(99)
    assert life.alive("blobs") == ["a1", "a3", "a4"]


# -- the archive ---------------------------------------------------------------------------------------------


def test_recorded_blobs_go_into_the_archive_when_they_retire_or_the_run_ends(tmp_path: Path) -> None:
    life = Life(tmp_path, record="blobs")
    first = life.announce(10, 1)
    last = life.announce(30, 2, "b")
    life.complete(10, 20)
    life.retirement.turn(99)
    assert (life.alive(), life.alive("blobs")) == (["b2"], ["a1"])
    life.retirement.finish([])
    assert (life.alive(), life.alive("blobs")) == (["b2"], ["a1", "b2"])
    # They are read from there as if they were alive.
    shutil.rmtree(tmp_path / "shm")
    for ref in (first, last):
        np.testing.assert_array_equal(life.stores["a"].read(ref).arrays["x"], np.ones(4))


def test_nothing_is_recorded_where_events_are_enough(tmp_path: Path) -> None:
    life = Life(tmp_path, record="events", limit=10**9)
    life.announce(10, 1)
    life.announce(11, 2)
    life.complete(10, 20)
    life.retirement.turn(99)
    life.retirement.finish([])
    assert life.alive("blobs") == []


def test_auto_records_as_many_bytes_of_each_owner_as_it_may_over_all_lives(tmp_path: Path) -> None:
    size = Life(tmp_path / "measure").write(1).bytes
    lives = []
    for life_number in range(2):
        life = Life(tmp_path / "run", record="auto", limit=2 * size + size // 2)
        lives.append(life)
        for number in range(1, 4):
            life.announce(10 * life_number + number, 10 * life_number + number)
            life.announce(10 * life_number + number, 10 * life_number + number, "b")
        life.retirement.finish([])
        assert life.alive("blobs") == ["a1", "a2", "b1", "b2"]
    assert all(life.log.said == [] for life in lives)


def test_a_blob_that_is_too_large_does_not_shut_out_a_smaller_one(tmp_path: Path) -> None:
    size = Life(tmp_path / "measure").write(1).bytes
    life = Life(tmp_path / "run", record="auto", limit=size)
    life.announce(1, 1, size=4000)
    life.announce(2, 2)
    life.retirement.finish([])
    assert life.alive("blobs") == ["a2"]


def test_what_is_in_the_archive_costs_nothing_again(tmp_path: Path) -> None:
    """A blob that is made a second time retires a second time."""
    size = Life(tmp_path / "measure").write(1).bytes
    life = Life(tmp_path / "run", record="auto", limit=2 * size)
    for sequence in (1, 2, 3):
        life.announce(sequence, 1)
    life.announce(4, 2)
    life.retirement.finish([])
    assert life.alive("blobs") == ["a1", "a2"]


def test_a_blob_that_is_gone_is_not_missed(tmp_path: Path) -> None:
    life = Life(tmp_path, record="blobs")
    life.stores["a"].retire(life.announce(1, 1).name)
    life.announce(2, 2)
    life.retirement.finish([])
    assert life.alive("blobs") == ["a2"]
    assert life.log.said == []


def test_an_archive_that_fails_is_said_once_and_holds_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(tmp_path, record="blobs")
    for number in (1, 2, 3):
        life.announce(number, number)
    life.announce(4, 1, "b")

    real, written = os.write, []

    def fail(descriptor: int, data: memoryview) -> int:
        if written:
            raise OSError(28, "No space left on device")
        written.append(real(descriptor, data[:5]))
        return 5

    with monkeypatch.context() as full:
        full.setattr(os, "write", fail)
        life.complete(2, 9)
        life.retirement.turn(99)
    assert life.alive() == ["a3", "b1"]
    assert life.log.said == [
        ("blobs are not recorded any longer", {"owner": "a", "why": "No space left on device"})
    ]
    life.retirement.finish([])
    assert [path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == [
        "policy-000001.safetensors"
    ]
    assert life.alive("blobs") == ["b1"]


def test_what_is_under_way_at_the_end_is_recorded_too(tmp_path: Path) -> None:
    """The run ends before its last announcements have come back to whoever made them."""
    store = FileBlobStore(
        tmp_path / "shm", tmp_path / "overflow", 1 << 20, "learner", archive_directory=tmp_path / "blobs"
    )
    ref = store.write("learner/policy-000001", NamedArrays({"w": np.arange(3.0)}))
    retirement = Retirement(
        {"learner": store}, CutBook(["learner"]), record="blobs", record_bytes=0, log=NodeLog("learner")
    )
    retirement.finish([ref])
    assert (tmp_path / "blobs" / "learner" / "policy-000001.safetensors").exists()
