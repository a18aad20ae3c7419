"""Finding the field in which two bodies differ."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optix_bus.runtime.replay_compare import TOLERANCE, all_fields, exact, of_states, tolerant
from optix_bus.types import NamedArrays

NAN = float("nan")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(st.text(max_size=3), VALUES, max_size=4)


def packed(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


@given(BODIES, BODIES)
def test_a_difference_is_found_where_bytes_differ_and_nowhere_else(one: Any, other: Any) -> None:
    first, second = packed(one), packed(other)
    found = exact("Any", first, second)
    assert (found is None) == (first == second)
    assert exact("Any", first, first) is None


@pytest.mark.parametrize(
    ("recorded", "emitted", "field", "expected", "found"),
    [
        ({"score": 1.0}, {"score": 2.0}, "score", 1.0, 2.0),
        ({"a": 1, "data": {"checksum": "x"}}, {"a": 1, "data": {"checksum": "y"}}, "data.checksum", "x", "y"),
        ({"params": {"rate": [1, 2]}}, {"params": {"rate": [1, 3]}}, "params.rate[1]", 2, 3),
        ({"zero": 0.0}, {"zero": -0.0}, "zero", 0.0, -0.0),
        ({"n": 1}, {"n": 1.0}, "n", 1, 1.0),
        ({"n": True}, {"n": 1}, "n", True, 1),
        ({"old": 1}, {}, "old", 1, None),
        ({}, {"new": 1}, "new", None, 1),
        ({"l": [1]}, {"l": [1, 2]}, "l", [1], [1, 2]),
        ({"m": {"a": 1, "b": 2}}, {"m": {"b": 2, "a": 1}}, "m", ["a", "b"], ["b", "a"]),
    ],
)
def test_the_first_field_that_differs_is_named_with_its_path(
    recorded: Any, emitted: Any, field: str, expected: Any, found: Any
) -> None:
    difference = exact("Any", packed(recorded), packed(emitted))
    assert difference is not None
    assert (difference.field, difference.expected, difference.found) == (field, expected, found)


def test_a_number_that_is_none_equals_itself() -> None:
    assert exact("Any", packed({"score": NAN}), packed({"score": NAN})) is None
    assert exact("Any", packed({"score": NAN}), packed({"score": 1.0})) is not None


def test_the_same_values_encoded_otherwise_are_not_taken_for_equal() -> None:
    short, long = b"\x81\xa1a\x01", b"\x81\xa1a\xcc\x01"
    found = exact("Any", short, long)
    assert found is not None
    assert found.field == "encoding"


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_tolerance_is_relative_above_one(scale: float) -> None:
    one = {"score": scale}
    limit = TOLERANCE * max(1.0, scale)
    assert tolerant("Any", packed(one), packed({"score": scale + 0.9 * limit})) is None
    assert tolerant("Any", packed(one), packed({"score": scale + 1.1 * limit})) is not None


def test_within_a_tolerance_everything_but_floats_and_digests_is_exact() -> None:
    recorded = {"n": 3, "name": "a", "data": {"name": "w", "bytes": 8, "checksum": "x"}, "sha256": "1"}
    assert tolerant("Any", packed(recorded), packed({**recorded, "n": 4})) is not None
    assert tolerant("Any", packed(recorded), packed({**recorded, "name": "b"})) is not None
    other = {**recorded, "data": {"name": "w", "bytes": 9, "checksum": "y"}, "sha256": "2"}
    assert tolerant("Any", packed(recorded), packed(other)) is None
    renamed = {**recorded, "data": {"name": "v", "bytes": 8, "checksum": "x"}}
    assert tolerant("Any", packed(recorded), packed(renamed)) is not None


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_within_a_tolerance_what_is_not_finite_has_to_be_the_same(value: float) -> None:
    assert tolerant("Any", packed({"s": value}), packed({"s": value})) is None
    assert tolerant("Any", packed({"s": value}), packed({"s": 1.0})) is not None


def test_within_a_tolerance_a_field_that_a_version_has_added_is_passed_over() -> None:
    assert tolerant("Any", packed({"a": 1.0}), packed({"a": 1.0, "added": 2})) is None


def test_every_field_that_differs_can_be_had() -> None:
    one, other = {"a": 1, "b": [1, 2], "c": 3}, {"a": 1, "b": [1, 4], "d": 5}
    found = all_fields(packed(one), packed(other))
    assert [(d.field, d.expected, d.found) for d in found] == [("b[1]", 2, 4), ("c", 3, None), ("d", None, 5)]


def test_states_differ_in_a_fact_an_array_or_one_of_its_numbers() -> None:
    def state(facts: Any = 1, **arrays: Any) -> NamedArrays:
        return NamedArrays({name: np.array(value) for name, value in arrays.items()}, {"facts": facts})

    assert of_states(state(w=[1.0, NAN]), state(w=[1.0, NAN])) is None
    cases = [
        (state({"n": 1}), state({"n": 2}), "facts.n", 1, 2),
        (state(w=[1.0]), state(), "array w", "float64[1]", None),
        (state(), state(w=[1]), "array w", None, "int64[1]"),
        (state(w=[1, 2]), state(w=[[1, 2]]), "array w", "int64[2]", "int64[1, 2]"),
        (state(w=[[1.0, 2.0]]), state(w=[[1.0, 3.0]]), "array w[1]", 2.0, 3.0),
        (state(w=[0.0]), state(w=[-0.0]), "array w[0]", 0.0, -0.0),
    ]
    for recorded, now, field, expected, found in cases:
        difference = of_states(recorded, now)
        assert difference is not None
        assert (difference.field, difference.expected, difference.found) == (field, expected, found)
