"""The gate of pruning, by simulation; the table with more searches is in pruning.md."""

from __future__ import annotations

import math

import pytest

from tests.trials.pruning import GATE, SPACE, WORLDS, height, pace, simulate


@pytest.mark.slow
@pytest.mark.parametrize("world", GATE, ids=lambda world: world.name)
def test_pruning_saves_a_third_of_the_steps_and_loses_next_to_nothing(world):
    result = simulate(world, range(40))
    assert result.saved >= 0.30
    assert result.regret <= 0.02


def test_the_simulated_curves_are_what_the_table_says():
    best = {"a": 0.7, "b": 0.3, "c": 10**-2.5}
    assert height(best) == pytest.approx(1.0)
    assert height({**best, "a": 0.0}) < 0.2
    assert set(best) == set(SPACE)
    for world in WORLDS:
        assert 5_000 <= pace(best, world) <= 25_000
    assert pace(best, WORLDS[0]) == pytest.approx(5_000)
    assert math.isclose(pace(best, WORLDS[0]), pace(best, WORLDS[1]))
