"""A run whose learning breaks stops with the window and the way to see it again, and that way works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from optix_bus.cli import main

TOPOLOGY = Path(__file__).parents[2] / "topologies" / "cartpole_one_pipeline.yaml"


def test_what_the_error_says_shows_it_again(tmp_path, capsys):
    run = tmp_path / "run"
    overrides = {
        "agent.hyperparameters.learning_rate": "1e38",
        "nodes.pipeline.environments": "2",
        "nodes.pipeline.window_steps": "32",
    }
    options = [part for key, value in overrides.items() for part in ("--set", f"{key}={value}")]
    assert main(["up", str(TOPOLOGY), "--inline", "--quiet", "--run-dir", str(run), *options]) == 3
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "window 0: the update is not finite" in said
    assert "rewards 1 to 1" in said
    advice = re.search(r"To see it again in 'learner': optix-bus replay (.*) --pdb$", said)
    assert advice is not None, said
    arguments = shlex.split(advice[1])
    assert main(["replay", str(run), *arguments]) == 0
    shown = capsys.readouterr().out
    assert "as then" in shown
    assert "window 0: the update is not finite" in shown
