"""Timers over several lives of a process: each fires once, whoever died in between."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from optix_bus.errors import CheckpointError
from optix_bus.messages import TimerFired, TimerSet
from optix_bus.runtime.timers import Timers

#: A stamp so long ago that every timer counted from it is due.
LONG_AGO = 1_000_000_000


def armed(node: str = "a", key: str = "k", seconds: float = 0.0) -> TimerSet:
    return TimerSet(node=node, key=key, seconds=seconds)


def fired(node: str = "a", key: str = "k") -> TimerFired:
    return TimerFired(node=node, key=key)


def test_a_timer_fires_when_it_is_due_and_once() -> None:
    timers = Timers(["a"])
    assert timers.due() == []
    timers.note(armed(seconds=1.0), LONG_AGO)
    assert timers.due() == [("a", "k", 0)]
    assert timers.due() == []
    timers.note(fired(), LONG_AGO + 5)
    assert timers.due() == []


def test_a_timer_counts_from_the_stamp_of_its_event_and_not_before_it_is_due() -> None:
    timers = Timers(["a"])
    now = time.time_ns()
    timers.note(armed(key="later", seconds=3600.0), now)
    timers.note(armed(key="over", seconds=3600.0), now - 3601 * 10**9)
    assert timers.due() == [("a", "over", 0)]


def test_timers_of_other_processes_are_none_of_its_business() -> None:
    timers = Timers(["a"])
    timers.note(armed("b"), LONG_AGO)
    timers.note(fired("b"), LONG_AGO)
    assert timers.due() == []


def test_roots_are_numbered_for_each_node_in_the_order_in_which_they_fire() -> None:
    timers = Timers(["a", "b"])
    timers.note(armed("a", "second", 2.0), LONG_AGO)
    timers.note(armed("b", "only", 3.0), LONG_AGO)
    timers.note(armed("a", "first", 1.0), LONG_AGO)
    assert timers.due() == [("a", "first", 0), ("a", "second", 1), ("b", "only", 0)]
    # What has not come back yet counts as well.
    timers.note(armed("a", "third"), LONG_AGO)
    assert timers.due() == [("a", "third", 2)]
    for key in ("first", "second", "third"):
        timers.note(fired("a", key), LONG_AGO)
    timers.note(armed("a", "first"), LONG_AGO)
    assert timers.due() == [("a", "first", 3)]


def test_a_timer_that_an_earlier_life_fired_does_not_fire_again() -> None:
    """A process begins at the first event and reads the journal: the timer, and that it fired."""
    timers = Timers(["a"])
    timers.note(armed(), LONG_AGO)
    timers.note(fired(), LONG_AGO)
    assert timers.due() == []
    timers.note(armed(), LONG_AGO)
    assert timers.due() == [("a", "k", 1)]


def test_of_two_timers_with_one_key_each_fires() -> None:
    timers = Timers(["a"])
    timers.note(armed(), LONG_AGO)
    timers.note(armed(), LONG_AGO)
    timers.note(fired(), LONG_AGO)
    assert timers.due() == [("a", "k", 1)]


def later_life(root: Path, cut: int = 1, nodes: tuple[str, ...] = ("a", "b")) -> Timers:
    timers = Timers(nodes)
    timers.load(root, cut)
    return timers


def saved(root: Path, timers: Timers, cut: int = 1, nodes: tuple[str, ...] = ("a", "b")) -> list[str]:
    for node in nodes:
        timers.save(root, cut, node)
    return sorted(path.name for path in root.rglob("*") if path.is_file())


def test_what_is_pending_at_a_cut_fires_in_the_next_life(tmp_path: Path) -> None:
    timers = Timers(["a", "b"])
    timers.note(armed("a", "done"), LONG_AGO)
    timers.note(fired("a", "done"), LONG_AGO)
    timers.note(armed("b", "soon", 2.0), LONG_AGO)
    timers.note(armed("a", "open", 1.0), LONG_AGO)
    timers.note(armed("a", "far", 10.0**6), time.time_ns())
    assert saved(tmp_path, timers) == ["a.timers.json", "b.timers.json"]
    later = later_life(tmp_path)
    assert later.due() == [("a", "open", 1), ("b", "soon", 0)]
    # The journal behind the cut says that one of them had fired already.
    later.note(fired("a", "open"), LONG_AGO)
    assert later.due() == []
    assert later_life(tmp_path, nodes=("b",)).due() == [("b", "soon", 0)]


def test_what_has_fired_and_not_come_back_at_a_cut_is_pending_there(tmp_path: Path) -> None:
    """Whether it reached the journal is said by the journal behind the cut, not by who sent it."""
    timers = Timers(["a"])
    timers.note(armed(), LONG_AGO)
    assert timers.due() == [("a", "k", 0)]
    saved(tmp_path, timers, nodes=("a",))
    assert later_life(tmp_path, nodes=("a",)).due() == [("a", "k", 0)]
    reached = later_life(tmp_path, nodes=("a",))
    reached.note(fired(), LONG_AGO)
    assert reached.due() == []


def test_a_node_that_never_set_a_timer_leaves_no_file(tmp_path: Path) -> None:
    timers = Timers(["a", "b"])
    timers.note(armed("b"), LONG_AGO)
    timers.note(fired("b"), LONG_AGO)
    assert saved(tmp_path, timers) == ["b.timers.json"]
    later = later_life(tmp_path)
    later.note(armed("b"), LONG_AGO)
    later.note(armed("a"), LONG_AGO)
    assert later.due() == [("a", "k", 0), ("b", "k", 1)]


def test_damaged_timers_are_named_and_a_disk_that_fails_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = Timers(["a"])
    timers.note(armed(), LONG_AGO)
    saved(tmp_path, timers, nodes=("a",))
    path = tmp_path / "cuts" / "000001" / "a.timers.json"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=r"a\.timers\.json is damaged"):
        later_life(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(CheckpointError, match=r"a\.timers\.json cannot be written: No space left"):
        timers.save(tmp_path, 2, "a")
    assert list((tmp_path / "cuts" / "000002").iterdir()) == []
