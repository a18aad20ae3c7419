"""The price of a decision, against values that were worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from optix_bus.messages import RunFinished
from optix_bus.runtime.fork_table import Pair, differences, table_lines


def finished(score: float, windows: int = 10, steps: int = 640) -> RunFinished:
    return RunFinished(
        reason="converged",
        windows=windows,
        steps=steps,
        evaluations=3,
        best_score=score,
        best_standard_error=0.1,
        best_policy_version=2,
        best_window=2,
        train_score=0.0,
        generalization_gap=0.0,
        state="active",
        decided_by_loop=True,
    )


def pairs(*scores: tuple[float, float]) -> list[Pair]:
    return [Pair(n, finished(same), finished(new)) for n, (same, new) in enumerate(scores, start=1)]


def test_the_difference_is_that_of_the_pairs_and_not_of_the_means() -> None:
    """Differences 1, 0.5, 3: mean 1.5, deviation sqrt(1.75), t of 2 degrees of freedom 4.302653."""
    row = differences(pairs((1.0, 2.0), (3.0, 3.5), (2.0, 5.0)))[0]
    assert row.quantity == "best score"
    assert (row.same, row.changed, row.mean) == (2.0, 3.5, 1.5)
    assert row.half_width == pytest.approx(4.302653 * math.sqrt(1.75 / 3), rel=1e-6)
    assert not row.decided


def test_common_chance_decides_what_independent_runs_could_not() -> None:
    """Scores spread over 90, but each pair differs by about 1: differences 1.0, 1.2, 0.8."""
    row = differences(pairs((10.0, 11.0), (50.0, 51.2), (100.0, 100.8)))[0]
    assert row.mean == pytest.approx(1.0)
    assert row.half_width == pytest.approx(4.302653 * 0.2 / math.sqrt(3), rel=1e-6)
    assert row.decided


def test_windows_and_steps_are_compared_too() -> None:
    rows = differences(
        [
            Pair(1, finished(1.0, 10, 640), finished(1.0, 8, 512)),
            Pair(2, finished(1.0, 12, 768), finished(1.0, 10, 640)),
        ]
    )
    assert [(row.quantity, row.same, row.changed, row.mean) for row in rows[1:]] == [
        ("windows", 11.0, 9.0, -2.0),
        ("steps", 704.0, 576.0, -128.0),
    ]
    # Both pairs differ by the same: there is no doubt left.
    assert [row.half_width for row in rows] == [0.0, 0.0, 0.0]
    assert [row.decided for row in rows] == [False, True, True]


def test_one_pair_says_nothing_of_chance() -> None:
    row = differences(pairs((1.0, 9.0)))[0]
    assert (row.mean, row.half_width, row.decided) == (8.0, math.inf, False)


@pytest.mark.parametrize("gone", [math.nan, math.inf])
def test_a_pair_without_a_score_is_left_out_of_its_row_alone(gone: float) -> None:
    score, windows, _ = differences(pairs((1.0, 2.0), (gone, 5.0), (3.0, 4.0)))
    assert (score.same, score.changed, score.mean, score.half_width) == (2.0, 3.0, 1.0, 0.0)
    assert windows.same == 10.0
    nothing = differences(pairs((1.0, gone)))[0]
    assert math.isnan(nothing.mean)
    assert not nothing.decided


def test_a_person_reads_each_future_and_what_follows() -> None:
    told = table_lines(pairs((1.0, 2.0), (3.0, 3.5), (2.0, 5.0)))
    assert told[0].split() == ["future", "same", "changed", "difference", "windows"]
    assert told[1].split() == ["1", "1.000", "2.000", "+1.000", "10", "/", "10"]
    assert len(told) == 1 + 3 + 3
    assert told[4] == (
        "best score: 3.50 instead of 2.00; difference +1.50 ± 3.29 (95 %); "
        "these futures do not tell the branches apart"
    )
    assert told[5] == "windows: 10.00 instead of 10.00; no difference in any future"
    decided = table_lines(pairs((10.0, 11.0), (50.0, 51.2), (100.0, 100.8)))
    assert decided[4].endswith("difference +1.00 ± 0.50 (95 %)")
    alone = table_lines(pairs((1.0, 9.0)))
    assert alone[2] == "best score: 9.00 instead of 1.00; difference +8.00; one pair has no interval"


def test_a_branch_without_a_score_is_said_to_have_none() -> None:
    told = table_lines([replace(pair, changed=finished(math.nan)) for pair in pairs((1.0, 2.0), (3.0, 4.0))])
    assert told[1].split()[:4] == ["1", "1.000", "none", "none"]
    assert told[3] == "best score: no future has one in both branches"
