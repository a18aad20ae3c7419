"""A sum tree over priorities: proportional sampling in O(log N), whole batches at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


class SumTree:
    """Priorities of ``capacity`` places, of which each inner node holds the sum of its two children.

    Schaul et al. 2016, Prioritized Experience Replay, https://arxiv.org/abs/1511.05952, appendix B.2.1.
    Every node is recomputed from its children, never changed by a difference: rounding does not pile up.

    Args:
        capacity: number of places, at least 1.
    """

    def __init__(self, capacity: int) -> None:
        self.depth = max(int(capacity) - 1, 0).bit_length()
        self._leaves = 1 << self.depth
        self._nodes: Float64 = np.zeros(2 * self._leaves)

    @property
    def total(self) -> float:
        """Sum of all priorities."""
        return float(self._nodes[1])

    def __getitem__(self, places: Indices | slice) -> Float64:
        """Priorities of these places."""
        leaves: Float64 = self._nodes[self._leaves :]
        return leaves[places]

    def set(self, places: Indices, priorities: Float64) -> None:
        """Give places ``[B]`` priorities ``[B]``, at least 0; of a place named twice the last one counts."""
        nodes = self._nodes
        at = places + self._leaves
        nodes[at] = priorities
        for _ in range(self.depth):
            at = at >> 1
            nodes[at] = nodes[2 * at] + nodes[2 * at + 1]

    def fill(self, priorities: Float64) -> None:
        """Give the first places these priorities ``[N]`` and all others 0, in O(capacity)."""
        self._nodes[:] = 0.0
        self._nodes[self._leaves : self._leaves + len(priorities)] = priorities
        level = self._leaves
        while level > 1:
            half = level >> 1
            self._nodes[half:level] = self._nodes[level : 2 * level].reshape(half, 2).sum(axis=1)
            level = half

    def find(self, masses: npt.ArrayLike) -> Indices:
        """The place at which the running sum of priorities passes each mass ``[B]``, all in [0, total).

        A place with priority 0 is never returned, whatever rounding does.
        """
        left_over: Any = np.array(masses, np.float64)
        at = np.ones(left_over.shape, np.int64)
        nodes = self._nodes
        for _ in range(self.depth):
            at = at << 1
            left = nodes[at]
            right_side = (left_over >= left) & (nodes[at + 1] > 0.0)
            left_over = np.where(right_side, left_over - left, left_over)
            at = at + right_side
        return at - self._leaves
