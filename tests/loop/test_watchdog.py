"""What the watchdog takes for a change of the world, and what it does not."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from optix_bus.loop import Evaluation, Judgement, LoopMachine, LoopSettings
from optix_bus.loop.watchdog import Sample, Watchdog, pooled
from optix_bus.types import LoopState

RISE = [25.0 * i for i in range(20)]


def sample(score: float, n: int = 20) -> Sample:
    return Sample(score, n, 1.0, 4.5)


def see(dog: Watchdog, *scores: float, distance: float = 10.0) -> list[str]:
    return [dog.see(sample(score), lambda _level: distance) for score in scores]


def evaluation(window: int, score: float, **changes: Any) -> Evaluation:
    values: dict[str, Any] = {"policy_version": window, "n": 20, "standard_error": 1.0, "std": 4.5}
    return Evaluation(window=window, score=score, steps_total=1000 * (window + 1), **{**values, **changes})


def converged(**settings: Any) -> LoopMachine:
    """A loop that has risen to 475, stayed there, and is now only watching."""
    machine = LoopMachine(LoopSettings(keep_watching=True, **settings))
    for window, score in enumerate([*RISE, *[475.0] * 60]):
        if machine.judge(evaluation(window, score, std=0.0, standard_error=0.0)).verdict == "dormant":
            break
    assert machine.rests
    machine.start_watching()
    return machine


def watch(machine: LoopMachine, *scores: float, start: int = 100, version: int = 60) -> list[Judgement]:
    return [
        machine.judge_watched(evaluation(start + i, score, policy_version=version))
        for i, score in enumerate(scores)
    ]


def test_a_change_counts_when_it_lasts_as_long_as_patience_asks() -> None:
    dog = Watchdog(patience=3)
    assert see(dog, 100.0, 104.0, 96.0, 80.0, 81.0) == [""] * 5
    assert see(dog, 79.0) == ["degraded"]
    assert [round(each.score) for each in dog.run] == [80, 81, 79]
    assert (dog.watched, dog.woken) == (6, 1)


def test_better_counts_as_well_as_worse() -> None:
    dog = Watchdog(patience=2)
    assert see(dog, 100.0, 100.0, 120.0, 130.0) == ["", "", "", "improved"]


def test_what_comes_back_or_goes_to_the_other_side_begins_again() -> None:
    dog = Watchdog(patience=3)
    see(dog, 100.0, 100.0, 100.0)
    assert see(dog, 80.0, 80.0, 100.0, 80.0, 80.0, 120.0, 120.0, 80.0) == [""] * 8


def test_an_evaluation_without_evidence_neither_counts_nor_clears() -> None:
    dog = Watchdog(patience=2)
    assert see(dog, 100.0, 100.0, 80.0, math.nan, 80.0) == ["", "", "", "", "degraded"]


def test_what_is_expected_is_learnt_from_the_watched_policy_and_not_from_its_record() -> None:
    """A record is the highest of many scores. A policy that was lucky once has not got worse."""
    rng = np.random.default_rng(0)
    awake = 0
    for _ in range(50):
        machine = converged()
        scores = [float(score) for score in rng.normal(440.0, 4.0, 200)]
        awake += any(judgement.verdict == "degraded" for judgement in watch(machine, *scores))
    assert awake == 0


@pytest.mark.parametrize(("after", "verdict"), [(300.0, "degraded"), (600.0, "improved")])
def test_a_change_wakes_the_loop_and_gives_the_watched_policy_a_new_record(
    after: float, verdict: str
) -> None:
    machine = converged()
    judgements = watch(machine, 475.0, 475.0, 475.0, 475.0, after, after, after)
    assert [judgement.verdict for judgement in judgements] == ["not_improved"] * 6 + [verdict]
    assert (judgements[-1].previous_state, judgements[-1].state) == ("watchdog", "active")
    assert [judgement.renewed for judgement in judgements] == [False] * 6 + [True]
    best = machine.best
    assert best is not None
    assert (best.score, best.policy_version, best.n, best.confirmed) == (after, 60, 60, True)
    assert machine.regime == 1
    assert machine.should_evaluate(107)
    assert f"{after:g} after 475" in judgements[-1].reason


def test_after_a_change_for_the_worse_what_is_learnt_again_counts_as_best() -> None:
    machine = converged()
    watch(machine, *[475.0] * 3, *[200.0] * 3)
    judged = [machine.judge(evaluation(110 + i, score)) for i, score in enumerate((210.0, 250.0, 300.0))]
    assert judged[-1].verdict == "improved"
    assert machine.best_score == 300.0
    assert all(judgement.verdict != "degraded" for judgement in judged)


def test_after_a_change_training_is_called_done_again_by_the_new_scores_alone() -> None:
    machine = converged()
    watch(machine, *[475.0] * 3, *[100.0] * 3)
    scores = [100.0 + 20.0 * i for i in range(10)] + [300.0] * 60
    verdicts = []
    for window, score in enumerate(scores, start=110):
        verdicts.append(machine.judge(evaluation(window, score, std=0.0, standard_error=0.0)).verdict)
        if machine.rests:
            break
    assert verdicts[-1] == "dormant"
    assert 25 < len(verdicts) < 60


def test_a_record_of_an_external_scorer_stays_and_only_the_loops_own_signal_is_renewed() -> None:
    machine = LoopMachine(LoopSettings(keep_watching=True))
    for window, score in enumerate([*RISE, *[475.0] * 60]):
        if (
            machine.judge(evaluation(window, score, std=0.0, standard_error=0.0), external=score / 1000).state
            == "dormant"
        ):
            break
    machine.start_watching()
    last = watch(machine, *[475.0] * 3, *[200.0] * 3)[-1]
    assert (last.verdict, last.renewed) == ("degraded", False)
    assert machine.best is not None
    assert (machine.best_score, machine.best.signal) == (0.475, 200.0)


def test_it_goes_on_from_a_state_between_any_two_evaluations() -> None:
    scores = [475.0, 470.0, 480.0, 475.0, 300.0, 310.0, 305.0]
    whole = converged()
    expected = [judgement.verdict for judgement in watch(whole, *scores)]
    for cut in range(len(scores)):
        before = converged()
        found = [judgement.verdict for judgement in watch(before, *scores[:cut])]
        state = json.loads(json.dumps(before.state_dict()))
        after = LoopMachine(LoopSettings(keep_watching=True))
        after.load_state(state)
        found += [judgement.verdict for judgement in watch(after, *scores[cut:], start=100 + cut)]
        assert found == expected
        assert after.state_dict() == whole.state_dict()


def test_where_watching_is_no_longer_asked_for_the_run_is_over() -> None:
    machine = converged()
    assert machine.end(101) == ""
    resumed = LoopMachine(LoopSettings())
    resumed.load_state(machine.state_dict())
    assert resumed.state is LoopState.WATCHDOG
    assert (resumed.rests, resumed.end(101)) == (False, "converged")


def test_the_limit_of_windows_holds_for_the_watchdog_too() -> None:
    machine = converged(max_episodes=120)
    assert [machine.end(windows) for windows in (119, 120)] == ["", "max_episodes"]


def test_the_report_says_what_the_watchdog_did() -> None:
    machine = converged()
    watch(machine, *[475.0] * 4)
    assert machine.report_lines()[-1] == "watchdog: evaluated 4 times without training, and found no change"
    watch(machine, *[100.0] * 3, start=104)
    assert "found that the world had changed" in machine.report_lines()[-1]
    assert not any("watchdog" in line for line in LoopMachine(LoopSettings()).report_lines())


def test_pooling_weighs_by_episodes_where_they_are_known() -> None:
    known = pooled([Sample(10.0, 30, 1.0, 5.0), Sample(20.0, 10, 2.0, 5.0)])
    assert (known.score, known.n) == (12.5, 40)
    assert known.standard_error == pytest.approx(math.hypot(30.0, 20.0) / 40.0)
    unknown = pooled([Sample(10.0, 0, 1.0, 5.0), Sample(20.0, 10, 2.0, 5.0)])
    assert (unknown.score, unknown.n) == (15.0, 0)
