"""`optix-bus replay` as a person and as a program uses it."""

from __future__ import annotations

import io
import json
import os
import pdb
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from optix_bus.bus.endpoints import HubEndpoints
from optix_bus.bus.link import Link
from optix_bus.cli import main
from optix_bus.runtime.replay_run import RecordedRun
from tests.bus.harness import collect
from tests.runtime import impure_nodes
from tests.runtime.recorded import DEMO, ROOT, altered, body, contents, record, records, with_validation


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    folder = tmp_path_factory.mktemp("demo") / "run"
    return record(folder, DEMO, *with_validation("run.record=events"))


@pytest.fixture(scope="module")
def wrong(demo: RecordedRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int, int]:
    """A run with one altered verdict: its folder, the event, and the one that it answers."""
    victim = records(demo, "WindowJudged")[2]
    folder = tmp_path_factory.mktemp("wrong") / "run"
    altered(demo, folder, victim.seq, state="dormant")
    return str(folder), victim.seq, victim.cause


@pytest.fixture
def typed(monkeypatch):
    """What a person types."""

    def type_in(text):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))

    return type_in


def folder(run):
    return str(run.directory.root)


def answer(capsys, *arguments):
    """(exit code, the JSON object on stdout)."""
    code = main(["replay", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_equal_is_zero_and_says_what_was_compared(demo, capsys):
    assert main(["replay", folder(demo)]) == 0
    shown = capsys.readouterr().out
    assert f"events 1 to {demo.head} of {demo.head}" in shown
    assert "byte for byte: all equal" in shown
    assert "the environment CartPole-v1 is created again for validation, pipeline" in shown
    assert "times its speed" in shown
    code, data = answer(capsys, folder(demo), "--all")
    assert (code, data["ok"], data["equal"], data["divergence"]) == (0, True, True, None)
    assert data["events"] == demo.head
    assert data["cuts"] == len(records(demo, "CutTaken"))
    assert data["speed"] > 0


def test_the_first_difference_is_one_with_number_node_field_and_values(wrong, capsys):
    run, victim, cause = wrong
    assert main(["replay", run]) == 1
    shown = capsys.readouterr().out
    assert f"DIFFERENT event {victim}: WindowJudged of 'scheduler', answering event {cause}" in shown
    assert "  field     state\n  expected  'dormant'\n  found     'active'" in shown
    assert "--node scheduler --pdb" in shown
    code, data = answer(capsys, run)
    assert (code, data["ok"], data["exit_code"]) == (1, False, 1)
    assert data["divergence"] == {
        "sequence": victim,
        "node": "scheduler",
        "kind": "differs",
        "type": "WindowJudged",
        "cause": cause,
        "field": "state",
        "expected": "dormant",
        "found": "active",
    }


def test_what_cannot_be_replayed_is_two_and_says_what_is_missing(demo, capsys):
    assert main(["replay", folder(demo), "--node", "learner"]) == 2
    captured = capsys.readouterr()
    assert "error: event" in captured.err
    assert "needs arrays that were not recorded: pipeline/window-000000" in captured.err
    code, data = answer(capsys, folder(demo), "--node", "learner")
    assert (code, data["ok"]) == (2, False)
    assert "pipeline/window-000000" in data["missing"]


def test_several_nodes_and_a_part_of_the_run_can_be_named(demo, capsys):
    code, data = answer(
        capsys, folder(demo), "--node", "scheduler", "--node", "optimizer", "--from", "30", "--to", "40"
    )
    assert (code, data["nodes"], data["events"]) == (0, ["scheduler", "optimizer"], 11)
    assert (data["from"], data["to"]) == (30, 40)


def test_numbers_that_are_none_are_texts_in_json(demo, tmp_path, capsys):
    victim = records(demo, "WindowScored")[0]
    altered(demo, tmp_path / "run", victim.seq, score=float("nan"))
    code, data = answer(capsys, str(tmp_path / "run"))
    assert (code, data["divergence"]["expected"]) == (1, "nan")


def test_stops_are_printed_where_the_expression_holds(demo, capsys):
    expression = "WindowJudged and window >= 3"
    assert main(["replay", folder(demo), "--node", "scheduler", "--break", expression]) == 0
    stops = [line for line in capsys.readouterr().out.splitlines() if line.startswith("event ")]
    wanted = [found for found in records(demo, "WindowJudged") if body(found)["window"] >= 3]
    assert [line.split("  ")[0] for line in stops] == [f"event {found.seq}" for found in wanted]
    _, data = answer(capsys, folder(demo), "--node", "scheduler", "--break", "CollectWindow and window == 2")
    [stop] = data["stops"]
    assert (stop["type"], stop["event"]["window"], stop["emitted"]) == ("CollectWindow", 2, [])


def test_at_a_stop_the_answers_are_shown(demo, capsys):
    scored = records(demo, "WindowScored", purpose="score")[0]
    assert main(["replay", folder(demo), "--node", "scheduler", "--break", f"seq == {scored.seq}"]) == 0
    shown = capsys.readouterr().out
    assert f"WindowScored of evaluator, answering event {scored.cause}" in shown
    assert "  -> scheduler: EvaluationRequested  window=0" in shown


def test_steps_wait_for_enter_and_end_where_the_person_leaves(demo, typed, capsys):
    typed("\n\nq\n")
    assert main(["replay", folder(demo), "--node", "scheduler", "--step"]) == 0
    captured = capsys.readouterr()
    assert [line.split()[1] for line in captured.out.splitlines() if line.startswith("event ")] == [
        "1",
        "2",
        "3",
    ]
    assert captured.err.count("Enter: next event") == 3
    assert f"events 1 to 3 of {demo.head}" in captured.out


@pytest.mark.parametrize("text", ["c\n", ""])
def test_steps_go_on_without_stopping_when_told_to_or_when_nobody_is_there(demo, typed, capsys, text):
    typed(text)
    assert main(["replay", folder(demo), "--node", "scheduler", "--step"]) == 0
    assert "all equal" in capsys.readouterr().out


def test_the_debugger_is_in_the_handler_with_the_state_of_the_node(demo, typed, capsys):
    typed("p self.machine.best_score\np event.window\nw\nc\n")
    expression = "WindowScored and window == 1 and purpose == 'score'"
    assert main(["replay", folder(demo), "--node", "scheduler", "--break", expression, "--pdb"]) == 0
    shown = capsys.readouterr().out
    promoted = records(demo, "PolicyPromoted")[0]
    assert f"(Pdb) {body(promoted)['score']}\n(Pdb) 1\n" in shown
    assert "on_scored" in shown
    assert "all equal" in shown


def test_who_leaves_the_debugger_leaves_the_replay(demo, typed, capsys):
    typed("q\n")
    assert main(["replay", folder(demo), "--node", "scheduler", "--break", "WindowScored", "--pdb"]) == 0
    captured = capsys.readouterr()
    assert "left the debugger" in captured.err
    assert "equal" not in captured.out


def test_without_a_stop_the_debugger_is_where_the_first_difference_was_made(wrong, typed, capsys):
    run, _, cause = wrong
    typed("p ctx.sequence\nc\n")
    assert main(["replay", run, "--node", "scheduler", "--pdb"]) == 1
    captured = capsys.readouterr()
    assert f"playing again up to event {cause}, which 'scheduler' was answering" in captured.err
    assert f"(Pdb) {cause}\n" in captured.out


def test_without_a_stop_the_debugger_is_where_a_node_raises(tmp_path, typed, capsys):
    node = "nodes.checkpoint.node=tests.runtime.impure_nodes:FragileCheckpoint"
    record(tmp_path / "run", DEMO, *with_validation(node))
    impure_nodes.RAISES_AT_WINDOW.append(1)
    typed("p event.window\nq\n")
    try:
        assert main(["replay", str(tmp_path / "run"), "--pdb"]) == 1
    finally:
        impure_nodes.RAISES_AT_WINDOW.clear()
    captured = capsys.readouterr()
    assert "the debugger is where it was raised" in captured.err
    assert "(Pdb) 1\n" in captured.out
    assert "now the node raises" in captured.out


def test_a_question_is_answered_with_zero_whether_equal_or_not(demo, tmp_path, capsys):
    other = tmp_path / "other.yaml"
    other.write_text(DEMO.read_text())
    asked = ["replay", folder(demo), "--node", "scheduler", "--with", str(other)]
    changed = DEMO.read_text().replace(
        "nodes.scheduler:SchedulerNode", "nodes.scheduler:SchedulerNode\n    max_episodes: 3"
    )
    other.write_text(changed)
    assert main(asked) == 0
    window = records(demo, "CollectWindow", window=3)[0]
    shown = capsys.readouterr().out
    assert f"void      from event {window.seq} on: validation, pipeline, checkpoint would have acted" in shown
    assert f"optix-bus fork {folder(demo)} --at {window.cause - 1} --run-dir NEW" in shown
    code, data = answer(capsys, *asked[1:])
    assert (code, data["equal"], data["void_from"]["sequence"]) == (0, False, window.seq)
    assert {difference["type"] for difference in data["differences"]} == {
        "CollectWindow",
        "RollbackRequested",
    }


def test_a_patch_asks_about_another_class(demo, capsys):
    patch = "tests.runtime.impure_nodes:EagerScheduler"
    code, data = answer(capsys, folder(demo), "--node", "scheduler", "--patch", patch)
    assert (code, data["equal"], data["void_from"]["window"]) == (0, False, 2)
    code, data = answer(
        capsys, folder(demo), "--node", "scheduler", "--patch", "nodes.scheduler:SchedulerNode"
    )
    assert (code, data["equal"], data["void_from"]) == (0, True, None)


def test_a_patch_beside_which_the_person_stands_is_found(demo, tmp_path, monkeypatch, capsys):
    (tmp_path / "my_scheduler.py").write_text(
        "from nodes.scheduler import SchedulerNode\nclass Mine(SchedulerNode):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    code, data = answer(capsys, folder(demo), "--node", "scheduler", "--patch", "my_scheduler:Mine")
    assert (code, data["equal"]) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--node", "scheduler", "--all"], "--node and --all ask for different things"),
        (["--rate", "2"], "--rate has an effect with --live only"),
        (["--loop"], "--loop has an effect with --live only"),
        (["--live", "--step"], "--step has no effect with --live"),
        (["--live", "--break", "WindowScored"], "--break has no effect with --live"),
        (["--live", "--node", "learner"], "--node has no effect with --live"),
        (["--patch", "a:B"], "ask about one node: name it with --node NAME"),
        (["--patch", "a:B", "--node", "a", "--node", "b"], "ask about one node"),
        (["--patch", "a:B", "--node", "scheduler", "--from", "3"], "leave out --from"),
        (["--json", "--pdb"], "--pdb talks to a person"),
        (["--json", "--step"], "--step talks to a person"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(demo, capsys, arguments, why):
    assert main(["replay", folder(demo), *arguments]) == 2
    captured = capsys.readouterr()
    assert why in captured.err + captured.out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--break", "score >"], "is no expression over an event"),
        (["--node", "lerner"], "no node 'lerner'"),
        (["--from", "99999"], "expected a range within"),
        (["--node", "scheduler", "--patch", "no.such:Class"], "cannot be imported"),
        (["--live", "--rate", "0", "--events", "Nothing"], "no such event type"),
    ],
)
def test_what_was_asked_for_wrongly_is_two_with_the_reason(demo, capsys, arguments, why):
    assert main(["replay", folder(demo), *arguments]) == 2
    assert why in capsys.readouterr().err


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert main(["replay", str(tmp_path)]) == 2
    assert "is no run" in capsys.readouterr().err


def test_a_damaged_journal_is_two(demo, tmp_path, capsys):
    import shutil

    shutil.copytree(demo.directory.root, tmp_path / "run")
    journal = next((tmp_path / "run" / "journal").glob("*.mcap"))
    data = bytearray(journal.read_bytes())
    data[data.index(records(demo, "WindowScored")[1].body) + 9] ^= 4
    journal.write_bytes(data)
    assert main(["replay", str(tmp_path / "run"), "--node", "scheduler"]) == 2
    captured = capsys.readouterr()
    assert "equal up to there" in captured.out
    assert captured.err.startswith("error: ")


def test_the_run_is_published_and_verified(demo, capsys):
    before = contents(demo.directory.root)
    assert main(["replay", folder(demo), "--live", "--rate", "0", "--hold", "0"]) == 0
    captured = capsys.readouterr()
    assert f"published {demo.head} events: all in the new journal, in order" in captured.out
    assert "from_seq=1" in captured.err
    code, data = answer(
        capsys, folder(demo), "--live", "--rate", "0", "--hold", "0", "--events", "WindowScored, WindowJudged"
    )
    assert (code, data["ok"], data["verified"], data["same_numbers"]) == (0, True, True, False)
    assert data["events"] == len(records(demo, "WindowScored")) + len(records(demo, "WindowJudged"))
    assert contents(demo.directory.root) == before


def test_a_loop_is_ended_by_ctrl_c_in_order_and_leaves_nothing(demo):
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "optix_bus.cli",
            "replay",
            folder(demo),
            "--live",
            "--rate",
            "0",
            "--loop",
            "--json",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(60.0, process.kill)
    watchdog.start()
    try:
        assert process.stderr is not None
        sockets = Path(process.stderr.readline().split(" is published in ")[1].split(";")[0])
        link = Link(HubEndpoints.in_directory(sockets), from_seq=None)
        try:
            # A whole pass and more, wherever the loop stands now.
            received = collect(link, 3 * demo.head)
        finally:
            link.close(0.0)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    data = json.loads(out)
    assert process.returncode == 0
    assert data["verified"]
    assert data["passes"] >= 2
    assert {found.type for found in received} == {found.type for found in demo.records()}
    assert not sockets.exists()


def test_progress_is_drawn_on_a_terminal_only(demo, capsys, monkeypatch):
    main(["replay", folder(demo), "--node", "scheduler"])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    main(["replay", folder(demo), "--node", "scheduler"])
    shown = capsys.readouterr().err
    assert shown.startswith(f"\revent 1 of {demo.head}")
    assert shown.endswith("\r")


def test_no_trap_stays_in_a_node(demo, typed, monkeypatch, capsys):
    """What the debugger puts into a node is gone with the event."""
    entered = []
    monkeypatch.setattr(
        pdb.Pdb, "runcall", lambda self, handle, event, ctx: entered.append(handle(event, ctx))
    )
    one = records(demo, "WindowScored")[1]
    assert main(["replay", folder(demo), "--node", "scheduler", "--break", f"seq == {one.seq}", "--pdb"]) == 0
    assert entered == [None]
    assert "all equal" in capsys.readouterr().out


def test_it_imports_no_framework_for_nodes_that_need_none(demo):
    code = (
        "import sys; from optix_bus.cli import main; "
        f"code = main(['replay', {folder(demo)!r}, '--node', 'scheduler', '--node', 'optimizer']); "
        "print(code, 'torch' in sys.modules, 'gymnasium' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ}
    )
    assert done.stdout.splitlines()[-1] == "0 False False"
