"""What a supervisor concludes from heartbeats and from their absence."""

from __future__ import annotations

import pytest

from optix_bus.runtime.restarts import Restarts
from optix_bus.runtime.run_directory import ProcessRecord
from optix_bus.runtime.topology_settings import RunSettings
from optix_bus.runtime.watched import READY, RECOVERING, STARTING, Watched

LIMITS = RunSettings(start_seconds=5.0, idle_seconds=2.0, max_handle_seconds=30.0)


@pytest.fixture
def watched() -> Watched:
    made = Watched(ProcessRecord("learner", 7, 0.0, nodes=["learner"]), Restarts("transient", 10, 60.0))
    made.begin(100.0)
    return made


def test_the_first_heartbeat_that_says_so_makes_a_process_ready(watched: Watched) -> None:
    assert watched.record.state == STARTING
    assert not watched.hear({"seq": 3, "ready": False}, 101.0)
    assert watched.record.state == RECOVERING
    assert watched.hear({"seq": 9, "ready": True, "remarks": ["an open episode was cut"]}, 102.0)
    assert watched.record.state == READY
    assert watched.remarks == ("an open episode was cut",)
    assert not watched.hear({"seq": 10, "ready": True}, 103.0)


def test_a_start_has_a_deadline_and_catching_up_has_none(watched: Watched) -> None:
    assert watched.overdue(104.9, LIMITS) == ""
    late = "took longer than 5 s to become ready (run.start_seconds); see the log"
    assert watched.overdue(105.1, LIMITS) == late
    watched.hear({"seq": 3, "ready": False}, 104.0)
    for now in range(105, 200):
        watched.hear({"seq": now, "ready": False}, now)
        assert watched.overdue(now + 1.0, LIMITS) == ""


def test_silence_is_a_hang(watched: Watched) -> None:
    watched.hear({"seq": 3}, 101.0)
    assert watched.overdue(102.9, LIMITS) == ""
    assert watched.overdue(103.1, LIMITS) == "has been silent for more than 2 s (run.idle_seconds)"


def test_nobody_is_silent_while_nobody_can_be_heard(watched: Watched) -> None:
    watched.hear({"seq": 3}, 101.0)
    assert watched.overdue(1000.0, LIMITS, judge_silence=False) == ""


def test_a_long_handler_is_no_hang_until_its_own_deadline(watched: Watched) -> None:
    busy = {"seq": 3, "handling": "WindowCollected in 'learner'"}
    watched.hear({**busy, "handling_seconds": 29.0}, 130.0)
    assert watched.overdue(131.0, LIMITS) == ""
    watched.hear({**busy, "handling_seconds": 30.5}, 132.0)
    found = watched.overdue(132.0, LIMITS)
    assert found.startswith("has worked on WindowCollected in 'learner' for more than 30 s")


def test_only_what_it_said_counts_as_being_busy(watched: Watched) -> None:
    watched.hear({"seq": 3, "handling": "WindowCollected in 'learner'", "handling_seconds": 1.0}, 101.0)
    assert watched.overdue(200.0, LIMITS, judge_silence=False) == ""


def test_a_death_by_signal_is_explained_by_it(watched: Watched) -> None:
    watched.hear({"seq": 41}, 101.0)
    death = watched.death(-9, {})
    assert death.cause.startswith("killed by SIGKILL")
    assert (death.exit_code, death.was_heard, death.handled, death.said) == (-9, True, 41, False)


def test_what_a_process_wrote_itself_is_the_cause_also_where_it_had_to_be_killed(watched: Watched) -> None:
    watched.verdict = "has been silent for more than 2 s"
    failure = {"message": "KeyError: 'x'", "exit_code": 3, "node": "learner", "sequence": 42}
    death = watched.death(-9, failure)
    assert (death.cause, death.exit_code, death.node, death.sequence) == ("KeyError: 'x'", 3, "learner", 42)
    assert death.said


def test_a_handler_that_hangs_dies_at_its_event(watched: Watched) -> None:
    watched.hear({"seq": 41, "handling": "WindowCollected in 'learner'", "handling_seconds": 31.0}, 101.0)
    watched.verdict = watched.overdue(101.0, LIMITS)
    death = watched.death(-9, {})
    assert (death.sequence, death.said, death.cause) == (42, True, watched.verdict)


def test_a_new_life_knows_nothing_of_the_one_before(watched: Watched) -> None:
    watched.hear({"seq": 41, "handling": "x", "handling_seconds": 31.0, "remarks": ["r"]}, 101.0)
    watched.verdict = "killed"
    watched.begin(200.0)
    assert (watched.handled, watched.handling, watched.remarks, watched.verdict) == (-1, "", (), "")
    assert not watched.death(-9, {}).was_heard
