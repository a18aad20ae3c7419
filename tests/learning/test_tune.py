"""A small search on CartPole, as a user starts it: from the command to a policy that stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.processes.runs import TOPOLOGIES, command

pytestmark = pytest.mark.learning

#: The user's own learning rate is a hundred times too low.
BAD = "agent.hyperparameters.learning_rate=1e-5"
SPACE = "learning_rate: [log_float, 1e-5, 1e-2]\nclip_ratio: [float, 0.1, 0.3]\n"


def test_a_search_from_a_bad_start_finds_settings_that_learn(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    topology, run = str(TOPOLOGIES / "cartpole_ppo.yaml"), tmp_path / "search"
    limits = ("--trials", "10", "--workers", "2", "--steps", "16384", "--space", str(tmp_path / "space.yaml"))
    done = command("tune", topology, "--set", BAD, "--run-dir", str(run), *limits, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    print(json.dumps({key: answer[key] for key in ("best", "steps", "steps_without_pruning")}, indent=2))
    assert answer["best"]["score"] >= 450.0
    assert answer["best"]["params"]["agent.hyperparameters.learning_rate"] > 1e-4
    assert "pruned" in {row["state"] for row in answer["trials"]}
    limit = ("--set", "nodes.scheduler.max_steps=40960")
    ended = command(
        "up", answer["topology"], "--inline", "--quiet", "--run-dir", str(tmp_path / "up"), *limit
    )
    assert ended.returncode == 0, ended.stderr
    shown = command("checkpoint", "evaluate", str(tmp_path / "up"), "--episodes", "50", "--json")
    assert json.loads(shown.stdout)["mean"] >= 450.0
