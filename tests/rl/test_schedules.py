from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optix_bus import Schedule

WAYS = [Schedule.linear, Schedule.cosine, Schedule.exponential]


@pytest.mark.parametrize("way", WAYS)
def test_both_ends_are_met_exactly_and_the_last_value_stays(way):
    schedule = way(3e-4, 1e-5, over=1000)
    assert (schedule.at(0), schedule.at(1000), schedule.at(10**9)) == (3e-4, 1e-5, 1e-5)


def test_values_on_the_way_are_those_of_the_formulas():
    assert Schedule.linear(1.0, 0.0, over=200).at(50) == pytest.approx(0.75)
    assert Schedule.cosine(1.0, 0.0, over=200).at(50) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert Schedule.cosine(1.0, 0.0, over=200).at(100) == pytest.approx(0.5)
    assert Schedule.exponential(1.0, 0.01, over=200).at(100) == pytest.approx(0.1)
    assert Schedule.constant(0.3).at(10**6) == 0.3


@given(
    way=st.sampled_from(WAYS),
    ends=st.tuples(st.floats(1e-6, 10.0), st.floats(1e-6, 10.0)),
    over=st.integers(1, 10**6),
    share=st.floats(0.0, 1.0),
)
def test_a_way_never_leaves_its_ends_and_never_turns_round(way, ends, over, share):
    schedule = way(*ends, over=over)
    at, later = schedule.at(share * over), schedule.at(share * over + over / 7)
    slack = 1e-12 * max(ends)
    assert min(ends) - slack <= at <= max(ends) + slack
    assert (later - at) * (ends[1] - ends[0]) >= -slack


def test_a_level_stretches_the_whole_way():
    falling, rising = Schedule.linear(0.2, 0.1, over=10), Schedule.linear(0.0, 0.4, over=10)
    assert (falling.level, rising.level) == (0.2, 0.4)
    assert [falling.at(t, level=0.4) for t in (0, 5, 10)] == pytest.approx([0.4, 0.3, 0.2])
    assert [rising.at(t, level=0.2) for t in (0, 5, 10)] == pytest.approx([0.0, 0.1, 0.2])
    assert falling.at(3, level=0.2) == falling.at(3)


@pytest.mark.parametrize(
    "schedule",
    [Schedule.linear(1.0, 0.0, over=5), Schedule.cosine(1.0, 2.0, over=9, clock="gradient_steps"),
     Schedule.constant(3.0)],
)  # fmt: skip
def test_a_mapping_says_the_same(schedule):
    assert Schedule.read(schedule.as_mapping()) == schedule


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schedule": "linea", "from": 1, "to": 0, "over": 5}, "schedule is 'linea', expected one of"),
        ({"schedule": "linear", "from": 1, "over": 5}, "a linear schedule lacks 'to'"),
        ({"schedule": "cosine", "from": 1}, "a cosine schedule lacks 'to' and 'over'"),
        ({"schedule": "linear", "to": 1, "over": 5}, "a schedule lacks 'from'"),
        ({"schedule": "linear", "from": 1, "to": 0, "over": 0}, "'over' is 0, expected at least 1"),
        ({"schedule": "linear", "from": 1, "to": 0, "over": 1.5}, "expected a whole number"),
        ({"schedule": "linear", "from": "1", "to": 0, "over": 5}, "'from' of a schedule is '1'"),
        ({"schedule": "linear", "from": 1, "to": 0, "over": 5, "clock": "windows"}, "clock is 'windows'"),
        ({"schedule": "linear", "from": 1, "to": 0, "ober": 5}, "unknown key 'ober' of a schedule"),
        ({"schedule": "constant", "from": 1, "over": 5}, "remove 'to' and 'over'"),
        ({"schedule": "exponential", "from": 1, "to": 0, "over": 5}, "write linear or cosine to reach 0"),
        ({"schedule": "linear", "from": 0, "to": 0, "over": 5}, "write 0 instead"),
        ({"schedule": "linear", "from": 1, "to": float("inf"), "over": 5}, "expected finite numbers"),
    ],
)  # fmt: skip
def test_what_is_no_way_is_refused_with_the_reason(given, message):
    with pytest.raises(ValueError, match=message):
        Schedule.read(given)
