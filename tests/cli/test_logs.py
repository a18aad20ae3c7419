from __future__ import annotations

import json

import pytest

from optix_bus.cli import logs as module
from optix_bus.cli import main
from tests.cli.run_folders import gone, this_process, write_run


@pytest.fixture
def run(tmp_path):
    processes = gone("learner", ("learner",)), gone("worlds", ("pipeline", "validation"))
    made = write_run(tmp_path / "run", gone("supervisor"), *processes, state="finished")
    (made.logs / "learner.log").write_text("one\ntwo\nthree\n")
    (made.logs / "worlds.log").write_text("a world\n")
    return made


def shown(capsys):
    return [tuple(line.split(maxsplit=1)) for line in capsys.readouterr().out.splitlines()]


def test_all_processes_speak_each_under_its_name(run, capsys):
    assert main(["logs", str(run.root)]) == 0
    expected = [("learner", "one"), ("learner", "two"), ("learner", "three"), ("worlds", "a world")]
    assert shown(capsys) == expected


def test_one_node_is_enough(run, capsys):
    assert main(["logs", str(run.root), "learner"]) == 0
    assert shown(capsys) == [("learner", "one"), ("learner", "two"), ("learner", "three")]


def test_a_node_that_shares_a_process_is_found_in_its_log(run, capsys):
    assert main(["logs", str(run.root), "validation"]) == 0
    assert shown(capsys) == [("worlds", "a world")]


def test_an_unknown_node_is_refused_and_the_logs_are_named(run, capsys):
    assert main(["logs", str(run.root), "lerner"]) == 2
    assert capsys.readouterr().err == "error: lerner has no log; logs: learner, worlds\n"


@pytest.mark.parametrize(
    ("tail", "lines"), [(1, ["three"]), (2, ["two", "three"]), (0, []), (9, ["one", "two", "three"])]
)
def test_tail_is_the_number_of_lines_of_each_process(run, capsys, tail, lines):
    assert main(["logs", str(run.root), "learner", "--tail", str(tail)]) == 0
    assert [line for _, line in shown(capsys)] == lines


def test_a_negative_tail_is_refused(run, capsys):
    assert main(["logs", str(run.root), "--tail", "-1"]) == 2
    assert "--tail" in capsys.readouterr().err


def test_with_json_every_line_is_an_object(run, capsys):
    assert main(["logs", str(run.root), "learner", "--tail", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"process": "learner", "line": "three"}


def test_bytes_that_are_no_text_do_not_hide_the_rest(run, capsys):
    (run.logs / "learner.log").write_bytes(b"caf\xe9\nwell\n")
    assert main(["logs", str(run.root), "learner"]) == 0
    assert [line for _, line in shown(capsys)] == ["caf\ufffd", "well"]


def test_a_last_line_without_its_end_is_shown(run, capsys):
    (run.logs / "learner.log").write_text("one\nhalf")
    for flags in ([], ["--follow"]):
        assert main(["logs", str(run.root), "learner", *flags]) == 0
        assert [line for _, line in shown(capsys)] == ["one", "half"]


def test_following_a_run_that_has_ended_ends(run, capsys):
    assert main(["logs", str(run.root), "--follow", "--tail", "0"]) == 0
    assert shown(capsys) == []


def test_following_shows_what_is_new_and_never_half_a_line(tmp_path, monkeypatch, capsys):
    run = write_run(tmp_path / "run", this_process("supervisor"), gone("learner", ("learner",)))
    log = run.logs / "learner.log"
    log.write_text("whole\nhal")
    turns = iter(["f\n", "next", " line\n"])

    def write_more(seconds):
        more = next(turns, None)
        if more is None:
            write_end(run)
        else:
            with log.open("a") as file:
                file.write(more)

    monkeypatch.setattr(module.time, "sleep", write_more)
    assert main(["logs", str(run.root), "--follow"]) == 0
    assert [line for _, line in shown(capsys)] == ["whole", "half", "next line"]


def write_end(run):
    record = run.read()
    record.supervisor = gone("supervisor")
    run.write(record)
