"""The evaluations of a run, oldest first, and what they say besides their mean."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

#: Evaluations at the start against which a rise is measured.
START = 5

Column = npt.NDArray[np.float64]


class EvaluationSeries:
    """Raw evaluation means with the spread and the number of their episodes; at most ``keep`` of them.

    The first `START` evaluations are remembered for the whole run.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        # Columns: score, standard deviation of single episodes (NaN unknown), episodes (0 unknown).
        self._rows: Column = np.empty((0, 3))
        self.start: Column = np.empty((0, 2))  # score, standard error
        self.highest = -math.inf

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def scores(self) -> Column:
        """``[n]`` raw evaluation means."""
        column: Column = self._rows[:, 0]
        return column

    def record(self, score: float, std: float, n: int, standard_error: float) -> None:
        """Add one evaluation."""
        self._rows = np.vstack([self._rows[max(len(self._rows) + 1 - self._keep, 0) :], [score, std, n]])
        if len(self.start) < START:
            self.start = np.vstack([self.start, [score, standard_error]])
        self.highest = max(self.highest, float(self.scores[-3:].mean()))

    def gained(self) -> float:
        """Rise of the smoothed score since the start; the median start forgives one freak episode."""
        return max(self.highest - _median(self.start[:, 0]), 0.0) if len(self) else 0.0

    def start_error(self) -> float:
        """Typical standard error of the first evaluations, as they report it; 0 where they do not."""
        known = self.start[np.isfinite(self.start[:, 1]), 1]
        return float(np.sqrt(np.mean(known**2))) if len(known) else 0.0

    def episode_sd(self, window: int) -> float:
        """Standard deviation of single episodes in the latest ``window`` evaluations; NaN where most do not
        say. The median of a window that holds two regimes belongs to one of them."""
        stds = self._rows[-window:, 1]
        known = stds[np.isfinite(stds)]
        return _median(known) if 2 * len(known) >= max(window, 1) else math.nan

    def episodes(self, window: int) -> float:
        """Typical number of episodes in one of the latest evaluations; 0 where unknown."""
        return _median(self._rows[-window:, 2]) if len(self) else 0.0

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on; unknown numbers are None."""
        return {
            "rows": _plain(self._rows),
            "start": _plain(self.start),
            "highest": self.highest if len(self) else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`; what is more than ``keep`` goes."""
        self._rows = np.array(state["rows"], np.float64).reshape(-1, 3)[-self._keep :]
        self.start = np.array(state["start"], np.float64).reshape(-1, 2)
        self.highest = -math.inf if state["highest"] is None else float(state["highest"])


def _median(values: Column) -> float:
    # np.median takes five times as long on so few numbers, and this runs several times in each look.
    ordered = np.sort(values)
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2.0


def _plain(rows: Column) -> list[list[float | None]]:
    return [[value if math.isfinite(value) else None for value in row] for row in rows.tolist()]
