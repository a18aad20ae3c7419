from __future__ import annotations

from pathlib import Path

from optix_bus.bus.journal_files import segment_path
from optix_bus.messages import CutAnnounced, CutTaken, Event, NodeLost, RunResumed, StopRequested
from optix_bus.runtime.journal_summary import CutSeen, summarise
from tests.bus.journals import flip, spans
from tests.runtime.spoken import collect, finished, speak, started


def taken(cut: int, node: str) -> Event:
    return CutTaken(cut=cut, node=node, file=f"cuts/{node}", bytes=3, checksum="0")


def test_a_summary_tells_who_spoke_which_cuts_were_taken_and_how_it_ended(tmp_path: Path) -> None:
    speak(
        tmp_path,
        [
            ("supervisor", started()),
            ("scheduler", collect(0)),
            ("scheduler", CutAnnounced(cut=1, window=4)),
            ("learner", taken(1, "learner")),
            ("scheduler", taken(1, "scheduler")),
            ("scheduler", CutAnnounced(cut=2, window=8)),
            ("learner", taken(2, "learner")),
            ("supervisor", NodeLost(node="learner", pid=1, incarnation=1, reason="killed by SIGKILL")),
            ("learner", taken(9, "learner")),
            ("supervisor", RunResumed(cut=2, window=8)),
            ("supervisor", StopRequested(reason="interrupted")),
            ("scheduler", finished("interrupted")),
        ],
    )
    summary = summarise(tmp_path)
    assert [start.seed for start in summary.starts] == [7]
    assert summary.nodes == ("scheduler", "learner")
    assert summary.cuts == [
        CutSeen(1, 4, 3, ["learner", "scheduler"], complete=True),
        CutSeen(2, 8, 6, ["learner"], complete=False),
    ]
    assert summary.lost == [("learner", "killed by SIGKILL")]
    assert summary.resumes == [8]
    assert summary.stops == ["interrupted"]
    assert summary.ending == "finished: interrupted"
    assert summary.report.by_node() == {"scheduler": 5, "supervisor": 4, "learner": 3}


def test_a_run_that_did_not_finish_says_so(tmp_path: Path) -> None:
    speak(tmp_path / "a", [("supervisor", started())], orderly=False)
    assert summarise(tmp_path / "a").ending == "has not finished"
    speak(tmp_path / "b", [("supervisor", started()), ("supervisor", StopRequested(reason="no room"))])
    assert summarise(tmp_path / "b").ending == "was asked to stop (no room), and did not finish"


def test_a_damaged_journal_is_summed_up_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    speak(tmp_path, [("supervisor", started()), *(("scheduler", collect(n)) for n in range(5))])
    path = segment_path(tmp_path, 1)
    flip(path, spans(path.read_bytes())[0][1] - 12)
    summary = summarise(tmp_path)
    assert (summary.starts, summary.nodes, summary.report.events) == ([], (), 5)
    assert summary.report.damages[0].lost == (1, 1)


def test_what_another_version_said_is_passed(tmp_path: Path) -> None:
    from tests.bus.harness import body
    from tests.bus.journals import Journal

    journal = Journal(tmp_path, hub=False)
    journal.append("supervisor", kind="RunStarted", packed=body(other=1), cause=0)
    journal.close()
    assert summarise(tmp_path).starts == []
