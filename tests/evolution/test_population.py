"""Variants that are trained beside each other: who is weighed, who is pruned, and what is told of them."""

from __future__ import annotations

import json
import math

import pytest

from optix_bus.evolution.meta_controller import MetaAction
from optix_bus.evolution.population import Population
from optix_bus.evolution.settings import EvolutionSettings


def population(**options: object) -> Population:
    made = Population(EvolutionSettings(**{"variants": "nodes", "max_spawns": 3, **options}))  # type: ignore[arg-type]
    made.describe_agent({"learning_rate": (0.01, 1.0)}, ["learning_rate"])
    made.promoted(2, {"learning_rate": 0.1})
    return made


def spawn(line: Population, window: int) -> list[int]:
    """One plateau; the numbers of those that were pruned at it."""
    line.reweigh(window)
    decided = line.decide(window, seed=window)
    return [pruned.number for pruned in line.prune(decided.action, window)]


def test_weights_follow_the_rolling_scores_of_all_of_them() -> None:
    line = population(score_window=2)
    spawn(line, 3)
    for score in (1.0, 30.0, 10.0, math.nan):
        line.scored_beside(1, score)
    line.scored(4, 4, 10.0, math.nan)
    line.scored_beside(7, 99.0)  # nobody
    weights, scores = line.reweigh(5)
    assert scores == {0: 10.0, 1: 20.0}
    assert weights == pytest.approx({0: 2 / 3, 1: 4 / 3})


def test_a_window_of_one_score_keeps_the_latest_alone() -> None:
    line = population(score_window=1)
    spawn(line, 3)
    for window, score in enumerate((1.0, 30.0, 10.0), start=4):
        line.scored(window, window, score, math.nan)
        line.scored_beside(1, score + 1.0)
    assert line.reweigh(7)[1] == {0: 10.0, 1: 11.0}


def test_scores_of_variants_are_none_of_the_learners() -> None:
    line = population()
    spawn(line, 3)
    line.scored(4, 4, 10.0, math.nan)
    line.scored_beside(1, 50.0)
    assert [variant.scores for variant in line.variants] == [[10.0], [50.0]]
    assert [score for _, score, _ in line.state()["history"]] == [10.0]


def test_the_worst_goes_but_neither_the_learner_nor_who_has_just_been_made() -> None:
    line = population(max_ensemble_size=3, max_spawns=None)
    line.scored(4, 4, 1.0, math.nan)
    assert [spawn(line, 4), spawn(line, 8)] == [[], []]
    line.scored_beside(1, 30.0)
    line.scored_beside(2, 20.0)
    assert spawn(line, 12) == [2]
    line.scored_beside(3, 40.0)
    assert spawn(line, 16) == [1]
    assert [variant.number for variant in line.variants] == [0, 3, 4]


def test_the_budget_holds() -> None:
    line = population(max_spawns=2)
    actions = []
    for window in range(4):
        line.reweigh(window)
        actions.append(line.decide(window, seed=window).action)
    assert actions == [MetaAction.SPAWN, MetaAction.SPAWN, MetaAction.STOP, MetaAction.STOP]
    assert line.spawns == 2


def test_a_decision_to_prune_finds_nobody_where_there_is_only_the_learner() -> None:
    line = population()
    assert line.prune(MetaAction.PRUNE, 3) == []
    spawn(line, 4)
    line.scored_beside(1, 1.0)
    assert [pruned.number for pruned in line.prune(MetaAction.PRUNE, 9)] == [1]


def test_the_report_names_everybody_with_descent_score_weight_and_end() -> None:
    line = population(max_ensemble_size=2)
    line.scored(3, 3, 10.0, math.nan)
    spawn(line, 4)
    line.scored_beside(1, 20.0)
    spawn(line, 8)
    line.reweigh(9)
    text = line.report_lines()
    noise = {variant.number: variant.noise_scale for variant in line.variants}
    former = line.former[0][0]
    assert text[-3:] == [
        "  [0] weight=1.0000  mean_score=10.0000  (the learner of the topology, trained to the end)",
        f"  [2] weight=1.0000  mean_score=unknown  (noise {noise[2]:.3g}, parent of window 2, trained to "
        "the end)",
        f"  [1] weight={former.weight:.4f}  mean_score=20.0000  (noise {former.noise_scale:.3g}, parent of "
        "window 2, pruned at window 8: the ensemble holds at most 2)",
    ]
    assert "Ensemble size        2" in text
    assert "Spawns used          2 / 3" in text


def test_a_state_holds_all_of_it_also_after_a_journey_as_json() -> None:
    line = population(max_ensemble_size=2)
    line.scored(3, 3, 10.0, math.nan)
    spawn(line, 4)
    line.scored_beside(1, 20.0)
    spawn(line, 8)
    again = population(max_ensemble_size=2)
    again.load_state(json.loads(json.dumps(line.state())))
    assert again.state() == line.state()
    assert again.report_lines() == line.report_lines()
    assert spawn(again, 12) == spawn(line, 12)
