"""A loop that is kept alive after convergence, in processes and inline."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes.runs import journal, leftovers, streams, up, weights

pytestmark = pytest.mark.processes

SCRIPTED = Path(__file__).parents[1] / "runtime" / "scripted.yaml"
WATCHING = (
    "--set",
    "nodes.scheduler.keep_watching=true",
    "--set",
    "nodes.scheduler.watch_seconds=0.05",
    "--set",
    "nodes.scheduler.max_episodes=50",
)


def test_the_watchdog_says_the_same_in_processes_and_inline(tmp_path: Path) -> None:
    for name, option in (("processes", ()), ("inline", ("--inline",))):
        done = up(SCRIPTED, tmp_path / name, *WATCHING, *option)
        assert done.code == 0, done.err
        assert "watchdog: evaluated" in done.out
    run = tmp_path / "processes"
    assert streams(run) == streams(tmp_path / "inline")
    assert weights(run) == weights(tmp_path / "inline")
    assert leftovers(run) == []
    events = journal(run)
    judged = [event["body"] for event in events if event["type"] == "WindowJudged"]
    watched = [body["window"] for body in judged if not body["learnt"]]
    assert watched == list(range(watched[0], 50))
    assert len(watched) > 3
    last = max(e["body"]["window"] for e in events if e["type"] == "CollectWindow")
    assert watched[0] == last + 1
    fired = [event["body"]["key"] for event in events if event["type"] == "TimerFired"]
    assert fired == ["watch"] * (len(watched) - 1)
