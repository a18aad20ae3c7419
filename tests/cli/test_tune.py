"""What `optix-bus tune` says about wrong requests, and what its views say about a search."""

from __future__ import annotations

import math

from optix_bus.cli import main
from optix_bus.cli.tune_views import LiveTuneView, PlainTuneView, summary, table_lines, trial_line
from optix_bus.trials.study import Row
from optix_bus.trials.tune_plan import TunePlan
from tests.architecture.docs_check import ROOT

PPO = str(ROOT / "topologies" / "cartpole_ppo.yaml")
PLAN = TunePlan(
    name="cartpole-ppo",
    seed=0,
    trials=6,
    workers=2,
    steps=1000,
    warmup_steps=None,
    prune=True,
    startup_trials=10,
    space={},
    storage="",
    settings=[],
)
ROWS = [
    Row(0, "complete", 10.0, {"agent.hyperparameters.gamma": 0.9123456}, 1024, "", "w0"),
    Row(1, "complete", 12.0, {"agent.hyperparameters.gamma": 0.95}, 1024, "", "w1"),
    Row(2, "pruned", 3.0, {"agent.hyperparameters.gamma": 0.99}, 256, "", ""),
    Row(3, "failed", math.nan, {"agent.hyperparameters.gamma": 0.99}, 0, "OSError: full", ""),
    Row(4, "running", 7.0, {"agent.hyperparameters.gamma": 0.98}, 500, "", ""),
]


def refused(capsys, *arguments):
    code = main(["tune", *arguments])
    said = capsys.readouterr()
    assert code == 2, said
    return said.err


def test_a_search_that_cannot_be_is_refused_before_anything_is_written(tmp_path, capsys):
    run = tmp_path / "run"
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: [log_flaot, 1e-4, 1e-3]\n")
    asked = [PPO, "--run-dir", str(run), "--set"]
    assert "did you mean 'log_float'?" in refused(capsys, *asked[:3], "--space", str(space))
    space.write_text("- learning_rate\n")
    assert "holds no search space" in refused(capsys, *asked[:3], "--space", str(space))
    space.write_text("a: [b\n")
    assert "cannot be read" in refused(capsys, *asked[:3], "--space", str(space))
    assert "unknown option 'trails'" in refused(capsys, *asked, "tune={trails: 3}")
    assert "'trials' of the tune" in refused(capsys, *asked, "tune={trials: many}")
    ends = refused(capsys, *asked, "tune={space: {gamma: [float, 0.5, 1.5]}}")
    assert "agent.hyperparameters.gamma=1.5" in ends
    assert not run.exists()


def test_a_folder_that_holds_a_search_is_not_begun_again(tmp_path, capsys):
    (tmp_path / "tune.json").write_text("{}")
    assert "go on with a search by --resume" in refused(capsys, PPO, "--run-dir", str(tmp_path))


def test_a_search_under_way_keeps_its_settings(tmp_path, capsys):
    said = refused(capsys, "--resume", str(tmp_path), "--steps", "10", "--set", "seed=1")
    assert "--steps, --set cannot change a search that is under way" in said
    assert "holds no search" in refused(capsys, "--resume", str(tmp_path / "nothing"))


def test_without_optuna_the_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    said = refused(capsys, PPO, "--run-dir", str(tmp_path / "run"))
    assert "pip install 'optix-bus[tune]'" in said


def test_a_line_for_each_trial_that_has_ended_and_each_once(capsys):
    view = PlainTuneView()
    view.rows(ROWS[:2], PLAN)
    view.rows(ROWS, PLAN)
    view.say("worker 0 is gone")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:4]] == ["0", "1", "2", "3"]
    assert lines[4:] == ["worker 0 is gone"]
    assert "gamma=0.9123" in lines[0]
    assert "(OSError: full)" in lines[3]
    assert "nan" not in trial_line(ROWS[3])


def test_the_table_ranks_complete_trials_and_says_what_pruning_saved():
    lines = table_lines(ROWS, PLAN)
    assert [line.split()[0] for line in lines[1:3]] == ["1", "0"]
    assert lines[3] == "1 trials were ended early: 2,804 steps instead of 3,000"
    assert lines[4] == "trial 3 failed: OSError: full"
    assert summary(ROWS, PLAN) == (
        "5 of 6 trials: 1 running, 2 complete, 1 pruned, 1 failed; best 12.00 (trial 1)"
    )


def test_the_live_view_draws_what_runs_beside_the_best(tmp_path, capsys):
    view = LiveTuneView(tmp_path)
    view.rows([], PLAN)
    view.rows(ROWS, PLAN)
    drawn = view._draw(ROWS, PLAN)
    view.say("worker 0 is gone")
    view.close()
    assert drawn.renderables[2].row_count == 3
    assert "worker 0 is gone" in capsys.readouterr().out


def test_the_help_shows_how_it_is_used(capsys):
    assert main(["tune", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "optix-bus up runs/search/best.yaml" in shown
