"""Several named arrays and plain facts as one, and apart again: the form in which nodes write their states.

Names of parts become prefixes of names of arrays. What is no array travels as JSON, so keys come back as
texts, tuples as lists and NumPy numbers as plain ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from optix_bus.errors import ConfigurationError
from optix_bus.types import NamedArrays

V = TypeVar("V")


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
    return NamedArrays(arrays, {"parts": described, "facts": dict(facts or {})})


def split(state: NamedArrays) -> tuple[dict[str, NamedArrays], dict[str, Any]]:
    """The parts and the facts that `join` put together."""
    arrays: dict[str, dict[str, np.ndarray[Any, Any]]] = {part: {} for part in state.metadata["parts"]}
    for name, array in state.arrays.items():
        part, _, own = name.partition("/")
        arrays[part][own] = array
    described = state.metadata["parts"]
    parts = {part: NamedArrays(own, dict(described[part])) for part, own in arrays.items()}
    return parts, dict(state.metadata["facts"])


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
    return NamedArrays(arrays, {"values": plain})


def to_values(state: NamedArrays) -> dict[str, Any]:
    """What `from_values` was given, as JSON gives it back; the arrays may be read-only."""
    values = _copy(state.metadata["values"])
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


def _take(value: Any, path: tuple[str, ...], arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """The value with None in the place of each array, which goes to its path (as in JSON pointers)."""
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


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
