"""Spawn, prune, stop or nothing: the rules, and how often noise alone makes them err."""

from __future__ import annotations

import numpy as np
import pytest

from optix_bus import MetaAction, MetaController
from tests.evolution.histories import scored, validated

OPEN, SPENT = {"budget_exhausted": False}, {"budget_exhausted": True}
FLAT = [100.0] * 10


def test_a_spent_budget_stops_whatever_else_there_is():
    history = validated(FLAT, [300.0] * 10)
    assert MetaController().decide(history, SPENT) is MetaAction.STOP


def test_a_large_gap_prunes():
    assert MetaController().decide(validated(FLAT, [130.0] * 10), OPEN) is MetaAction.PRUNE
    assert MetaController(gap_threshold=0.4).decide(validated(FLAT, [130.0] * 10), OPEN) is MetaAction.SPAWN


def test_a_gap_that_grows_prunes_before_it_is_large():
    train = [100.0 + 3.0 * k for k in range(10)]
    verdict = MetaController().judge(validated(FLAT, train), budget_exhausted=False)
    assert verdict.action is MetaAction.PRUNE
    assert "grows by 0.03" in verdict.reason
    assert verdict.figures["gap_slope"] == pytest.approx(0.03)


def test_a_plateau_of_validation_spawns_and_what_still_improves_is_left_alone():
    assert MetaController().decide(validated(FLAT, FLAT), OPEN) is MetaAction.SPAWN
    rising = [100.0 + k for k in range(10)]
    assert MetaController().decide(validated(rising, rising), OPEN) is MetaAction.NO_OP
    assert (
        MetaController(improvement_threshold=0.5).decide(validated(rising, rising), OPEN) is MetaAction.SPAWN
    )


def test_without_validation_there_is_no_gap_and_without_scores_nothing_has_improved():
    assert MetaController().decide(scored(*FLAT), OPEN) is MetaAction.SPAWN
    assert MetaController().decide([], OPEN) is MetaAction.SPAWN
    nan = float("nan")
    assert MetaController().decide(validated([nan] * 5, [nan] * 5), OPEN) is MetaAction.SPAWN


def test_noise_alone_prunes_at_the_stated_rate():
    """True gap on the threshold, and true slope on its threshold: each may be found in 5 % of all cases."""
    rng = np.random.default_rng(11)
    found = {"level": 0, "slope": 0}
    trials = 2000
    for _ in range(trials):
        val = 100.0 + rng.normal(0.0, 4.0, 10)
        level = validated(val, val + 20.0 + rng.normal(0.0, 8.0, 10))
        found["level"] += MetaController(gap_slope_threshold=9.0).decide(level, OPEN) is MetaAction.PRUNE
        drift = validated(val, val + 2.0 * np.arange(10) + rng.normal(0.0, 8.0, 10))
        found["slope"] += MetaController(gap_threshold=9.0).decide(drift, OPEN) is MetaAction.PRUNE
    for name, count in found.items():
        # Three standard errors of a proportion of 5 % above it.
        assert count / trials <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials), name
        assert count > 0, name


def test_a_gap_clearly_over_the_threshold_is_found_through_the_same_noise():
    rng = np.random.default_rng(12)
    hits = 0
    for _ in range(300):
        val = 100.0 + rng.normal(0.0, 4.0, 10)
        hits += (
            MetaController().decide(validated(val, val + 32.0 + rng.normal(0.0, 8.0, 10)), OPEN)
            is MetaAction.PRUNE
        )
    assert hits >= 285
