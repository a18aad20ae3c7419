"""When a process is started again, and when its run gives up: pure bookkeeping, without processes."""

from __future__ import annotations

import pytest

from optix_bus.runtime.restarts import (
    FIRST_DELAY,
    LONGEST_DELAY,
    Again,
    Death,
    Decision,
    GiveUp,
    Policy,
    Restarts,
    Without,
    strictest,
)


def restarts(policy: Policy = "transient", limit: int = 10, seconds: float = 60.0, needed: bool = True):
    return Restarts(policy, limit, seconds, needed=needed)


def killed(handled: int = 0, **more: object) -> Death:
    return Death("killed by SIGKILL", -9, handled=handled, **more)  # type: ignore[arg-type]


def raised(message: str, sequence: int = 0, **more: object) -> Death:
    return Death(message, 3, said=True, node="learner", sequence=sequence, **more)  # type: ignore[arg-type]


def reason(decision: Decision) -> str:
    assert isinstance(decision, GiveUp), decision
    return decision.reason


@pytest.mark.parametrize("policy", ["permanent", "transient"])
def test_what_was_killed_comes_back_at_once(policy: Policy) -> None:
    assert restarts(policy).after(killed(), 0.0) == Again(0.0, 1)


@pytest.mark.parametrize("needed", [True, False])
def test_what_is_temporary_never_comes_back(needed: bool) -> None:
    assert restarts("temporary", needed=needed).after(killed(), 0.0) == Without()


def test_what_is_permanent_comes_back_after_an_orderly_end_too() -> None:
    assert restarts("permanent").after(Death("exited with code 0", 0), 0.0) == Again(0.0, 1)


def test_what_is_transient_does_not_come_back_after_an_orderly_end() -> None:
    ended = Death("exited with code 0", 0)
    assert restarts("transient", needed=False).after(ended, 0.0) == Without()
    said = reason(restarts("transient").after(ended, 0.0))
    assert said.startswith("ended in order although the run goes on")
    assert "'restart: permanent' would" in said


def test_the_strictest_policy_holds_for_a_process() -> None:
    assert strictest(["temporary", "transient"]) == "transient"
    assert strictest(["transient", "permanent", "temporary"]) == "permanent"


def test_no_restarts_means_none() -> None:
    assert restarts(limit=0).after(killed(), 0.0) == GiveUp("died: killed by SIGKILL")


def test_each_further_restart_waits_twice_as_long_up_to_a_limit() -> None:
    history = restarts(limit=20)
    delays = []
    for number in range(12):
        decision = history.after(killed(handled=number), float(number))
        assert isinstance(decision, Again)
        delays.append(decision.delay_seconds)
    assert delays[:4] == [0.0, FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]
    assert delays[-1] == LONGEST_DELAY == max(delays)


def test_more_deaths_than_allowed_in_the_time_that_counts_end_the_run() -> None:
    history = restarts(limit=3)
    for number in range(3):
        assert isinstance(history.after(killed(handled=number), number), Again)
    said = reason(history.after(killed(handled=9), 59.0))
    assert said == "died 4 times in 60 s (run.restarts is 3): killed by SIGKILL"


def test_deaths_that_are_long_ago_do_not_count() -> None:
    history = restarts(limit=1)
    for number in range(50):
        assert history.after(killed(handled=number), 61.0 * number) == Again(0.0, 1)


def test_who_comes_no_further_is_not_started_for_ever_however_slowly_it_dies() -> None:
    history = restarts(limit=3)
    for number in range(3):
        assert isinstance(history.after(killed(handled=40), 100.0 * number), Again)
    said = reason(history.after(killed(handled=40), 300.0))
    assert said == "died 4 times without getting past event 40 (run.restarts is 3): killed by SIGKILL"


def test_coming_further_begins_the_count_anew() -> None:
    history = restarts(limit=2)
    for number in range(20):
        # Two deaths at each place.
        assert isinstance(history.after(killed(handled=number // 2), 100.0 * number), Again)


def test_a_wrong_setting_is_not_tried_again() -> None:
    wrong = Death("hidden_sizes are [0]", 2, was_heard=False, said=True)
    for policy in ("permanent", "transient", "temporary"):
        assert restarts(policy).after(wrong, 0.0) == GiveUp("died: hidden_sizes are [0]")  # type: ignore[arg-type]


def test_the_same_error_at_the_same_event_is_the_last() -> None:
    history = restarts()
    assert isinstance(history.after(raised("KeyError: 'x'", 1234), 0.0), Again)
    said = reason(history.after(raised("KeyError: 'x'", 1234), 1.0))
    assert said == "failed twice at event 1234 with the same error: KeyError: 'x'"


def test_another_error_or_another_event_is_another_failure() -> None:
    history = restarts()
    deaths = [raised("a", 7), raised("b", 7), raised("b", 8), killed(9), raised("b", 8)]
    assert all(isinstance(history.after(death, number), Again) for number, death in enumerate(deaths))


def test_being_killed_twice_at_one_place_is_no_error_of_the_node() -> None:
    history = restarts()
    assert isinstance(history.after(killed(7), 0.0), Again)
    assert isinstance(history.after(killed(7), 1.0), Again)


def test_the_same_words_three_times_are_enough_also_where_no_event_was_in_hand() -> None:
    history = restarts()
    for number in range(2):
        assert isinstance(history.after(raised("no such exchange"), number), Again)
    said = reason(history.after(raised("no such exchange"), 2.0))
    assert said == "failed 3 times in a row with the same error: no such exchange"


def test_a_process_that_is_never_set_up_is_tried_three_times() -> None:
    history = restarts()
    for number in range(2):
        assert isinstance(history.after(killed(-1, was_heard=False), number), Again)
    said = reason(history.after(killed(-1, was_heard=False), 2.0))
    assert said == "was never ready in 3 starts in a row: killed by SIGKILL"


def test_one_good_start_in_between_is_enough() -> None:
    history = restarts()
    for number in range(9):
        death = killed(number, was_heard=number % 3 == 2)
        assert isinstance(history.after(death, number), Again)
