"""Several processes on one study: each trial is begun by exactly one of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from optix_bus.trials.course import Budget
from optix_bus.trials.space import ParamSpace
from optix_bus.trials.study import TrialStudy
from tests.processes.runs import ROOT

pytestmark = pytest.mark.processes

_WORKER = """
import sys
from optix_bus.trials.course import Budget
from optix_bus.trials.space import ParamSpace
from optix_bus.trials.study import TrialStudy
study = TrialStudy(ParamSpace({"x": ("float", 0.0, 1.0)}), Budget.of(100, None), sys.argv[1], seed=3)
while (trial := study.claim(12)) is not None:
    x = study.space.suggest(trial)["x"]
    print(trial.number, repr(x), flush=True)
    trial.report(x, 50)
    study.complete(trial, x)
"""


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_three_workers_share_the_trials_and_begin_none_twice(tmp_path, kind):
    storage = str(tmp_path / "s.journal") if kind == "journal" else f"sqlite:///{tmp_path / 's.db'}"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, storage],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    said = [worker.communicate(timeout=240) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], said
    begun = [line.split() for out, _ in said for line in out.splitlines()]
    assert sorted(int(number) for number, _ in begun) == list(range(12))
    assert len({x for _, x in begun}) == 12
    study = TrialStudy(ParamSpace({"x": ("float", 0.0, 1.0)}), Budget.of(100, None), storage, seed=3)
    rows = study.rows()
    assert [row.state for row in rows] == ["complete"] * 12
    assert {str(row.number): repr(row.params["x"]) for row in rows} == dict(map(tuple, begun))
