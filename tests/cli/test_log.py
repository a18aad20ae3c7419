from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from optix_bus.bus.journal_files import segment_path
from optix_bus.bus.journal_reader import read_journal
from optix_bus.cli import main
from optix_bus.messages import CutAnnounced, CutTaken
from optix_bus.runtime.cuts import Place
from optix_bus.runtime.run_directory import RunDirectory
from tests.bus.journals import Journal, flip, spans
from tests.cli.run_folders import gone, write_run
from tests.runtime.spoken import collect, finished, judged, ready, saved, speak, started

SCRIPT = [
    ("supervisor", started()),
    ("supervisor", ready("learner")),
    ("scheduler", collect(0)),
    ("learner", saved(0)),
    ("scheduler", judged(0, float("nan"))),
    ("scheduler", CutAnnounced(cut=1, window=0)),
    ("learner", CutTaken(cut=1, node="learner", file="f", bytes=1, checksum="c")),
    ("scheduler", CutTaken(cut=1, node="scheduler", file="f", bytes=1, checksum="c")),
    ("scheduler", CutAnnounced(cut=2, window=1)),
    ("scheduler", finished()),
]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    folder = write_run(tmp_path / "runs" / "demo", gone("supervisor"), state="finished")
    speak(folder.journal, SCRIPT)
    return folder


def damage(folder: RunDirectory, place: int) -> None:
    path = segment_path(folder.journal, 1)
    flip(path, spans(path.read_bytes())[place][1] - 12)


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    main([*(str(argument) for argument in arguments), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", ["info", "verify", "repair", "export"])
def test_every_part_of_log_has_help_with_an_example_and_takes_json(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["log", name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"optix-bus log {name}" in shown.partition("Example:")[2]
    assert "--json" in shown


def test_info_shows_a_run_at_a_glance(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "info", str(run.root)]) == 0
    shown = capsys.readouterr().out
    for line in (
        "run       run",
        "holds     10 events (1 to 10)",
        "the run   finished: converged",
        "closed    in order",
        "scheduler                          6  —",
        "CutTaken                           2",
        "1            0         6  all nodes",
        "2            1         9  0 of 2 nodes",
    ):
        assert line in shown


def test_info_is_for_programs_too(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "log", "info", run.root)
    assert (found["ok"], found["run"], found["seed"], found["events"]) == (True, "run", 7, 10)
    assert found["finished"] == {"reason": "converged", "windows": 3, "best_score": 1.5}
    assert found["nodes"] == {"scheduler": 6, "supervisor": 2, "learner": 2}
    assert found["cuts"][0] == {  # type: ignore[index]
        "cut": 1,
        "window": 0,
        "event": 6,
        "nodes": ["learner", "scheduler"],
        "complete": True,
    }
    assert found["closed"] is True


def test_the_newest_run_a_name_and_a_bare_journal_are_found(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.root.parents[1])
    for named in ([], ["demo"], [str(run.journal)]):
        assert main(["log", "verify", *named]) == 0
        assert "10 events (1 to 10), 1 segment" in capsys.readouterr().out


def test_info_reads_a_run_that_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(tmp_path / "j")
    journal.append()
    assert main(["log", "info", str(tmp_path / "j")]) == 0
    shown = capsys.readouterr().out
    assert "the run   has not finished" in shown
    assert "closed    no" in shown
    assert main(["log", "verify", str(tmp_path / "j")]) == 0
    assert "note: not closed: the run goes on, or its hub was killed" in capsys.readouterr().out
    journal.close()


def test_verify_says_whole_and_ends_with_0(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "verify", str(run.root)]) == 0
    assert capsys.readouterr().out.endswith("\nwhole\n")
    found = answer(capsys, "log", "verify", run.root)
    assert (found["ok"], found["clean"], found["damages"], found["readable"]) == (True, True, [], [[1, 10]])


def test_verify_names_every_damage_and_ends_with_1(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run, 3)
    assert main(["log", "verify", str(run.root)]) == 1
    shown = capsys.readouterr().out
    assert "event 4 is lost, readable up to 3, again from 5" in shown
    assert "readable from the start: events 1 to 3" in shown
    assert "behind a hole: events 5 to 10" in shown
    assert main(["log", "verify", str(run.root), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert found["damages"][0] == {
        "segment": 1,
        "offset": found["damages"][0]["offset"],
        "end": found["damages"][0]["end"],
        "event": 4,
        "kind": "bytes",
        "text": "an event whose checksum is wrong: a byte has changed",
        "lost": [4, 4],
        "readable_before": 3,
        "readable_behind": 5,
    }
    assert main(["log", "info", str(run.root)]) == 0
    assert "readable from the start: events 1 to 3" in capsys.readouterr().out


def test_verify_decodes_bodies_unless_told_not_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(tmp_path, hub=False)
    journal.append(kind="WindowJudged")
    journal.append(kind="FromTheFuture")
    journal.close()
    assert main(["log", "verify", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "WindowJudged does not fit its fields" in shown
    assert "note: types that this version does not know: 1 FromTheFuture" in shown
    assert main(["log", "verify", "--no-bodies", str(tmp_path)]) == 0


def test_repair_writes_a_copy_beside_and_leaves_the_run_alone(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run, 3)
    before = segment_path(run.journal, 1).read_bytes()
    assert main(["log", "repair", str(run.root)]) == 0
    shown = capsys.readouterr().out
    repaired, salvage = run.root / "journal.repaired", run.root / "journal.salvage"
    assert f"kept      events 1 to 3 in {repaired}" in shown
    assert f"salvaged  events 5 to 10 in {salvage / '00000000000000000005'}" in shown
    assert "lost      event 4" in shown
    assert "verified  whole; a hub goes on with event 4" in shown
    assert segment_path(run.journal, 1).read_bytes() == before
    assert main(["log", "verify", str(repaired)]) == 0
    assert main(["log", "repair", str(run.root)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_repair_in_place_keeps_the_damaged_journal(
    run: RunDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(run, 3)
    before = segment_path(run.journal, 1).read_bytes()
    monkeypatch.chdir(run.journal)
    found = answer(capsys, "log", "repair", ".", "--in-place")
    assert (found["kept"], found["lost"], found["clean"]) == ([1, 3], [[4, 4]], True)
    assert found["backup"] == str(run.root / "journal.damaged")
    assert segment_path(run.root / "journal.damaged", 1).read_bytes() == before
    assert [record.seq for record in read_journal(run.journal)] == [1, 2, 3]
    assert not (run.root / "journal.repaired").exists()


def test_repair_into_a_named_folder(run: RunDirectory, tmp_path: Path) -> None:
    assert main(["log", "repair", str(run.root), "--out", str(tmp_path / "new")]) == 0
    assert len(list(read_journal(tmp_path / "new"))) == 10
    assert main(["log", "repair", str(run.root), "--out", str(tmp_path / "x"), "--in-place"]) == 2


def test_cuts_search_for_their_events_again_when_a_repair_has_moved_them(run: RunDirectory) -> None:
    journal = Journal(run.root / "moved")
    for _ in range(3):
        journal.append()
    journal.close()
    path = segment_path(run.root / "moved", 1)
    run.journal.rename(run.root / "before")
    (run.root / "moved").rename(run.journal)
    path = segment_path(run.journal, 1)
    flip(path, path.read_bytes().index(b"0123456789abcdef"))  # the first HELLO
    cut = run.root / "cuts" / "000001" / "cut.json"
    cut.parent.mkdir(parents=True)
    cut.write_bytes(b'{"cut":1,"sequence":3,"window":0,"near":[2,1,400]}')
    assert main(["log", "repair", str(run.root), "--in-place"]) == 0
    from msgspec.json import decode

    assert decode(cut.read_bytes(), type=Place) == Place(1, 3, 0, None)


def test_export_writes_lines_to_stdout_or_a_file(
    run: RunDirectory, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["log", "export", str(run.root), "--type", "WindowJudged", "--json"]) == 0
    (line,) = capfdbinary.readouterr().out.splitlines()
    found = json.loads(line)
    assert (found["seq"], found["type"], found["body"]["score"]) == (5, "WindowJudged", None)
    output = tmp_path / "events.jsonl"
    arguments = ["--node", "learner", "--from", "5", "--to", "9", "--output", str(output)]
    assert main(["log", "export", str(run.root), *arguments]) == 0
    assert capfdbinary.readouterr().out == f"1 events -> {output}\n".encode()
    assert [json.loads(line)["seq"] for line in output.read_bytes().splitlines()] == [7]


def test_export_writes_a_table(run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    output = tmp_path / "events.parquet"
    found = answer(capsys, "log", "export", run.root, "--parquet", "--output", output)
    assert found == {"ok": True, "output": str(output), "events": 10, "damages": 0}
    assert parquet.read_table(output).column("seq").to_pylist() == list(range(1, 11))
    assert main(["log", "export", str(run.root), "--parquet"]) == 2
    assert "--parquet needs --output FILE" in capsys.readouterr().err


def test_export_of_a_damaged_journal_gives_what_can_be_read_and_ends_with_1(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run, 3)
    assert main(["log", "export", str(run.root), "--output", str(tmp_path / "x")]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("9 events")
    assert "1 damaged places; optix-bus log verify names them" in captured.err


def test_export_into_a_file_that_cannot_be_written_is_an_error(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["log", "export", str(run.root), "--output", str(tmp_path)]) == 2
    assert "cannot be written: Is a directory" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["info"], ["verify"], ["repair"], ["export"]])
def test_no_journal_is_a_wrong_question(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["log", *command, str(tmp_path / "nothing")]) == 2
    assert "is no run" in capsys.readouterr().err
    empty = write_run(tmp_path / "empty", gone("supervisor"))
    assert main(["log", *command, str(empty.root)]) == 2
    assert "has no journal" in capsys.readouterr().err


def test_a_reader_of_the_export_may_go_away(run: RunDirectory) -> None:
    command = f'"{sys.executable}" -m optix_bus.cli log export "{run.root}" | head -1'
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert json.loads(done.stdout)["seq"] == 1
    assert done.stderr == ""
