from __future__ import annotations

import json
import os

import pytest

from optix_bus.cli import main
from tests.cli.run_folders import NO_PID, gone, this_process, write_run


@pytest.fixture
def running(tmp_path):
    hub = this_process("hub", ("hub",))
    learner = this_process("learner", ("learner",), restarts=2, incarnation=3)
    shared = this_process("worlds", ("pipeline", "validation"), incarnation=1)
    return write_run(tmp_path / "run", this_process("supervisor"), hub, learner, shared).root


def rows(capsys):
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)["nodes"]}


def test_hub_and_supervisor_are_listed_with_the_nodes(running, capsys):
    assert main(["ps", str(running)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"run  RUNNING  seed 7  {running}"
    assert lines[1].split() == ["NAME", "PID", "STATE", "RESTARTS", "INCARNATION", "MEMORY", "PROCESS"]
    assert [line.split()[0] for line in lines[2:]] == [
        "supervisor",
        "hub",
        "learner",
        "pipeline",
        "validation",
    ]


def test_a_line_shows_pid_state_restarts_and_incarnation(running, capsys):
    main(["ps", str(running)])
    learner = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("learner"))
    assert learner.split()[:5] == ["learner", str(os.getpid()), "ready", "2", "3"]
    assert learner.split()[6:] == ["MiB", "learner"]


def test_the_answer_in_json_holds_the_same_and_the_memory_in_bytes(running, capsys):
    assert main(["ps", str(running), "--json"]) == 0
    found = rows(capsys)
    assert found["learner"]["restarts"] == 2
    assert found["learner"]["incarnation"] == 3
    assert found["learner"]["rss_bytes"] > 2**20


def test_nodes_of_one_process_share_its_pid_and_name_it(running, capsys):
    main(["ps", str(running), "--json"])
    found = rows(capsys)
    assert found["pipeline"]["pid"] == found["validation"]["pid"] == os.getpid()
    assert found["pipeline"]["process"] == found["validation"]["process"] == "worlds"


def test_a_run_whose_supervisor_is_gone_is_dead_and_not_running(tmp_path, capsys):
    run = write_run(tmp_path / "run", gone("supervisor"), gone("learner", ("learner",)))
    assert main(["ps", str(run.root), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["state"] == "dead"
    assert {row["name"]: row["state"] for row in answer["nodes"]} == {"supervisor": "gone", "learner": "gone"}
    assert all(row["rss_bytes"] == 0 for row in answer["nodes"])
    main(["ps", str(run.root)])
    assert "DEAD" in capsys.readouterr().out


@pytest.mark.parametrize(("supervisor", "state"), [(this_process, "waiting"), (gone, "gone")])
def test_a_node_that_waits_for_its_restart_is_not_called_gone_while_somebody_will_restart_it(
    tmp_path, capsys, supervisor, state
):
    learner = gone("learner", ("learner",), state="waiting")
    learner.reason = "killed by SIGKILL"
    run = write_run(tmp_path / "run", supervisor("supervisor"), learner)
    assert main(["ps", str(run.root), "--json"]) == 0
    row = rows(capsys)["learner"]
    assert (row["state"], row["reason"]) == (state, "killed by SIGKILL")


def test_a_later_process_with_the_same_pid_is_not_taken_for_ours(tmp_path, capsys):
    impostor = this_process("supervisor")
    impostor.created -= 3600.0
    run = write_run(tmp_path / "run", impostor)
    main(["ps", str(run.root), "--json"])
    assert json.loads(capsys.readouterr().out)["state"] == "dead"


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_a_run_that_has_ended_is_not_called_dead(tmp_path, capsys, state):
    processes = gone("learner", ("learner",), state="lost"), gone("hub", ("hub",), state="ended")
    run = write_run(tmp_path / "run", gone("supervisor"), *processes, state=state, reason="converged")
    main(["ps", str(run.root), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert (answer["state"], answer["reason"]) == (state, "converged")
    states = {row["name"]: row["state"] for row in answer["nodes"]}
    assert states == {"supervisor": "ended", "learner": "lost", "hub": "ended"}


def test_without_a_name_the_newest_run_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("newer", "older")):
        run = write_run(tmp_path / "runs" / name, gone("supervisor"))
        os.utime(run.record, (1e9 - number, 1e9 - number))
    assert main(["ps", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == "newer"


def test_a_run_may_be_named_without_the_folder_above(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "tonight", gone("supervisor"))
    assert main(["ps", "tonight", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == "tonight"


def test_a_folder_that_is_no_run_is_refused_and_the_runs_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["ps"]) == 2
    assert "there is no run below ./runs" in capsys.readouterr().err
    write_run(tmp_path / "runs" / "tonight", gone("supervisor"))
    assert main(["ps", "tomorrow"]) == 2
    assert "tomorrow is no run; newest runs: runs/tonight" in capsys.readouterr().err


def test_a_damaged_record_is_an_error_that_names_the_file(tmp_path, capsys):
    run = write_run(tmp_path / "run", gone("supervisor"))
    run.record.write_text('{"run_id": 3')
    assert main(["ps", str(run.root)]) == 2
    assert f"{run.record} is damaged" in capsys.readouterr().err


def test_the_pid_of_the_tests_that_nobody_has_is_nobodys():
    with pytest.raises(ProcessLookupError):
        os.kill(NO_PID, 0)
