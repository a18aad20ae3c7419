"""Where two bodies of one event type differ: the first field, what was recorded, what was found."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from optix_bus.types import NamedArrays

#: Relative, and absolute below one: machines that round differently agree to about seven digits in a single
#: operation; a window of training adds up thousands of them.
TOLERANCE = 1e-4
#: Digests of arrays: they differ wherever one bit of one number does.
_DIGESTS = frozenset({"checksum", "sha256", "bytes"})


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs; None stands for a field that is not there."""

    field: str
    expected: Any
    found: Any


#: (event type, recorded body, emitted body) -> the first difference, or None where they count as equal.
Compare = Callable[[str, bytes, bytes], Difference | None]


def exact(event_type: str, recorded: bytes, emitted: bytes) -> Difference | None:
    """The first difference; bytes that are not the same always have one."""
    if recorded == emitted:
        return None
    expected, found = _decoded(recorded), _decoded(emitted)
    difference = _walk("", expected, found, _same_bits)
    # The same values, encoded otherwise: nothing of ours does that.
    return difference or Difference("encoding", recorded.hex(), emitted.hex())


def tolerant(event_type: str, recorded: bytes, emitted: bytes) -> Difference | None:
    """As `exact`, but floats may differ by `TOLERANCE`, and digests of arrays are not compared.

    A field that only one of the two has is passed over: another version of the library may have added it.
    """
    expected, found = _decoded(recorded), _decoded(emitted)
    shared = expected.keys() & found.keys()
    return _walk(
        "",
        _without_digests({key: value for key, value in expected.items() if key in shared}),
        _without_digests({key: value for key, value in found.items() if key in shared}),
        _close,
    )


def all_fields(recorded: bytes, emitted: bytes) -> list[Difference]:
    """As `exact`, but one difference for each field of the event that has one."""
    expected, found = _decoded(recorded), _decoded(emitted)
    names = [*expected, *(name for name in found if name not in expected)]
    each = (
        _walk(
            "",
            {key: value for key, value in expected.items() if key == name},
            {key: value for key, value in found.items() if key == name},
            _same_bits,
        )
        for name in names
    )
    return [difference for difference in each if difference is not None]


def of_states(recorded: NamedArrays, now: NamedArrays) -> Difference | None:
    """The first fact or array in which two states of a node differ."""
    difference = _walk("", dict(recorded.metadata), dict(now.metadata), _same_bits)
    if difference is not None:
        return difference
    for name in [*recorded.arrays, *(name for name in now.arrays if name not in recorded.arrays)]:
        before, after = recorded.arrays.get(name), now.arrays.get(name)
        if before is None or after is None or (before.shape, before.dtype) != (after.shape, after.dtype):
            return Difference(f"array {name}", _shape(before), _shape(after))
        if before.tobytes() != after.tobytes():
            places = np.flatnonzero(before.reshape(-1) != after.reshape(-1))
            place = int(places[0]) if places.size else 0
            return Difference(
                f"array {name}[{place}]", before.reshape(-1)[place].item(), after.reshape(-1)[place].item()
            )
    return None


def _shape(array: np.ndarray[Any, Any] | None) -> str | None:
    return None if array is None else f"{array.dtype}{list(array.shape)}"


def _decoded(body: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.msgpack.decode(body)
    return decoded


def _walk(path: str, expected: Any, found: Any, same: Callable[[float, float], bool]) -> Difference | None:
    if isinstance(expected, float) and isinstance(found, float):
        return None if same(expected, found) else Difference(path, expected, found)
    if type(expected) is not type(found):
        return Difference(path, expected, found)
    if isinstance(expected, dict):
        for key in [*expected, *(key for key in found if key not in expected)]:
            place = f"{path}.{key}" if path else str(key)
            if key not in expected or key not in found:
                return Difference(place, expected.get(key), found.get(key))
            difference = _walk(place, expected[key], found[key], same)
            if difference is not None:
                return difference
        return None if list(expected) == list(found) else Difference(path, list(expected), list(found))
    if isinstance(expected, list):
        for index, (one, other) in enumerate(zip(expected, found, strict=False)):
            difference = _walk(f"{path}[{index}]", one, other, same)
            if difference is not None:
                return difference
        return None if len(expected) == len(found) else Difference(path, expected, found)
    return None if expected == found else Difference(path, expected, found)


def _same_bits(one: float, other: float) -> bool:
    return struct.pack(">d", one) == struct.pack(">d", other)


def _close(one: float, other: float) -> bool:
    if math.isnan(one) or math.isnan(other) or math.isinf(one) or math.isinf(other):
        return one == other or (math.isnan(one) and math.isnan(other))
    return abs(one - other) <= TOLERANCE * max(1.0, abs(one), abs(other))


def _without_digests(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_digests(item) for key, item in value.items() if key not in _DIGESTS}
    return [_without_digests(item) for item in value] if isinstance(value, list) else value
