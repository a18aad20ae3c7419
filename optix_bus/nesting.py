"""Several named arrays and plain facts as one, and apart again: the form in which nodes write their states.

Names of parts become prefixes of names of arrays. What is no array travels as JSON, so keys come back as
texts, tuples as lists and NumPy numbers as plain ones. The order of keys, which JSON loses where it is
sorted, is kept: what a node emits shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from optix_bus.errors import ConfigurationError
from optix_bus.interfaces import Stateful
from optix_bus.types import NamedArrays

V = TypeVar("V")

#: Most of a state; asking whether something is a mapping costs ten times as much as asking this.
_PLAIN = frozenset((float, int, str, bool, type(None)))


def join(parts: Mapping[str, NamedArrays], facts: Mapping[str, Any] | None = None) -> NamedArrays:
    """One `NamedArrays` that holds all of these, by name, and JSON-able facts beside them. Nothing is copied.

    Raises:
        ConfigurationError: the name of a part is empty or holds a slash.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for part, content in parts.items():
        if not part or "/" in part:
            raise ConfigurationError(f"found a part named {part!r}, expected a name without a slash")
        arrays.update({f"{part}/{name}": array for name, array in content.arrays.items()})
    described = {part: dict(content.metadata) for part, content in parts.items()}
    return NamedArrays(arrays, {"parts": described, "facts": _ordered(dict(facts or {}))})


def split(state: NamedArrays) -> tuple[dict[str, NamedArrays], dict[str, Any]]:
    """The parts and the facts that `join` put together."""
    arrays: dict[str, dict[str, np.ndarray[Any, Any]]] = {part: {} for part in state.metadata["parts"]}
    for name, array in state.arrays.items():
        part, _, own = name.partition("/")
        arrays[part][own] = array
    described = state.metadata["parts"]
    parts = {part: NamedArrays(own, dict(described[part])) for part, own in arrays.items()}
    return parts, _restored(state.metadata["facts"])


def by_number(values: Mapping[Any, V]) -> dict[int, V]:
    """A mapping whose keys were numbers before JSON made texts of them."""
    return {int(key): value for key, value in values.items()}


def from_values(values: Mapping[str, Any]) -> NamedArrays:
    """Plain values, among which there may be arrays at any depth, as named arrays. Nothing is copied.

    Raises:
        ConfigurationError: something is neither a number, a text, an array, nor a list or mapping of those.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    plain = {str(key): _take(value, (str(key),), arrays) for key, value in values.items()}
    return NamedArrays(arrays, {"values": _ordered(plain)})


def to_values(state: NamedArrays) -> dict[str, Any]:
    """What `from_values` was given, as JSON gives it back; the arrays may be read-only."""
    values = _restored(state.metadata["values"])
    for name, array in state.arrays.items():
        *path, last = (step.replace("~1", "/").replace("~0", "~") for step in name.split("/"))
        place = values
        for step in path:
            place = place[int(step)] if isinstance(place, list) else place[step]
        if isinstance(place, list):
            place[int(last)] = array
        else:
            place[last] = array
    return dict(values)


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values as they come back from a state, to be compared with some that did."""
    return to_values(from_values(values))


def memory_of(thing: Any) -> NamedArrays | None:
    """The state of a user's object; None where it is not `Stateful`."""
    return from_values(thing.state()) if isinstance(thing, Stateful) else None


def remind(thing: Any, memory: NamedArrays | None) -> bool:
    """Give a user's object the memory of its predecessor; whether there was one and it takes it."""
    if memory is None or not isinstance(thing, Stateful):
        return False
    thing.load_state(to_values(memory))
    return True


def _take(value: Any, path: tuple[str, ...], arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """The value with None in the place of each array, which goes to its path (as in JSON pointers)."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.ndarray):
        arrays["/".join(step.replace("~", "~0").replace("/", "~1") for step in path)] = value
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _take(item, (*path, str(key)), arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_take(item, (*path, str(index)), arrays) for index, item in enumerate(value)]
    raise ConfigurationError(
        f"found {type(value).__name__} at {'.'.join(path)} of a state, expected numbers, texts, arrays, and "
        "lists and mappings of them"
    )


def _ordered(value: Any) -> Any:
    """The value with mappings that are not in the order of their keys as a list of pairs below the key ""."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, list | tuple):
        # Most are series of numbers, which grow with the run.
        return list(value) if _PLAIN.issuperset(map(type, value)) else [_ordered(item) for item in value]
    if isinstance(value, Mapping):
        keys = [str(key) for key in value]
        plain = {key: _ordered(item) for key, item in zip(keys, value.values(), strict=True)}
        return (
            plain
            if keys == sorted(keys) and "" not in plain
            else {"": [list(pair) for pair in plain.items()]}
        )
    return value


def _restored(value: Any) -> Any:
    """A copy of the value that `_ordered` was given."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        pairs = value[""] if "" in value else value.items()
        return {key: _restored(item) for key, item in pairs}
    return [_restored(item) for item in value] if isinstance(value, list) else value
