from __future__ import annotations

import json
import subprocess
import sys

import pytest

from optix_bus.cli import main
from optix_bus.cli.command import colour_wanted
from tests.runtime.topologies import RIGHT


@pytest.fixture
def topology(tmp_path):
    path = tmp_path / "topology.yaml"
    path.write_text(RIGHT)
    return path


def test_a_right_topology_is_said_to_be_right(topology, capsys):
    assert main(["validate", str(topology)]) == 0
    assert capsys.readouterr().out == f"{topology}: valid; ppo on CartPole-v1, 3 nodes in 3 processes\n"


def test_the_answer_in_json_names_nodes_and_processes(topology, capsys):
    assert main(["validate", str(topology), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is True
    assert answer["nodes"] == ["collector", "learner", "driver"]
    assert answer["processes"]["driver"] == ["driver"]
    assert len(answer["digest"]) == 64


def test_every_mistake_is_shown_and_the_exit_code_is_two(topology, capsys):
    topology.write_text(RIGHT.replace("seed: 7", "sed: 7").replace("window_steps", "windw_steps"))
    assert main(["validate", str(topology)]) == 2
    shown = capsys.readouterr().err
    assert f"{topology}:4:1: unknown option 'sed'" in shown
    assert f"{topology}:15:5: unknown option 'windw_steps'" in shown
    assert "    ^^^\n" in shown
    assert shown.endswith("error: 2 problems, nothing was started\n")


def test_every_mistake_is_in_the_json(topology, capsys):
    topology.write_text(RIGHT.replace("seed: 7", "sed: 7"))
    assert main(["validate", str(topology), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert answer["problems"] == [
        {
            "file": str(topology),
            "line": 4,
            "column": 1,
            "message": "unknown option 'sed' of the topology",
            "suggestion": "did you mean 'seed'?",
            "path": "sed",
        }
    ]


def test_overrides_are_checked_too(topology, capsys):
    assert main(["validate", str(topology), "--set", "seed=3", "--set", "nodes.driver.windows=9"]) == 0
    assert main(["validate", str(topology), "--set", "nodes.driver.widnows=9"]) == 2
    assert "--set:1:14: unknown option 'widnows' of node 'driver'" in capsys.readouterr().err


def test_an_environment_that_is_not_installed_can_be_skipped(topology):
    topology.write_text(RIGHT.replace("CartPole-v1", "NotInstalledHere-v0"))
    assert main(["validate", str(topology)]) == 2
    assert main(["validate", str(topology), "--skip-environment"]) == 0


def test_a_file_that_is_not_there_is_one_clear_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["validate"]) == 2
    shown = capsys.readouterr().err
    assert "topology.yaml: cannot read this file" in shown
    assert "optix-bus init" in shown


def test_only_a_terminal_gets_colour_and_only_if_its_user_has_not_refused(monkeypatch):
    class Terminal:
        def isatty(self):
            return True

    assert not colour_wanted()  # the tests' stderr is no terminal
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert colour_wanted()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour_wanted()


def test_validate_never_imports_a_framework(topology):
    code = (
        "import sys; from optix_bus.cli import main\n"
        f"code = main(['validate', {str(topology)!r}])\n"
        "print(code, [m for m in ('torch', 'tensorflow', 'jax', 'zmq') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
