from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from optix_bus.errors import ConfigurationError
from optix_bus.loop import Evaluation, Judgement, LoopMachine, LoopSettings
from optix_bus.types import LoopState


def evaluation(window: int, score: float, **changes: Any) -> Evaluation:
    values: dict[str, Any] = {
        "window": window,
        "policy_version": window,
        "score": score,
        "n": 20,
        "standard_error": 0.0,
        "std": 0.0,
        "steps_total": 1000 * (window + 1),
    }
    return Evaluation(**{**values, **changes})


def feed(machine: LoopMachine, scores: list[float], start: int = 0, **changes: Any) -> list[Judgement]:
    return [machine.judge(evaluation(start + i, score, **changes)) for i, score in enumerate(scores)]


def machine(**settings: Any) -> LoopMachine:
    return LoopMachine(LoopSettings(**settings))


RISE = [25.0 * i for i in range(20)]


def cartpole(seed: int, settle: int, length: int = 200) -> list[Evaluation]:
    """PPO on CartPole: 20 deterministic episodes a window, a noisy rise, then 500 with rare dips."""
    rng = np.random.default_rng(seed)
    found = []
    for window in range(length):
        mean = 20.0 + 480.0 * (window / settle) ** 1.3
        if window < settle:
            returns = np.clip(rng.normal(mean, 20.0 + 0.2 * mean, 20), 9.0, 500.0)
        else:
            returns = np.full(20, 500.0)
            if rng.random() < 0.05:
                returns[:2] = rng.integers(300, 500, 2)
        std = float(returns.std(ddof=1))
        found.append(evaluation(window, float(returns.mean()), std=std, standard_error=std / math.sqrt(20.0)))
    return found


@pytest.mark.parametrize("settle", [25, 40, 60])
def test_cartpole_is_called_done_within_thirty_evaluations_after_it_settled_and_never_while_rising(settle):
    delays = []
    for seed in range(8):
        mind = machine()
        for found in cartpole(seed, settle):
            mind.judge(found)
            if mind.end(found.window + 1):
                break
        assert mind.end(found.window + 1) == "converged"
        assert found.window >= settle
        delays.append(found.window - settle)
    assert np.median(delays) <= 30
    assert max(delays) <= 60


def test_a_score_of_500_from_82k_steps_on_is_not_still_unconverged_at_452k():
    """The published loop never called it: here 20 noiseless evaluations and three looks are enough."""
    mind = machine()
    judgements = feed(mind, [*RISE, *[500.0] * 40])
    first = next(i for i, j in enumerate(judgements) if j.verdict == "dormant")
    assert first <= len(RISE) + 24
    assert judgements[first].state == "dormant"
    assert "excluded at 95 %" in judgements[first].reason
    assert judgements[first].convergence["verdict"] == "plateau"


def test_flat_noisy_scores_without_a_floor_are_never_converged_and_the_report_says_why():
    mind = machine(max_episodes=200)
    rng = np.random.default_rng(0)
    for window in range(200):
        mind.judge(evaluation(window, float(rng.normal(10.0, 1.0)), std=4.5, standard_error=1.0))
    assert mind.state is not LoopState.DORMANT
    assert mind.end(200) == "max_episodes"
    assert any("score_floor" in line for line in mind.report_lines())


def test_a_limit_of_steps_ends_the_run_at_the_window_that_reaches_it():
    mind = machine(max_steps=1000)
    assert mind.end(3, 999) == ""
    assert mind.end(4, 1000) == "max_steps"
    assert machine().end(10**6, 10**9) == ""


def test_flat_noisy_scores_above_the_floor_go_dormant_instead_of_running_for_thousands_of_windows():
    mind = machine(score_floor=5.0)
    rng = np.random.default_rng(0)
    window = 0
    while not mind.end(window) and window < 1000:
        if mind.should_evaluate(window):
            mind.judge(evaluation(window, float(rng.normal(10.0, 1.0)), std=4.5, standard_error=1.0))
        window += 1
    assert mind.end(window) == "converged"
    assert window < 300


def test_a_policy_that_starts_perfect_is_done_by_its_floor_or_target():
    assert feed(machine(score_floor=475.0), [500.0] * 40)[-1].state == "dormant"
    quick = machine(target_score=475.0)
    feed(quick, [500.0])
    assert quick.end(1) == "target_score"
    without = machine()
    feed(without, [500.0] * 80)
    assert without.state is LoopState.COOLING


def test_below_the_floor_training_is_never_done():
    mind = machine(score_floor=501.0)
    feed(mind, [*RISE, *[500.0] * 60])
    assert mind.state is LoopState.COOLING
    assert any("score_floor=501" in line for line in mind.report_lines())


def test_a_delayed_start_is_not_taken_for_convergence():
    mind = machine()
    judgements = feed(mind, [0.0] * 60 + RISE + [500.0] * 30)
    first = next(i for i, j in enumerate(judgements) if j.verdict == "dormant")
    assert first >= 60 + len(RISE)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"min_steps_before_dormant": 10**6}, "min_steps_before_dormant"),
        ({"min_episodes_before_dormant": 500}, "min_episodes_before_dormant"),
    ],
)
def test_dormant_waits_for_its_further_conditions(settings, words):
    mind = machine(**settings)
    feed(mind, [*RISE, *[500.0] * 60])
    assert mind.state is LoopState.COOLING
    assert any(words in line for line in mind.report_lines())


def test_the_agents_own_minimum_counts_unless_the_user_says_otherwise():
    asked = machine()
    asked.describe_agent(True, 70)
    first = next(i for i, j in enumerate(feed(asked, [*RISE, *[500.0] * 80])) if j.verdict == "dormant")
    assert first == 69
    overruled = machine(min_episodes_before_dormant=0)
    overruled.describe_agent(True, 70)
    assert any(j.verdict == "dormant" for j in feed(overruled, [*RISE, *[500.0] * 40]))


def test_the_dormant_threshold_is_20_for_on_policy_agents_15_for_others_and_the_users_above_both():
    found = {}
    for name, settings, on_policy in (
        ("on", {}, True),
        ("off", {}, False),
        ("own", {"dormant_threshold": 33}, False),
    ):
        mind = machine(**settings)
        mind.describe_agent(on_policy)
        found[name] = mind.scheduler.dormant_threshold
    assert found == {"on": 20, "off": 15, "own": 33}


# Who is best


def test_the_improvement_margin_does_not_decide_which_policy_is_best():
    mind = machine(improvement_margin=50.0)
    feed(mind, [100.0, 101.0, 102.0])
    assert mind.best_version == 2
    assert mind.best_score == 102.0


def test_with_validation_a_candidate_leads_only_after_fresh_episodes():
    mind = LoopMachine(LoopSettings(), validation=True)
    judgement = mind.judge(evaluation(0, 100.0))
    assert judgement.candidate
    assert mind.best is None
    assert mind.confirm(0, evaluation(0, 90.0))
    assert (mind.best_version, mind.best_score) == (0, 90.0)


def test_a_lucky_maximum_does_not_stick():
    mind = LoopMachine(LoopSettings(), validation=True)
    mind.judge(evaluation(0, 100.0))
    mind.confirm(0, evaluation(0, 100.0))
    assert mind.judge(evaluation(1, 160.0)).candidate
    assert not mind.confirm(1, evaluation(1, 95.0))
    assert mind.best_version == 0
    assert mind.judge(evaluation(2, 105.0)).candidate  # its record is still 100, not 160
    assert mind.confirm(2, evaluation(2, 104.0))
    assert mind.best_score == 104.0


def test_the_record_of_the_best_flatters_less_than_the_maximum_of_its_scores():
    rng = np.random.default_rng(0)
    mind = LoopMachine(LoopSettings(), validation=True)
    highest = -math.inf
    for window in range(300):
        score = float(rng.normal(0.0, 1.0))
        highest = max(highest, score)
        if mind.judge(evaluation(window, score, std=4.5, standard_error=1.0)).candidate:
            mind.confirm(window, evaluation(window, float(rng.normal(0.0, 1.0))))
    assert mind.best_score < highest


def test_confirmation_without_evidence_promotes_nobody():
    mind = LoopMachine(LoopSettings(), validation=True)
    mind.judge(evaluation(0, 100.0))
    assert not mind.confirm(0, evaluation(0, math.nan))
    assert mind.best is None


def test_an_external_score_chooses_the_best_while_the_loops_signal_decides_the_rest():
    mind = machine()
    assert mind.judge(evaluation(0, 100.0), external=1.0).candidate
    assert not mind.judge(evaluation(1, 200.0), external=0.5).candidate
    assert mind.best_version == 0
    assert mind.best_score == 1.0
    assert mind.judge(evaluation(2, 300.0), external=0.7).verdict == "improved"


def test_equal_scores_do_not_replace_the_best():
    mind = machine()
    assert [j.candidate for j in feed(mind, [500.0, 500.0])] == [True, False]


# Degradation


def test_a_degradation_is_called_once_after_three_evaluations_running():
    mind = machine()
    verdicts = [j.verdict for j in feed(mind, [*RISE, *[50.0] * 6])]
    assert verdicts[len(RISE) :].count("degraded") == 1
    assert verdicts[len(RISE) + 2] == "degraded"
    assert mind.state is not LoopState.DORMANT


def test_one_good_score_in_between_starts_the_count_again():
    verdicts = [j.verdict for j in feed(machine(), [*RISE, 50.0, 50.0, 475.0, 50.0, 50.0])]
    assert "degraded" not in verdicts


def test_min_consecutive_degradations_is_read():
    verdicts = [j.verdict for j in feed(machine(min_consecutive_degradations=1), [*RISE, 50.0])]
    assert verdicts[-1] == "degraded"


def test_a_probe_is_no_degradation():
    mind = machine()
    feed(mind, RISE)
    probing = feed(mind, [50.0] * 6, start=20, probing=True)
    assert "degraded" not in [j.verdict for j in probing]


def test_rollback_is_asked_for_on_policy_agents_only_and_only_when_wanted():
    drop = [*RISE, *[50.0] * 3]
    wanted = machine(rollback_on_degradation=True)
    assert [j.rollback for j in feed(wanted, drop)].count(True) == 1
    off_policy = machine(rollback_on_degradation=True)
    off_policy.describe_agent(is_on_policy=False)
    assert not any(j.rollback for j in feed(off_policy, drop))
    assert not any(j.rollback for j in feed(machine(), drop))


def test_after_a_rollback_a_second_degradation_is_rolled_back_too():
    mind = machine(rollback_on_degradation=True)
    judgements = feed(mind, [*RISE, *[50.0] * 3, 475.0, 475.0, *[50.0] * 3])
    assert [j.rollback for j in judgements].count(True) == 2


def test_a_falling_curve_is_called_degraded_and_never_done():
    rng = np.random.default_rng(0)
    mind = machine()
    falling = [475.0 - 10.0 * i + float(rng.normal()) for i in range(45)]
    judgements = feed(mind, [*RISE, *falling], std=4.5, standard_error=1.0)
    assert "degraded" in [j.verdict for j in judgements]
    assert "dormant" not in [j.verdict for j in judgements]


# States, intervals, ends


def test_the_interval_backs_off_only_when_the_window_is_full_and_says_which_windows_are_evaluated():
    mind = machine(max_interval_episodes=8)
    evaluated = []
    for window in range(80):
        assert mind.should_evaluate(window) is mind.should_evaluate(window)
        if mind.should_evaluate(window):
            evaluated.append(window)
            mind.judge(evaluation(window, 1.0))
    assert evaluated[:32] == list(range(32))
    assert evaluated[32:] == [33, 37, 45, 53, 61, 69, 77]


def test_a_window_collected_ahead_of_its_interval_is_not_evaluated():
    mind = machine(base_interval=4)
    mind.judge(evaluation(0, 1.0))
    assert [mind.should_evaluate(w) for w in range(1, 10)] == [False] * 3 + [True] + [False] * 3 + [
        True,
        False,
    ]


def test_an_evaluation_without_evidence_changes_nothing_but_the_clock():
    mind = machine()
    feed(mind, RISE)
    before = mind.state_dict()
    judgement = mind.judge(evaluation(20, math.nan, n=0))
    assert judgement.verdict == "unscored"
    assert judgement.convergence == {}
    after = mind.state_dict()
    assert (after.pop("judged_at"), after.pop("next_evaluation")) == (20, 21)
    assert after == {key: before[key] for key in after}


def test_verdicts_tell_the_transitions():
    judgements = feed(machine(plateau_threshold=3), [1.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    assert [j.verdict for j in judgements][:2] == ["improved", "improved"]
    cooled = [j for j in judgements if j.verdict == "plateaued"]
    assert [(j.previous_state, j.state) for j in cooled] == [("active", "cooling")]


def test_restart_tunes_hard_again():
    mind = machine(keep_watching=True)
    feed(mind, [*RISE, *[500.0] * 60])
    mind.restart()
    assert mind.state is LoopState.ACTIVE
    assert mind.should_evaluate(80)


# The convergence test's own knobs


def test_a_margin_of_the_users_own_is_taken_and_never_widened():
    rng = np.random.default_rng(0)
    noisy = [500.0 + float(rng.normal(0, 10.0)) for _ in range(200)]
    wide = machine(convergence_margin=40.0)
    assert "dormant" in [j.verdict for j in feed(wide, [*RISE, *noisy], std=45.0, standard_error=10.0)]
    narrow = machine(convergence_margin=1.0)
    judgements = feed(narrow, [*RISE, *noisy], std=45.0, standard_error=10.0)
    assert "dormant" not in [j.verdict for j in judgements]
    report = narrow.convergence_report()
    assert report.test.margin == 1.0
    assert report.test.window > 200
    assert any("not excluded" in line for line in report.lines())


def test_an_automatic_margin_that_no_window_resolves_is_widened_and_the_report_says_so():
    rng = np.random.default_rng(1)
    mind = machine(max_convergence_window=30)
    noisy = [500.0 + float(rng.normal(0, 60.0)) for _ in range(120)]
    feed(mind, [*RISE, *noisy], std=60.0, standard_error=60.0, n=1)
    report = mind.convergence_report()
    assert report.test.window == 30
    assert report.test.margin > report.test.asked_margin
    assert any("would have mattered" in line for line in report.lines())


@pytest.mark.parametrize(
    ("settings", "later"),
    [
        ({"looks": 8}, 5),
        ({"convergence_window": 40}, 20),
        ({"dormant_threshold": 50}, 27),
    ],
)
def test_looks_window_and_threshold_postpone_the_decision_by_what_they_ask_for(settings, later):
    def decided(**options: Any) -> int:
        judgements = feed(machine(**options), [*RISE, *[500.0] * 80])
        return next(i for i, j in enumerate(judgements) if j.verdict == "dormant")

    assert decided(**settings) - decided() == pytest.approx(later, abs=3)


@pytest.mark.parametrize("name", ["margin_episode_sd", "margin_score_share"])
def test_a_smaller_automatic_margin_asks_for_a_longer_window(name):
    rng = np.random.default_rng(2)
    noisy = [500.0 + float(rng.normal(0, 5.0)) for _ in range(160)]
    windows = []
    for share in (1.0, 0.1):
        base = {"margin_episode_sd": 1e-6, "margin_score_share": 1e-6}
        mind = machine(**{**base, name: 0.2 * share})
        feed(mind, [*RISE, *noisy], std=22.0, standard_error=5.0)
        windows.append(mind.watch.window)
    assert windows[0] < windows[1]


def test_the_classical_test_is_there_by_name_and_stops_earlier_on_a_slow_rise():
    rng = np.random.default_rng(0)
    slow = [2.0 * i + float(rng.normal(0, 30.0)) for i in range(150)]
    options = {"dormant_threshold": 1, "noise_k": 4.0}
    classical = feed(machine(convergence="classical", **options), slow, std=134.0, standard_error=30.0)
    equivalence = feed(machine(**options), slow, std=134.0, standard_error=30.0)
    assert "dormant" in [j.verdict for j in classical]
    first = next(i for i, j in enumerate(classical) if j.verdict == "dormant")
    assert "dormant" not in [j.verdict for j in equivalence[: first + 1]]
    assert "significant" in classical[first].reason


# Settings and state


def test_settings_out_of_bounds_are_errors_that_name_every_one():
    with pytest.raises(ConfigurationError) as caught:
        LoopSettings(base_interval=0, looks=0, convergence="t-test")  # type: ignore[arg-type]
    for words in ("base_interval=0", "looks=0", "'equivalence'"):
        assert words in str(caught.value)


def test_unknown_settings_are_errors():
    with pytest.raises(TypeError):
        LoopSettings(patience=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("cut", [0, 3, 25, 45])
def test_a_machine_that_was_written_as_json_and_read_back_gives_the_same_verdicts(cut):
    found = cartpole(1, 25, 70)
    whole = machine(rollback_on_degradation=True)
    expected = [whole.judge(e) for e in found]
    first = machine(rollback_on_degradation=True)
    for e in found[:cut]:
        first.judge(e)
    second = machine(rollback_on_degradation=True)
    second.load_state(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert [second.judge(e) for e in found[cut:]] == expected[cut:]
    assert second.state_dict() == whole.state_dict()
    assert second.report_lines() == whole.report_lines()


def restored(mind: LoopMachine, **settings) -> LoopMachine:
    """The mind of a machine in one with other settings, after a journey as JSON."""
    other = machine(**settings)
    other.load_state(json.loads(json.dumps(mind.state_dict(), allow_nan=False)))
    return other


def test_settings_hold_and_are_never_taken_from_a_state():
    first = machine(
        min_episodes_before_dormant=7, dormant_threshold=9, plateau_threshold=2, convergence_window=30
    )
    first.describe_agent(is_on_policy=False, min_episodes_before_dormant=40)
    feed(first, RISE)
    own = restored(first, min_episodes_before_dormant=3, dormant_threshold=4, plateau_threshold=50)
    assert own.scheduler.dormant_threshold == 4
    assert "of min_episodes_before_dormant=3" in str(own._guards(evaluation(0, 1.0)))
    assert [j.verdict for j in feed(own, [RISE[-1]] * 20, start=len(RISE))].count("plateaued") == 0
    agents = restored(first)
    assert agents.scheduler.dormant_threshold == 15
    assert "of min_episodes_before_dormant=40" in str(agents._guards(evaluation(0, 1.0)))


def test_the_interval_of_a_state_is_one_of_the_settings_in_force():
    first = machine(backoff_factor=3.0, convergence_window=5, dormant_threshold=1000)
    feed(first, [float(i) for i in range(10)] + [9.0] * 15)
    assert first.scheduler.current_interval == 100
    last = first.state_dict()["judged_at"]
    assert restored(first).should_evaluate(last + 100)
    shorter = restored(first, max_interval_episodes=7)
    assert shorter.scheduler.current_interval == 7
    assert [n for n in range(last + 1, last + 15) if shorter.should_evaluate(n)] == [last + 7, last + 14]
    longer = restored(machine(), base_interval=5)
    assert longer.scheduler.current_interval == 5
    assert [n for n in range(11) if longer.should_evaluate(n)] == [0, 5, 10]


def test_a_state_with_more_evaluations_than_the_settings_keep_is_shortened():
    first = machine()
    feed(first, [float(i % 7) for i in range(160)])
    second = restored(first, max_convergence_window=20)
    assert len(second.watch._series) == 20
    assert second.judge(evaluation(160, 3.0)).verdict in ("not_improved", "plateaued")


def test_a_run_that_was_cut_short_says_what_it_could_not_exclude():
    mind = machine(max_episodes=12)
    rng = np.random.default_rng(0)
    feed(mind, [float(10 * i + rng.normal(0, 3)) for i in range(12)], std=13.0, standard_error=3.0)
    lines = mind.report_lines()
    assert lines[0].startswith("convergence: not converged")
    assert any("not excluded: a further rise" in line for line in lines)
    assert LoopMachine(LoopSettings()).report_lines() == [
        "convergence: not converged; no evaluation held evidence"
    ]
