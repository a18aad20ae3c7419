"""The complete episodes of a window: from the pipeline's own books, or from rewards and episode ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from optix_bus.types import EpisodeData

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class EpisodeScores:
    """Returns and lengths of the episodes that ended in a window, float64 and int64, ``[n]`` each.

    The numbers are those of NumPy's functions of these names, to the bit; on so few values most of the time
    of those goes into getting there.
    """

    returns: Array
    lengths: Array

    @property
    def n(self) -> int:
        """How many episodes."""
        return len(self.returns)

    @cached_property
    def mean(self) -> float:
        """Mean return; NaN without an episode."""
        return _mean(self.returns)

    @cached_property
    def std(self) -> float:
        """Standard deviation of the return of one episode (n - 1); NaN below two episodes."""
        if self.n < 2:
            return math.nan
        deviations = self.returns - self.mean
        return math.sqrt(float(np.add.reduce(deviations * deviations)) / (self.n - 1))

    @property
    def standard_error(self) -> float:
        """Standard error of `mean`; NaN below two episodes."""
        return self.std / math.sqrt(self.n) if self.n > 1 else math.nan

    @property
    def mean_length(self) -> float:
        """Mean length; NaN without an episode."""
        return _mean(self.lengths)

    @cached_property
    def ordered(self) -> Array:
        """The returns, lowest first."""
        ordered = self.returns.copy()
        ordered.sort()
        return ordered

    @property
    def median(self) -> float:
        """Median return; NaN without an episode."""
        return (
            float(self.ordered[(self.n - 1) // 2] + self.ordered[self.n // 2]) / 2.0 if self.n else math.nan
        )

    @property
    def iqm(self) -> float:
        """Interquartile mean: the mean without the lowest and highest quarter, each rounded down to whole
        episodes (Agarwal et al. 2021, arXiv:2108.13264, section 4.2); NaN without an episode.
        """
        cut = self.n // 4
        return _mean(self.ordered[cut : self.n - cut])


def _mean(values: Array) -> float:
    return float(np.add.reduce(values)) / len(values) if len(values) else math.nan


def episode_scores(data: EpisodeData) -> EpisodeScores:
    """The complete episodes of a window.

    Pipelines of this package say in the metadata which episodes ended, whole even where they began windows
    ago. For windows of others the sums are taken from rewards and ends. There an episode that was already
    under way at the beginning of the window is left out, because only its tail is known; without
    ``episode_starts`` a window is taken to begin with an episode.
    """
    returns = data.metadata.get("episode_returns")
    if returns is not None:
        lengths = data.metadata.get("episode_lengths", [0] * len(returns))
        return EpisodeScores(np.asarray(returns, np.float64), np.asarray(lengths, np.int64))
    rewards = _columns(data.rewards, np.float64)
    ends = _columns(data.dones, bool)
    valid = np.ones(rewards.shape, bool) if data.valid is None else _columns(data.valid, bool)
    starts = None if data.episode_starts is None else _columns(data.episode_starts, bool)
    found: list[tuple[float, int]] = []
    for column in range(rewards.shape[1]):
        kept = valid[:, column]
        whole = starts is None or bool(starts[kept, column][:1].any())
        found += _whole_episodes(rewards[kept, column], ends[kept, column], whole)
    return EpisodeScores(
        np.array([total for total, _ in found], np.float64), np.array([steps for _, steps in found], np.int64)
    )


def _whole_episodes(rewards: Array, ends: Array, first_is_whole: bool) -> list[tuple[float, int]]:
    """(return, length) of the episodes of one environment, in order."""
    found = []
    begin = 0
    for last in np.flatnonzero(ends).tolist():
        if begin or first_is_whole:
            found.append((float(rewards[begin : last + 1].sum()), last + 1 - begin))
        begin = last + 1
    return found


def _columns(values: Any, dtype: Any) -> Array:
    """``[T]`` or ``[T, B]`` as ``[T, B]``."""
    array = np.asarray(values, dtype)
    return array[:, None] if array.ndim == 1 else array
