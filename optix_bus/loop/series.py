"""The evaluations of a run, oldest first, and what they say besides their mean."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

#: Evaluations for which there is room at first.
_ROOM = 64

#: Evaluations at the start against which a rise is measured.
START = 5

Column = npt.NDArray[np.float64]


class EvaluationSeries:
    """Raw evaluation means with the spread and the number of their episodes; at most ``keep`` of them.

    The first `START` evaluations are remembered for the whole run.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        # Rows: score, standard deviation of single episodes (NaN unknown), episodes (0 unknown). Those from
        # `_begin` to `_end` count; there is room behind them, so that most evaluations move nothing.
        self._table: Column = np.empty((3, _ROOM))
        self._begin = self._end = 0
        self.start: Column = np.empty((0, 2))  # score, standard error
        self.highest = -math.inf
        #: Medians that were asked for since the last evaluation; a look asks for each several times.
        self._medians: dict[int, float] = {}

    def __len__(self) -> int:
        return self._end - self._begin

    @property
    def scores(self) -> Column:
        """``[n]`` raw evaluation means; a view that the next evaluation may overwrite."""
        return self._row(0)

    def record(self, score: float, std: float, n: int, standard_error: float) -> None:
        """Add one evaluation."""
        if self._end == self._table.shape[1]:
            kept = self._table[:, self._begin : self._end]
            self._table = np.empty((3, 2 * kept.shape[1]))
            self._table[:, : kept.shape[1]] = kept
            self._begin, self._end = 0, kept.shape[1]
        self._table[:, self._end] = (score, std, n)
        self._end += 1
        self._begin = max(self._begin, self._end - self._keep)
        self._medians.clear()
        if len(self.start) < START:
            self.start = np.vstack([self.start, [score, standard_error]])
        latest = self.scores[-3:].tolist()
        self.highest = max(self.highest, sum(latest) / len(latest))

    def _row(self, which: int, window: int | None = None) -> Column:
        """One row, or its latest ``window`` values."""
        begin = self._begin if window is None else max(self._end - window, self._begin)
        return self._table[which, begin : self._end]

    def gained(self) -> float:
        """Rise of the smoothed score since the start; the median start forgives one freak episode."""
        if self._end == self._begin:
            return 0.0
        if 0 not in self._medians:
            self._medians[0] = _median(self.start[:, 0])
        return max(self.highest - self._medians[0], 0.0)

    def start_error(self) -> float:
        """Typical standard error of the first evaluations, as they report it; 0 where they do not."""
        known = self.start[np.isfinite(self.start[:, 1]), 1]
        return float(np.sqrt(np.mean(known**2))) if len(known) else 0.0

    def episode_sd(self, window: int) -> float:
        """Standard deviation of single episodes in the latest ``window`` evaluations; NaN where most do not
        say. The median of a window that holds two regimes belongs to one of them."""
        stds = self._row(1, window)
        known = stds[np.isfinite(stds)]
        return _median(known) if 2 * len(known) >= max(window, 1) else math.nan

    def episodes(self, window: int) -> float:
        """Typical number of episodes in one of the latest evaluations; 0 where unknown."""
        if self._end == self._begin:
            return 0.0
        if window not in self._medians:
            self._medians[window] = _median(self._row(2, window))
        return self._medians[window]

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on; unknown numbers are None."""
        return {
            "rows": _plain(self._table[:, self._begin : self._end].T),
            "start": _plain(self.start),
            "highest": self.highest if len(self) else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`; what is more than ``keep`` goes."""
        rows = np.array(state["rows"], np.float64).reshape(-1, 3)[-self._keep :]
        self._begin, self._end = 0, len(rows)
        self._table = np.empty((3, max(_ROOM, 2 * len(rows))))
        self._table[:, : len(rows)] = rows.T
        self._medians.clear()
        self.start = np.array(state["start"], np.float64).reshape(-1, 2)
        self.highest = -math.inf if state["highest"] is None else float(state["highest"])


def _median(values: Column) -> float:
    # np.median takes ten times as long on so few numbers, and this runs several times in each look.
    ordered = values.copy()
    ordered.sort()
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2.0


def _plain(rows: Column) -> list[list[float | None]]:
    return [[value if math.isfinite(value) else None for value in row] for row in rows.tolist()]
