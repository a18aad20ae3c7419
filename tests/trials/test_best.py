"""The result of a search is a pair, and a mapping of the params."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from optix_bus.trials import BestTrial


def test_it_reads_as_a_pair_and_as_a_mapping():
    best = BestTrial({"lr": 0.1, "n": 3}, 12.5, number=4)
    params, score = best
    assert (params, score) == ({"lr": 0.1, "n": 3}, 12.5) == best
    assert (best[0], best[1], len(best)) == (params, score, 2)
    assert (best["lr"], best.get("n"), best.get("x", 7)) == (0.1, 3, 7)
    assert dict(best) == {**best} == params
    assert "lr" in best
    assert "x" not in best
    assert list(best.keys()) == ["lr", "n"]
    assert list(best.values()) == [0.1, 3]
    assert isinstance(best, Mapping)
    with pytest.raises(KeyError):
        best["x"]


def test_an_agent_takes_it_for_its_hyperparameters():
    from optix_bus import HyperparamSet
    from optix_bus.agents.cards import CARDS
    from optix_bus.agents.tunable import complete

    best = BestTrial({"learning_rate": 2e-3}, 1.0)
    assert complete(CARDS["ppo"], best).params["learning_rate"] == 2e-3
    assert complete(CARDS["ppo"], HyperparamSet(best, 0)).params["learning_rate"] == 2e-3
