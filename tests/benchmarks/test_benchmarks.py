"""That benchmarks measure what they say, and that all of them run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.benchmarks import bench_log
from tests.benchmarks.measure import Demand, Series, Table, interleaved


def test_a_series_tells_median_and_spread() -> None:
    series = Series.of([3.0, 1.0, 2.0])
    assert (series.median, series.low, series.high) == (2.0, 1.0, 3.0)
    assert series.text("ms") == "2 (1-3) ms"


def test_ratios_are_taken_round_by_round() -> None:
    slow_machine_in_the_second_round = Series.of([10.0, 5.0, 10.0]).over(Series.of([5.0, 2.5, 5.0]))
    assert slow_machine_in_the_second_round.values == (2.0, 2.0, 2.0)


def test_series_of_different_rounds_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="2 and 1 rounds"):
        Series.of([1.0, 2.0]).over(Series.of([1.0]))


def test_the_two_sides_take_turns_and_neither_is_always_first() -> None:
    calls: list[str] = []

    def called(name: str) -> Callable[[], float]:
        return lambda: float(calls.append(name) or len(calls))

    found = interleaved(2, {"ours": called("ours"), "peer": called("peer")}, warm_up=False)
    assert calls == ["ours", "peer", "peer", "ours"]
    assert found["ours"].values == (1.0, 4.0)


@pytest.mark.parametrize(
    ("demand", "value", "holds"),
    [
        (Demand("<", 3.0), 2.9, True),
        (Demand("<", 3.0), 3.0, False),
        (Demand(">=", 1.5), 1.5, True),
        (Demand(">=", 1.5), 1.49, False),
        (Demand(">=", 1.5), float("nan"), False),
    ],
)
def test_a_demand_holds_or_not(demand: Demand, value: float, holds: bool) -> None:
    assert demand.holds(value) is holds


def test_a_missed_demand_is_named_by_its_row() -> None:
    table = Table("t")
    table.add("fast enough", Series.of([1.0]), "ms", demand=Demand("<", 3.0))
    table.add("too slow", Series.of([4.0]), "ms", demand=Demand("<", 3.0))
    table.add("half the peer", Series.of([1.0]), "1/s", ratio=Series.of([0.5]), demand=Demand(">=", 1.5))
    assert table.failed == ["too slow", "half the peer"]


def test_a_quick_run_judges_nothing() -> None:
    table = Table("t", judged=False)
    table.add("too slow", Series.of([4.0]), "ms", demand=Demand("<", 3.0))
    assert table.failed == []


def test_the_benchmark_of_reading_journals_runs_with_tiny_sizes() -> None:
    table = bench_log.bench(True)
    assert {row[0] for row in table.rows} >= {"log info", "log verify", "diff with itself"}


@pytest.mark.slow
def test_the_benchmark_of_continuous_actions_runs_with_tiny_sizes() -> None:
    pytest.importorskip("stable_baselines3")
    ended = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.bench_continuous", "--quick"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "TD3, what is asked for" in ended.stdout


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("name", ["bench_dqn", "bench_loop", "bench_replay", "bench_training"])
def test_a_benchmark_runs_with_tiny_sizes(name: str) -> None:
    if name == "bench_training":
        pytest.importorskip("stable_baselines3")
    ended = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{name}", "--quick"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "processes" in ended.stdout
