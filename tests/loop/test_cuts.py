"""Cuts come after so many windows, or earlier where arrays are large; the order of arrival never matters."""

from __future__ import annotations

import json

import pytest

from optix_bus.loop import CutPlan


def closed(plan: CutPlan, windows: range) -> list[tuple[int, int]]:
    """(window, cut) wherever one is due."""
    return [(window, cut) for window in windows if (cut := plan.close(window))]


def test_a_cut_is_due_after_so_many_complete_windows_and_cuts_are_numbered_from_one() -> None:
    assert closed(CutPlan(4, 10**9), range(13)) == [(3, 1), (7, 2), (11, 3)]


def test_without_cut_windows_there_is_none_whatever_the_bytes() -> None:
    plan = CutPlan(0, 1)
    plan.announced(0, "learner", 10**9)
    assert closed(plan, range(50)) == []
    assert plan.state() == CutPlan().state()


def test_a_cut_comes_earlier_when_one_node_announced_more_than_the_limit() -> None:
    plan = CutPlan(10, 100)
    cuts = []
    for window in range(8):
        plan.announced(window, "pipeline", 30)
        plan.announced(window, "learner", 40)
        cuts += closed(plan, range(window, window + 1))
    assert cuts == [(2, 1), (5, 2)]


def test_bytes_of_several_nodes_are_not_added_up() -> None:
    plan = CutPlan(10, 100)
    for owner in ("pipeline", "validation", "learner"):
        plan.announced(0, owner, 100)
    assert closed(plan, range(1)) == []


@pytest.mark.parametrize("early", [True, False])
def test_bytes_of_a_window_that_is_still_open_do_not_count_yet(early: bool) -> None:
    plan = CutPlan(10, 100)
    plan.announced(-1, "learner", 60)
    plan.announced(0, "learner", 30)
    if early:
        plan.announced(1, "learner", 60)
    assert plan.close(0) == 0
    if not early:
        plan.announced(1, "learner", 60)
    assert plan.close(1) == 1


def test_a_plan_goes_on_from_its_state_and_by_its_own_settings() -> None:
    plan = CutPlan(4, 100)
    plan.announced(5, "learner", 70)
    closed(plan, range(5))
    state = json.loads(json.dumps(plan.state()))
    same, sooner, smaller = CutPlan(4, 100), CutPlan(2, 100), CutPlan(4, 50)
    for other in (same, sooner, smaller):
        other.load_state(state)
    assert same.state() == plan.state()
    assert closed(same, range(5, 12)) == closed(plan, range(5, 12)) == [(7, 2), (11, 3)]
    assert closed(sooner, range(5, 12)) == [(5, 2), (7, 3), (9, 4), (11, 5)]
    assert closed(smaller, range(5, 12)) == [(5, 2), (9, 3)]
