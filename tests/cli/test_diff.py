from __future__ import annotations

import json
from pathlib import Path

import pytest

from optix_bus.cli import main
from tests.cli.run_folders import gone, write_run
from tests.runtime.spoken import collect, finished, judged, saved, speak, started

SCRIPT = [
    ("supervisor", started()),
    ("scheduler", collect(0)),
    ("learner", saved(0)),
    ("scheduler", judged(0)),
    ("scheduler", finished()),
]


def runs(tmp_path: Path, place: int, event: object) -> list[str]:
    """Two runs that differ in one event."""
    names = []
    for name in ("a", "b"):
        folder = write_run(tmp_path / name, gone("supervisor"))
        script = [*SCRIPT]
        if name == "b" and event is not None:
            script[place] = (SCRIPT[place][0], event)  # type: ignore[assignment]
        speak(folder.journal, script)
        names.append(str(folder.root))
    return names


def test_equal_runs_end_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = runs(tmp_path, 0, None)
    assert main(["diff", *names]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("equal: every node said the same\n")
    assert "the last snapshots are equal" in shown
    assert main(["diff", *names, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["equal"], found["first"], found["same_snapshot"]) == (True, None, True)


def test_the_first_difference_is_shown_and_the_exit_code_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = runs(tmp_path, 3, judged(0, score=float("nan")))
    assert main(["diff", *names]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0] == "first difference: the 2nd event of scheduler (event 4 in A, 4 in B): WindowJudged.score"
    )
    assert lines[1:3] == ["  A: 1.5", "  B: nan"]
    assert [line.split() for line in lines if line.startswith("scheduler")] == [
        ["scheduler", "3", "3", "1", "<"]
    ]
    assert main(["diff", *names, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert found["first"] == {
        "node": "scheduler",
        "number": 2,
        "events": {"a": 4, "b": 4},
        "types": {"a": "WindowJudged", "b": "WindowJudged"},
        "field": "score",
        "values": {"a": 1.5, "b": "nan"},
    }
    assert found["nodes"]["scheduler"] == {"a": 3, "b": 3, "equal": 1}


def test_other_types_and_missing_events_are_said_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", *runs(tmp_path, 3, collect(4))]) == 1
    assert "(event 4 in A, 4 in B): type" in capsys.readouterr().out
    speak(tmp_path / "c", SCRIPT[:4])
    assert main(["diff", str(tmp_path / "a"), str(tmp_path / "c")]) == 1
    assert "A has a RunFinished (event 5), B has no such event" in capsys.readouterr().out
    assert main(["diff", str(tmp_path / "c"), str(tmp_path / "a")]) == 1
    assert "B has a RunFinished (event 5), A has no such event" in capsys.readouterr().out


def test_what_is_no_run_is_a_wrong_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "is no run" in capsys.readouterr().err
