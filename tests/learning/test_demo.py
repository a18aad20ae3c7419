"""The demo, seed by seed: it ends by its own decision, and the policy it leaves is good."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.processes.runs import TOPOLOGIES, command, journal, leftovers, up

pytestmark = [pytest.mark.learning, pytest.mark.processes]


@pytest.mark.parametrize("seed", range(5))
def test_cartpole_is_learnt_and_the_loop_decides_that_it_is_done(seed: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = up(TOPOLOGIES / "cartpole_ppo.yaml", run, "--seed", str(seed))
    print(done.out)
    assert done.code == 0, done.err
    finished = journal(run)[-1]["body"]
    assert finished["reason"] == "converged"
    assert finished["decided_by_loop"]
    report = " ".join(finished["report"])
    for word in ("evaluations", "autocorrelation", "looks"):
        assert word in report
    evaluated = command("checkpoint", "evaluate", str(run), "--episodes", "100", "--seed", "10000", "--json")
    print(evaluated.stdout)
    result = json.loads(evaluated.stdout)
    assert result["deterministic"]
    assert result["mean"] >= 475
    assert leftovers(run) == []
