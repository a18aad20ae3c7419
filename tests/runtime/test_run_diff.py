from __future__ import annotations

import math
from pathlib import Path

import pytest

from optix_bus.bus.journal_files import segment_path
from optix_bus.errors import ConfigurationError
from optix_bus.messages import PROCESS_FACTS, VOCABULARY, Event, RunResumed
from optix_bus.runtime.run_diff import Divergence, NodeStreams, RunDiff, diff_runs
from tests.bus.journals import flip, spans
from tests.runtime.spoken import collect, finished, judged, ready, saved, speak, started

Script = list[tuple[str, Event]]
WHOLE: Script = [
    ("supervisor", started()),
    ("scheduler", collect(0)),
    ("learner", saved(0)),
    ("scheduler", judged(0)),
    ("scheduler", collect(1)),
    ("learner", saved(1)),
    ("scheduler", judged(1)),
    ("scheduler", finished()),
]


def compared(tmp_path: Path, a: Script, b: Script) -> RunDiff:
    speak(tmp_path / "a", a)
    speak(tmp_path / "b", b)
    return diff_runs(tmp_path / "a", tmp_path / "b")


def test_runs_in_which_every_node_said_the_same_are_equal(tmp_path: Path) -> None:
    found = compared(tmp_path, WHOLE, WHOLE)
    assert found.equal
    assert found.nodes == [NodeStreams("learner", 2, 2, 2), NodeStreams("scheduler", 5, 5, 5)]
    assert found.a == found.b
    assert (found.a.windows, found.a.reason, found.a.best_score) == (2, "converged", 1.5)
    assert found.a.snapshots == ["ab", "ab"]


def test_the_order_between_nodes_and_facts_of_processes_are_no_difference(tmp_path: Path) -> None:
    other = [
        ("supervisor", started(run_id="another", fingerprint={"cpu": "x"})),
        ("supervisor", ready("learner", pid=99)),
        ("supervisor", RunResumed(cut=1, window=0)),
        WHOLE[2],
        WHOLE[1],
        ("supervisor", ready("scheduler", pid=98)),
        *WHOLE[3:],
    ]
    found = compared(tmp_path, WHOLE, other)
    assert found.equal
    assert [stream.node for stream in found.nodes] == ["learner", "scheduler"]


def test_events_that_say_that_they_are_facts_of_processes_are_left_out() -> None:
    marked = {kind for kind in VOCABULARY if "process fact" in " ".join((kind.__doc__ or "").split())}
    assert marked == set(PROCESS_FACTS)


def test_the_first_difference_in_the_order_of_a_is_named_with_its_field(tmp_path: Path) -> None:
    other = [*WHOLE]
    other[3] = ("scheduler", judged(0, score=2.5))
    other[2] = ("learner", saved(0, sha256="cd"))
    other[2], other[1] = other[1], other[2]
    found = compared(tmp_path, WHOLE, other)
    assert found.first == Divergence("learner", 1, (3, 2), ("SnapshotSaved",) * 2, "sha256", ("ab", "cd"))
    assert [(stream.node, stream.equal) for stream in found.nodes] == [("learner", 0), ("scheduler", 1)]
    assert found.b.snapshots == ["cd", "ab"]


def test_events_of_another_type_differ_in_their_type(tmp_path: Path) -> None:
    other = [*WHOLE]
    other[4] = ("scheduler", judged(1))
    first = compared(tmp_path, WHOLE, other).first
    assert first == Divergence(
        "scheduler", 3, (5, 5), ("CollectWindow", "WindowJudged"), "type", ("CollectWindow", "WindowJudged")
    )


@pytest.mark.parametrize(
    ("a", "b", "sequences", "types"),
    [(8, 7, (8, 0), ("RunFinished", "")), (7, 8, (0, 8), ("", "RunFinished"))],
)
def test_a_run_that_says_less_differs_where_it_ends(
    tmp_path: Path, a: int, b: int, sequences: tuple[int, int], types: tuple[str, str]
) -> None:
    first = compared(tmp_path, WHOLE[:a], WHOLE[:b]).first
    assert first == Divergence("scheduler", 5, sequences, types, "", (None, None))


def test_a_node_that_only_one_run_has_is_a_difference(tmp_path: Path) -> None:
    found = compared(tmp_path, WHOLE, [*WHOLE, ("extra", collect(5))])
    assert found.first is not None
    assert (found.first.node, found.first.sequences) == ("extra", (0, 9))
    assert found.nodes[0] == NodeStreams("extra", 0, 1, 0)


def test_what_a_node_says_behind_its_first_difference_is_counted_but_not_equal(tmp_path: Path) -> None:
    other = [*WHOLE]
    other[1] = ("scheduler", collect(9))
    found = compared(tmp_path, WHOLE, other)
    assert found.nodes[1] == NodeStreams("scheduler", 5, 5, 0)


def test_scores_that_are_no_numbers_are_equal_to_themselves(tmp_path: Path) -> None:
    script: Script = [("scheduler", judged(0, math.nan)), ("scheduler", finished(score=math.nan))]
    assert compared(tmp_path, script, script).equal


def test_damaged_runs_are_not_compared(tmp_path: Path) -> None:
    speak(tmp_path / "a", WHOLE)
    speak(tmp_path / "b", WHOLE)
    path = segment_path(tmp_path / "b", 1)
    flip(path, spans(path.read_bytes())[3][1] - 12)
    with pytest.raises(
        ConfigurationError, match=r"there is nothing to compare: .*checksum of an event is wrong"
    ):
        diff_runs(tmp_path / "a", tmp_path / "b")
