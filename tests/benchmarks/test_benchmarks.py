"""That benchmarks measure what they say, and that all of them run."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks import bench_log
from tests.benchmarks.__main__ import BENCHMARKS
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
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("bench_continuous", "TD3, what is asked for"),
        ("bench_dqn", "the lesser of 1.5 peers and .8 floors"),
        ("bench_ppo", "CartPole end to end, minibatch 256"),
        ("bench_ppo_jax", "really run, compiled"),
        ("bench_tensorflow", "TD3"),
    ],
)
def test_a_benchmark_of_agents_runs_with_tiny_sizes_and_leaves_nothing(
    name: str, row: str, tmp_path: Path
) -> None:
    pytest.importorskip("stable_baselines3")
    ended = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{name}", "--quick"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert row in ended.stdout
    # PyTorch makes a folder for its own compiler, one for each user, whenever all its parts are imported.
    assert {path.name.partition("_")[0] for path in tmp_path.iterdir()} <= {"torchinductor"}


def test_every_benchmark_is_run_with_the_others() -> None:
    files = {path.stem for path in Path(__file__).parent.glob("bench_*.py")}
    assert files == set(BENCHMARKS)


@pytest.mark.parametrize(
    ("first", "mine", "theirs", "expected"),
    [(0.01, 0.01, 0.1, 1), (2.0, 0.05, 0.5, 156), (2.0, 0.1, 0.5, math.inf)],
)
def test_how_long_a_compilation_takes_to_be_made_up_for(
    first: float, mine: float, theirs: float, expected: float
) -> None:
    bench_ppo_jax = pytest.importorskip("tests.benchmarks.bench_ppo_jax")
    found = bench_ppo_jax._reached(first, mine, theirs, 8.0)
    assert found == pytest.approx(expected * bench_ppo_jax.WINDOW)
    if 1 < expected < math.inf:
        ours = first + (expected - 1) * mine
        assert ours == pytest.approx(expected * theirs / 8.0)


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize(
    ("name", "row"),
    [("bench_loop", "topology processes"), ("bench_replay", "all nodes"), ("bench_training", "processes")],
)
def test_a_benchmark_runs_with_tiny_sizes(name: str, row: str) -> None:
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
    assert row in ended.stdout
