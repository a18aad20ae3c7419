"""A run inline leaves what the other commands read."""

from __future__ import annotations

import json

import pytest

from optix_bus.cli import main
from optix_bus.errors import NodeFailure
from optix_bus.runtime import inline_run
from optix_bus.runtime.run_directory import RunDirectory
from tests.architecture.docs_check import ROOT

SMALL = [
    argument
    for override in (
        "nodes.scheduler.max_episodes=2",
        "nodes.pipeline.environments=2",
        "nodes.pipeline.window_steps=32",
        "nodes.validation.episodes=2",
        "nodes.validation.environments=2",
    )
    for argument in ("--set", override)
]


def up(folder, *flags):
    topology = str(ROOT / "topologies" / "cartpole_ppo.yaml")
    return main(["up", topology, "--inline", "--run-dir", str(folder), *SMALL, *flags])


def test_its_run_can_be_shown_ended_and_evaluated_like_any_other(tmp_path, capsys):
    run = tmp_path / "run"
    assert up(run, "--quiet") == 0
    capsys.readouterr()
    assert main(["ps", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reason"] == "max_episodes"
    assert RunDirectory(run).read().state == "finished"
    assert main(["checkpoint", "evaluate", str(run), "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2


def test_a_limit_of_steps_is_an_end_in_order_like_every_other_limit(tmp_path):
    assert up(tmp_path / "run", "--quiet", "--set", "nodes.scheduler.max_steps=64") == 0
    record = RunDirectory(tmp_path / "run").read()
    assert (record.state, record.reason) == ("finished", "max_steps")


def test_a_run_that_fails_says_so_in_its_record(tmp_path, monkeypatch):
    def fail(self):
        raise NodeFailure("the learner has had enough")

    monkeypatch.setattr(inline_run.InlineRunner, "run", fail)
    assert up(tmp_path / "run") == 3
    record = RunDirectory(tmp_path / "run").read()
    assert (record.state, record.exit_code, record.reason) == ("failed", 3, "the learner has had enough")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_also_an_end_that_nobody_foresaw_is_in_the_record(tmp_path, monkeypatch, error):
    def fail(self):
        raise error

    monkeypatch.setattr(inline_run.InlineRunner, "run", fail)
    assert up(tmp_path / "run") == (130 if error is KeyboardInterrupt else 1)
    assert RunDirectory(tmp_path / "run").read().state == "failed"
