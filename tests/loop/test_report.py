"""The report at the end: which test decided, on how many looks, with what bound, and what stayed open."""

from __future__ import annotations

import numpy as np
import pytest

from optix_bus.loop import Evaluation, LoopMachine, LoopSettings

SCORES = np.concatenate([np.linspace(0.0, 100.0, 20), np.full(60, 100.0)])
SCORES = SCORES + np.random.default_rng(2).normal(size=len(SCORES))


def ended(scores, **settings):
    machine = LoopMachine(LoopSettings(**settings))
    for index, score in enumerate(scores.tolist()):
        if machine.end(index):
            break
        machine.judge(Evaluation(index, index, 0, score, 20, 1.0, 4.5, 1000 * index))
    return machine


@pytest.mark.parametrize(
    ("method", "settings"),
    [("equivalence", {}), ("classical", {"convergence": "classical", "convergence_window": 20})],
)
def test_it_says_which_test_decided_on_how_many_looks_and_with_what_bound(method, settings):
    machine = ended(SCORES, **settings)
    found = machine.convergence_report()
    assert found.converged
    assert (found.method, found.test.verdict) == (method, "plateau")
    text = "\n".join(machine.report_lines())
    assert f"converged after {found.evaluations} evaluations ({method} test)" in text
    assert f"{found.test.looks} looks running passed, {found.test.looks_needed} needed" in text
    assert f"bound {found.test.bound:.4g}, margin {found.test.margin:.4g}" in text
    assert f"not excluded: a further rise of up to {found.test.not_excluded:.4g} per window" in text


def test_a_run_that_ended_early_says_what_held_it_back_and_what_stayed_open():
    machine = ended(SCORES[:22])
    text = "\n".join(machine.report_lines())
    assert "not converged after 22 evaluations (equivalence test)" in text
    assert "not excluded: a further rise" in text
