"""Rows in a ring: the newest ``capacity`` of them, in memory or in mapped files."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = np.ndarray[Any, Any]

#: From this size on, in bytes, a ring without a path lies in a nameless temporary file instead of memory.
IN_MEMORY = 4 * 2**30


class Ring:
    """Named columns of equal length, written in a circle.

    Args:
        capacity: rows, at least 1.
        columns: shape of one row and dtype, by name.
        path: folder for the files of a mapped ring, made where there is none; what lies there under the same
            names is overwritten. Without one the ring is in memory up to `IN_MEMORY`.
    """

    def __init__(
        self,
        capacity: int,
        columns: Mapping[str, tuple[tuple[int, ...], npt.DTypeLike]],
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        self.capacity = int(capacity)
        kinds = {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in columns.items()}
        #: Size of one row of all columns.
        self.row_bytes = sum(math.prod(shape) * dtype.itemsize for shape, dtype in kinds.values())
        self.mapped = path is not None or self.row_bytes * self.capacity > IN_MEMORY
        self.columns: dict[str, Array] = {}
        for name, (shape, dtype) in kinds.items():
            size = (self.capacity, *shape)
            if not self.mapped:
                self.columns[name] = np.zeros(size, dtype)
            elif math.prod(size) == 0:
                self.columns[name] = np.zeros(size, dtype)  # there is no mapping nothing
            elif path is None:
                with tempfile.TemporaryFile(prefix="optix-bus-replay-") as file:
                    self.columns[name] = np.memmap(file, dtype, "w+", shape=size)
            else:
                Path(path).mkdir(parents=True, exist_ok=True)
                self.columns[name] = np.memmap(Path(path) / f"{name}.bin", dtype, "w+", shape=size)
        self.written = 0

    def __len__(self) -> int:
        return min(self.written, self.capacity)

    @property
    def position(self) -> int:
        """Where the next row goes."""
        return self.written % self.capacity

    def add(self, rows: Mapping[str, Array]) -> npt.NDArray[np.int64]:
        """Write rows ``[M, ...]`` of all columns; returns the places ``[min(M, capacity)]`` they took."""
        count = len(next(iter(rows.values())))
        kept = min(count, self.capacity)
        self.written += count - kept
        start = self.position
        front = min(kept, self.capacity - start)
        for name, column in self.columns.items():
            new = rows[name][count - kept :]
            column[start : start + front] = new[:front]
            column[: kept - front] = new[front:]
        self.written += kept
        return np.arange(start, start + kept) % self.capacity

    def state(self) -> dict[str, Array]:
        """A copy of what is in it, by name, place by place."""
        return {name: np.array(column[: len(self)]) for name, column in self.columns.items()}

    def load_state(self, columns: Mapping[str, Array], written: int, capacity: int) -> None:
        """Go on from what `state` of a ring with this many rows written and this capacity returned.

        A ring of another capacity takes the newest rows that it has room for, in order of age.

        Raises:
            ValueError: a column is missing or has rows of another shape or dtype; nothing has changed then.
        """
        held = min(written, capacity)
        for name, column in self.columns.items():
            found = columns.get(name)
            expected = (held, *column.shape[1:])
            if found is None or found.shape != expected or found.dtype != column.dtype:
                what = "nothing" if found is None else f"{found.dtype}{list(found.shape)}"
                raise ValueError(f"{name}: found {what}, expected {column.dtype}{list(expected)}")
        if capacity == self.capacity:
            for name, column in self.columns.items():
                column[:held] = columns[name]
            self.written = written
            return
        self.written = 0
        self.add({name: columns[name][oldest_first(written, capacity)] for name in self.columns})


def oldest_first(written: int, capacity: int) -> npt.NDArray[np.int64]:
    """Places of a ring in the order of their age."""
    held = min(written, capacity)
    return (np.arange(held) + (written % capacity if written > capacity else 0)) % capacity
