"""Cutting a batch into minibatches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def make_minibatches(
    data: Mapping[str, Array],
    minibatch_size: int,
    shuffle: bool = True,
    rng: np.random.Generator | None = None,
) -> Iterator[dict[str, Array]]:
    """Every row exactly once, in minibatches of the given size; the last one may be smaller.

    Rows are permuted once and then sliced, so that each minibatch is a contiguous view.

    Args:
        data: arrays that share their first axis ``[N, ...]``.
        minibatch_size: rows in a minibatch, at least 1.
        shuffle: permute the rows first.
        rng: draws the permutation; without one every call shuffles differently.

    Raises:
        ValueError: no arrays, different lengths, or a size below 1.
    """
    arrays = {name: np.asarray(array) for name, array in data.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if not lengths:
        raise ValueError("found no arrays to cut into minibatches")
    if len(set(lengths.values())) != 1:
        raise ValueError(f"arrays differ in length: {lengths}, expected one length for all")
    if minibatch_size < 1:
        raise ValueError(f"minibatch_size is {minibatch_size}, expected at least 1")
    rows = next(iter(lengths.values()))
    if shuffle:
        order = (np.random.default_rng() if rng is None else rng).permutation(rows)
        arrays = {name: array[order] for name, array in arrays.items()}
    return (
        {name: array[start : start + minibatch_size] for name, array in arrays.items()}
        for start in range(0, rows, minibatch_size)
    )
