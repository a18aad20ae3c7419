"""States are put together from parts and come apart again, also through bytes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from optix_bus.bus.blob_format import parse, parts
from optix_bus.errors import ConfigurationError
from optix_bus.nesting import by_number, from_values, join, split, to_values
from optix_bus.types import NamedArrays


def through_bytes(state: NamedArrays) -> NamedArrays:
    return parse(b"".join(parts(state)), "test")


def test_parts_and_facts_come_back_through_bytes_with_their_types() -> None:
    agent = NamedArrays({"actor.0": np.arange(3, dtype=np.float32), "n": np.array(2)}, {"kind": "mlp"})
    empty = NamedArrays({}, {"why": "nothing yet"})
    joined = join({"agent": agent, "empty": empty}, {"version": 3, "score": math.nan, "params": {4: 0.1}})
    found, facts = split(through_bytes(joined))
    assert list(found) == ["agent", "empty"]
    assert found["agent"].metadata == {"kind": "mlp"}
    assert found["agent"].arrays["actor.0"].tolist() == [0, 1, 2]
    assert (found["agent"].arrays["n"].shape, found["agent"].arrays["n"].dtype) == ((), np.int64)
    assert (dict(found["empty"].arrays), found["empty"].metadata) == ({}, {"why": "nothing yet"})
    assert facts["version"] == 3
    assert math.isnan(facts["score"])
    assert by_number(facts["params"]) == {4: 0.1}


def test_what_is_joined_can_be_joined_again() -> None:
    inner = join({"a": NamedArrays({"x": np.ones(2)}, {"m": 1})}, {"f": 2})
    found, _ = split(through_bytes(join({"outer": inner})))
    again, facts = split(found["outer"])
    assert again["a"].arrays["x"].tolist() == [1, 1]
    assert (again["a"].metadata, facts) == ({"m": 1}, {"f": 2})


def test_the_order_of_keys_survives_the_sorting_of_json() -> None:
    facts = {"z": {"b": 1, "a": [{"d": 1, "c": 2}]}, "m": {10: "x", 9: "y", 100: {}}, "": 5, "a": {"": {}}}
    _, found = split(through_bytes(join({}, facts)))
    assert list(found) == ["z", "m", "", "a"]
    assert list(found["z"]["a"][0]) == ["d", "c"]
    assert found["m"] == {"10": "x", "9": "y", "100": {}}
    assert list(found["m"]) == ["10", "9", "100"]
    assert (found[""], found["a"]) == (5, {"": {}})
    assert list(to_values(through_bytes(from_values(facts)))) == ["z", "m", "", "a"]


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_part_without_a_proper_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="without a slash"):
        join({name: NamedArrays({})})


def test_values_with_arrays_at_any_depth_come_back() -> None:
    values: dict[str, Any] = {
        "count": 3,
        "name": "x",
        "nothing": None,
        "flags": [True, False],
        "actions": [np.zeros((0, 2)), np.ones((3, 2))],
        "by key": {"a/b~c": np.arange(2), "deep": {"0": np.array(1.5, np.float32)}},
        "number": np.int64(7),
    }
    found = to_values(through_bytes(from_values(values)))
    assert found.keys() == values.keys()
    assert [found[key] for key in ("count", "name", "nothing", "flags", "number")] == [
        3,
        "x",
        None,
        [True, False],
        7,
    ]
    assert [array.shape for array in found["actions"]] == [(0, 2), (3, 2)]
    assert found["by key"]["a/b~c"].tolist() == [0, 1]
    assert found["by key"]["deep"]["0"].dtype == np.float32


def test_taking_values_apart_leaves_the_state_as_it_was() -> None:
    state = from_values({"a": [np.ones(1)]})
    to_values(state)["a"].append(1)
    assert state.metadata["values"] == {"a": [None]}


def test_what_neither_json_nor_arrays_can_hold_is_named_with_its_place() -> None:
    with pytest.raises(ConfigurationError, match=r"found object at a\.0 of a state"):
        from_values({"a": [object()]})
