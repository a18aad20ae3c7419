"""Runs that were recorded once are reproduced by the code of today."""

from __future__ import annotations

import pytest

from optix_bus.messages import VOCABULARY
from optix_bus.runtime.replay_run import RecordedRun
from optix_bus.runtime.replay_session import replay
from optix_bus.runtime.replay_what_if import what_if
from tests.runtime.record_corpus import CORPUS, RUNS
from tests.runtime.recorded import ROOT

HOW = (
    "If the outputs or states of nodes were meant to change, record the corpus anew with "
    "`python -m tests.runtime.record_corpus` and say in the commit what has changed for whom"
)
#: Their results are the same on every machine: sums of a few numbers, and whole ones.
EVERYWHERE = ("scheduler", "optimizer")
WHOLE_NUMBERS = ("beside", "evolving", "scripted")
OF_PROCESSES = {"RunResumed", "NodeReady", "NodeLost", "StopRequested", "TimerSet", "TimerFired"}


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the plans find their modules."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", RUNS)
def test_a_recorded_run_is_reproduced(name: str) -> None:
    run = RecordedRun(CORPUS / name)
    nodes: tuple[str, ...] = ()
    if run.foreign() and name not in WHOLE_NUMBERS:
        nodes = tuple(entry.name for entry in run.plan.nodes if entry.name in EVERYWHERE)
    report = replay(run, nodes)
    assert report.exit_code == 0, f"{report.divergence or report.obstacle}\n{report.notes}\n{HOW}"
    assert report.outputs
    assert report.cuts
    assert report.failure == ""


@pytest.mark.parametrize("name", RUNS)
def test_nodes_that_compute_alike_everywhere_are_reproduced_alone(name: str) -> None:
    run = RecordedRun(CORPUS / name)
    nodes = [entry.name for entry in run.plan.nodes if entry.name in EVERYWHERE]
    report = replay(run, nodes)
    assert report.exit_code == 0, f"{report.divergence or report.obstacle}\n{HOW}"
    assert what_if(run, run.entry("scheduler")).first is None


def test_everything_happens_in_the_corpus_that_needs_no_processes() -> None:
    seen = {found.type for name in RUNS for found in RecordedRun(CORPUS / name).records()}
    unseen = {kind.__name__ for kind in VOCABULARY} - seen - OF_PROCESSES
    assert unseen == {"ExternallyScored"}, HOW  # only a Python user's own scorer says it


def test_it_is_small_and_speaks_of_no_machine() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 400 * 1024
    assert {path.suffix for path in files} == {".mcap", ".json", ".yaml"}
    for path in files:
        assert str(ROOT).encode() not in path.read_bytes(), path
