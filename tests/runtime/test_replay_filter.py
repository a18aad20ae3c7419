"""Expressions over events: what they mean, and that they can do nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from optix_bus.bus.record import Record
from optix_bus.errors import ConfigurationError
from optix_bus.runtime.replay_filter import EventFilter

SCORED: dict[str, Any] = {"window": 3, "score": 450.5, "purpose": "score", "metrics": {"n": 20.0}}


def holds(text: str, event_type: str = "WindowScored", **fields: Any) -> bool:
    body = msgspec.msgpack.encode({**SCORED, **fields})
    return EventFilter(text).matches(Record(57, 1, "evaluator", 1, 55, 0, event_type, body))


@pytest.mark.parametrize(
    "text",
    [
        "WindowScored",
        "WindowScored and score > 400",
        "node == 'evaluator' and window >= 3",
        'type == "WindowScored"',
        "seq == 57 or seq == 58",
        "not (window < 3)",
        "1 < window <= 3",
        "purpose in ('score', 'confirm')",
        "purpose not in ['train']",
        "metrics.n == 20",
        "score > -1 and +1 < score",
        "window",
        "  window == 3 ",
        "policy == None or window == 3",
    ],
)
def test_it_holds(text: str) -> None:
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "WindowJudged",
        "score > 500",
        "window != 3",
        "WindowScored and not score > 400",
        "verdict == 'improved'",
        "metrics.mean > 0",
        "metrics.n.deeper > 0",
        "evaluate",
    ],
)
def test_it_does_not_hold(text: str) -> None:
    assert not holds(text)


def test_a_field_that_the_event_does_not_have_makes_a_comparison_false_and_its_opposite_true() -> None:
    assert not holds("verdict == 'improved'")
    assert holds("not verdict == 'improved'")


def test_the_sender_is_known_also_where_the_event_has_a_field_of_that_name() -> None:
    assert holds("node == 'evaluator'", "NodeReady", node="learner")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "invalid syntax"),
        ("score >", "invalid syntax"),
        ("windw > 3", "'windw' is neither an event type nor a field of one (did you mean window?)"),
        ("__import__('os').system('true')", "is neither a comparison"),
        ("score.__class__()", "is neither a comparison"),
        ("[x for x in type]", "is neither a comparison"),
        ("lambda: 1", "is neither a comparison"),
        ("score + 1 > 2", "is neither a comparison"),
        ("f'{score}'", "is neither a comparison"),
        ("(score := 3)", "is neither a comparison"),
        ("score if window else 3", "is neither a comparison"),
        ("type[0] == 'W'", "is neither a comparison"),
        ("window is None", "only == != < <= > >= in"),
        ("window == b'3'", "is neither a comparison"),
        ("window == ~3", "is neither a comparison"),
        ("window == " + "1" * 2000, "longer than 1000 characters"),
    ],
)
def test_what_is_no_expression_over_an_event_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        EventFilter(text)
    assert why in str(caught.value)
    assert "WindowScored and score > 400" in str(caught.value)


@pytest.mark.parametrize("text", ["score > 'high'", "window in 3", "-purpose > 3"])
def test_what_cannot_be_compared_is_said_and_not_taken_for_false(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be compared|is no number"):
        holds(text)


def test_names_with_underscores_reach_nothing_of_python() -> None:
    with pytest.raises(ConfigurationError):
        EventFilter("__builtins__")
    assert not holds("score.__class__ == 3")
