"""What environments say in ``info``, without a dict for every silent step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload


class SparseInfos(Sequence[dict[str, Any]]):
    """Reads like a list with one dict per time step, stores only those that hold something.

    In a window of one environment, item ``t`` is the info of step ``t``. In a window of several it has the
    form of Gymnasium's vector environments: ``{key: values of B environments, "_key": B booleans}``.
    """

    def __init__(self, length: int, told: Mapping[int, dict[str, Any]] | None = None) -> None:
        self._length = length
        self._told = dict(told or {})

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self._told.get(step, {}) for step in range(self._length)[index]]
        return self._told.get(range(self._length)[index], {})

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self._told.get(step, {}) for step in range(self._length))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def of_row(self, row: int) -> SparseInfos:
        """What one of several environments said."""
        return SparseInfos(self._length, {step: of_row(info, row) for step, info in self._told.items()})

    def __repr__(self) -> str:
        return f"SparseInfos({self._length}, {self._told!r})"


def side_by_side(infos: Mapping[int, Mapping[str, Any]], environments: int) -> dict[str, Any]:
    """Infos by environment index as one dict in the form of Gymnasium's vector environments."""
    merged: dict[str, Any] = {}
    for index, info in infos.items():
        for key, value in info.items():
            if key not in merged:
                merged[key] = [None] * environments
                merged[f"_{key}"] = [False] * environments
            merged[key][index] = value
            merged[f"_{key}"][index] = True
    return merged


def of_row(info: Mapping[str, Any], row: int) -> dict[str, Any]:
    """What one environment said, from an info in the form of Gymnasium's vector environments."""
    told: dict[str, Any] = {}
    for key, value in info.items():
        mask = info.get(f"_{key}")
        if mask is None or not mask[row]:
            continue
        told[key] = of_row(value, row) if isinstance(value, Mapping) else value[row]
    return told
