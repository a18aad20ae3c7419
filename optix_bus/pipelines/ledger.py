"""Which episode each environment plays, and how far it is: survives the end of a window."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: Actions of an open episode are kept so that it can be rebuilt; beyond this it is cut instead, because an
#: environment that never ends an episode would fill the memory.
REPLAYABLE_STEPS = 1_000_000


@dataclass
class OpenEpisode:
    """An episode in progress, as of the last window boundary."""

    number: int
    steps: int = 0
    total: float = 0.0
    actions: list[Array] = field(default_factory=list)

    @property
    def replayable(self) -> bool:
        """Whether all its actions are known."""
        return sum(map(len, self.actions)) == self.steps


@dataclass
class EndedEpisode:
    """An episode that ended in this window."""

    number: int
    steps: int
    total: float


class EpisodeLedger:
    """Numbers episodes in the order in which they begin, lowest row first.

    Steps inside a window are not counted one by one: each row remembers the step at which its episode
    entered the window, and the sums are taken when the episode ends or the window does.
    """

    def __init__(self, environments: int) -> None:
        self.next_number = 0
        self.rows: list[OpenEpisode | None] = [None] * environments
        self.ended: list[EndedEpisode] = []
        self._entered = [0] * environments

    def open_window(self) -> None:
        """Begin a window: step 0 is its first."""
        self.ended = []
        self._entered = [0] * len(self.rows)

    def begin(self, row: int, step: int) -> int:
        """A new episode begins in this row with the observation of this step; returns its number."""
        number = self.next_number
        self.next_number += 1
        self.rows[row] = OpenEpisode(number)
        self._entered[row] = step
        return number

    def end(self, row: int, step: int, rewards: Array) -> None:
        """The episode of this row ended with this step. ``rewards`` are ``[T, B]`` of the window."""
        episode = self.rows[row]
        assert episode is not None
        first = self._entered[row]
        total = episode.total + float(rewards[first : step + 1, row].sum())
        self.ended.append(EndedEpisode(episode.number, episode.steps + step + 1 - first, total))
        self.rows[row] = None

    def close_window(self, rewards: Array, sent: Array | None) -> None:
        """Carry open episodes on. ``sent`` are the actions ``[T, B, ...]``, None where none are kept."""
        length = len(rewards)
        for row, episode in enumerate(self.rows):
            if episode is None:
                continue
            first = self._entered[row]
            episode.total += float(rewards[first:, row].sum())
            if sent is not None and episode.replayable and episode.steps + length - first <= REPLAYABLE_STEPS:
                episode.actions.append(sent[first:, row].copy())
            else:
                episode.actions.clear()
            episode.steps += length - first

    def at(self, row: int, step: int) -> tuple[int, int]:
        """Number of the row's episode, and how many steps it had made before this step of the window."""
        episode = self.rows[row]
        if episode is None:
            return -1, 0
        return episode.number, episode.steps + step - self._entered[row]

    def abandon(self) -> list[int]:
        """Give up all open episodes; returns their numbers."""
        numbers = [episode.number for episode in self.rows if episode is not None]
        self.rows = [None] * len(self.rows)
        return numbers
