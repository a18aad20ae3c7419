"""What the loop waits for where variants are trained beside the learner, in whatever order it arrives."""

from __future__ import annotations

import json
import math
from itertools import permutations
from typing import Any

import pytest

from optix_bus.loop.leader import Best, Leader
from optix_bus.loop.machine import LoopMachine
from optix_bus.loop.members import Members
from optix_bus.loop.settings import LoopSettings
from optix_bus.loop.verdicts import Evaluation


def names(variant: int) -> tuple[str, ...]:
    return (f"variant-{variant}-learner",)


def plain(window: int, value: float, purpose: str = "score", version: int = 7) -> dict[str, Any]:
    return {
        "purpose": purpose,
        "window": window,
        "policy_version": version,
        "score": value,
        "n": 4,
        "standard_error": 0.5,
        "std": 1.0,
        "metrics": {"mean": value},
    }


def admitted(*variants: int, window: int = 4) -> Members:
    members = Members(names)
    for variant in variants:
        members.admit(variant, window)
        assert members.learnt(variant, 100 * variant, window, {"learning_rate": 0.1 * variant})
    return members


def test_a_window_waits_for_the_first_policy_of_a_variant_that_was_admitted_at_it() -> None:
    members = Members(names)
    assert not members.waits(4, evaluate=True)
    assert members.admit(1, 4) == members.nodes == ("variant-1-learner",)
    assert members.waits(4, evaluate=True)
    assert members.learnt(1, 100, 4, {})
    assert not members.waits(4, evaluate=True)


def test_whatever_comes_first_a_window_waits_for_all_of_it() -> None:
    for order in permutations(range(4)):
        members = admitted(1, 2)
        facts = [
            lambda of=members: of.learnt(1, 101, 5, {}),
            lambda of=members: of.learnt(2, 201, 5, {}),
            lambda of=members: of.scored(1, plain(5, 1.0)),
            lambda of=members: of.scored(2, plain(5, math.nan)),
        ]
        for number in order:
            assert members.waits(5, evaluate=True)
            facts[number]()
        assert not members.waits(5, evaluate=True)


def test_a_window_without_evaluation_waits_for_learning_alone() -> None:
    members = admitted(1)
    assert members.waits(5, evaluate=False)
    assert not members.learnt(1, 101, 5, {})
    assert not members.waits(5, evaluate=False)


def test_who_beats_the_record_is_asked_once_a_window_and_waited_for() -> None:
    members = admitted(1, 2, 3)
    for variant, score in ((3, 12.0), (1, 11.0), (2, math.nan)):
        members.scored(variant, plain(5, score, version=100 * variant))
    assert members.rivals(lambda score: score > 10.0) == [(1, 100), (3, 300)]
    assert members.rivals(lambda score: score > 10.0) == []
    members.scored(3, plain(5, 10.5, "confirm", 300))
    assert members.confirming
    members.scored(1, plain(5, 10.4, "confirm", 100))
    assert not members.confirming
    # In the order of their numbers, whatever came first.
    assert [(e.policy_version, e.score, p) for e, _, p in members.confirmed()] == [
        (100, 10.4, {"learning_rate": 0.1}),
        (300, 10.5, {"learning_rate": pytest.approx(0.3)}),
    ]
    members.close()
    assert members.confirmed() == []
    assert members.waits(6, evaluate=True)


def test_who_is_pruned_leaves_when_the_window_is_closed() -> None:
    members = admitted(1, 2)
    members.prune(1, "the worst")
    members.prune(9, "unknown")
    assert members.nodes == ("variant-1-learner", "variant-2-learner")
    assert members.close() == [(1, ("variant-1-learner",), "the worst")]
    assert members.nodes == ("variant-2-learner",)
    assert members.close() == []
    members.scored(1, plain(6, 1.0))
    assert not members.learnt(1, 101, 6, {})


def test_a_state_holds_all_of_it_also_after_a_journey_as_json() -> None:
    members = admitted(1, 2)
    members.scored(1, plain(5, 11.0))
    members.rivals(lambda score: True)
    members.prune(2, "the worst")
    members.improved = True
    again = Members(names)
    again.load_state(json.loads(json.dumps(members.state())))
    assert again.state() == members.state()
    assert (again.nodes, again.confirming, again.improved) == (members.nodes, True, True)
    assert again.close() == members.close()


def test_without_names_variants_have_no_nodes() -> None:
    assert not Members().present
    assert Members(names).present


def best(score: float) -> Best:
    return Best(1, 0, score, 0.1, 4, score, True)


def test_the_learners_own_record_is_kept_while_somebody_else_leads() -> None:
    leader = Leader()
    assert leader.own_signal is None
    leader.promote(best(10.0))
    assert "own" not in (leader.state() or {})
    assert leader.promote(best(20.0), own=False)
    assert leader.promote(best(30.0), own=False)
    assert leader.own_signal == 10.0
    again = Leader()
    again.load_state(leader.state())
    assert (again.own_signal, again.best) == (10.0, leader.best)
    assert again.promote(best(40.0))
    assert again.own_signal == 40.0


def test_a_learner_that_stays_where_it_is_has_not_degraded_because_a_variant_is_better() -> None:
    settings = LoopSettings(min_consecutive_degradations=1, min_episodes_before_degradation=1)
    for own, expected in ((True, "degraded"), (False, "not_improved")):
        machine = LoopMachine(settings, validation=True)
        for window in range(6):
            machine.judge(Evaluation(window, window, score=10.0, n=4))
        machine.confirm(1, Evaluation(5, 1, score=10.0, n=4))
        machine.confirm(99, Evaluation(5, 99, score=50.0, n=4), own=own)
        assert machine.judge(Evaluation(6, 6, score=10.0, n=4)).verdict == expected
