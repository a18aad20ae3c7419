"""A policy whose weights are spoilt at a known window: flagged, rolled back, and training goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.processes.runs import journal, leftovers, streams, up, weights

COLLAPSE = Path(__file__).parents[1] / "runtime" / "collapse.yaml"
#: The last window before the noise, and how many scores running a degradation takes.
AT, PATIENCE = 12, 3


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("collapse") / "inline"
    done = up(COLLAPSE, run, "--inline")
    assert done.code == 0, done.err
    return run


def of(run: Path, kind: str) -> list[dict[str, Any]]:
    return [event["body"] for event in journal(run) if event["type"] == kind]


def test_the_collapse_is_flagged_as_a_degradation_as_soon_as_it_may_be(inline: Path) -> None:
    assert [event["window"] for event in of(inline, "Degraded")] == [AT + PATIENCE]
    judged = {event["window"]: event for event in of(inline, "WindowJudged")}
    for window in range(AT + 1, AT + 1 + PATIENCE):
        assert judged[window]["score"] < 0.2 * judged[window]["best_score"]


def test_the_best_snapshot_is_in_force_again_in_the_next_window(inline: Path) -> None:
    (asked,) = [event for event in of(inline, "RollbackRequested") if not event["final"]]
    assert (asked["window"], asked["reason"]) == (AT + PATIENCE, "degradation")
    best = [e for e in of(inline, "PolicyPromoted") if e["window"] <= AT][-1]
    updates = of(inline, "PolicyUpdated")
    (back,) = [event for event in updates if event["origin"] == "rolled_back"]
    # The learner's own words of what it restored, by the bytes of the arrays.
    (earned,) = [event for event in updates if event["version"] == best["policy_version"]]
    assert back["policy"]["checksum"] == earned["policy"]["checksum"]
    next_window = {event["window"]: event for event in of(inline, "CollectWindow")}[AT + PATIENCE + 1]
    assert next_window["policy_version"] == back["version"]


def test_training_goes_on_from_there_and_gets_better_than_before(inline: Path) -> None:
    scores = {event["window"]: event["score"] for event in of(inline, "WindowJudged")}
    assert scores[AT + PATIENCE + 1] > 5.0 * scores[AT + PATIENCE]
    before = max(e["score"] for e in of(inline, "PolicyPromoted") if e["window"] <= AT)
    (finished,) = of(inline, "RunFinished")
    assert finished["best_score"] > before
    assert finished["best_window"] > AT + PATIENCE
    assert finished["windows"] == 24


@pytest.mark.processes
def test_it_is_the_same_in_processes(inline: Path, tmp_path: Path) -> None:
    # Pipelines and learner share this agent and so a process; who judges, keeps and evaluates has its own.
    run = tmp_path / "processes"
    done = up(COLLAPSE, run)
    assert done.code == 0, done.err
    assert streams(run) == streams(inline)
    assert weights(run) == weights(inline)
    assert leftovers(run) == []
