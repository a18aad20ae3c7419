"""What a user reads when an environment breaks: which one, where, why, and how to see it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from optix_bus.errors import EnvironmentFailure

Array = np.ndarray[Any, Any]


class NotFinite(Exception):
    """An environment gave NaN or infinity; turned into `EnvironmentFailure` where its episode is known."""

    def __init__(self, row: int, what: str, value: Any) -> None:
        super().__init__(what)
        self.row = row
        self.what = what
        self.value = value


@dataclass(frozen=True)
class Place:
    """Where an environment was when it broke.

    Attributes:
        environment: its name.
        index: which of several; None where nobody can tell.
        role: of the pipeline.
        episode: number of its episode; -1 where nobody can tell.
        step: which step of that episode, from 1 on; 0 is the reset, -1 a step that is made again.
        seed: what the episode was reset with; None where it had no seed of its own.
    """

    environment: str
    index: int | None
    role: str
    episode: int
    step: int
    seed: int | None

    def __str__(self) -> str:
        index = "one of them" if self.index is None else f"number {self.index}"
        moment = f"step {self.step}" if self.step > 0 else "reset" if self.step == 0 else "a replayed step"
        seed = f"seed {self.seed}" if self.seed is not None else "no seed of its own"
        episode = f"{self.role} episode {self.episode}" if self.episode >= 0 else f"a {self.role} episode"
        return f"environment {self.environment} ({index}), {moment} of {episode} ({seed})"

    @property
    def cure(self) -> str:
        """What to do to see it again."""
        if self.seed is None:
            return "Nothing of this window is used. Step the environment alone to see it again"
        return f"Nothing of this window is used. To see it again: env.reset(seed={self.seed}), then step"


def raised(place: Place, error: BaseException | None) -> EnvironmentFailure:
    """The error for an environment that raised."""
    return EnvironmentFailure(f"{place} raised {type(error).__name__}: {error}. {place.cure}")


def not_finite(place: Place, found: NotFinite) -> EnvironmentFailure:
    """The error for an environment that returned NaN or infinity."""
    return EnvironmentFailure(
        f"{place} gave the {found.what} {found.value}, expected finite numbers. {place.cure}"
    )


def refuse_not_finite(rows: Array, what: str) -> None:
    """Raise `NotFinite` for the first row ``[B, ...]`` that holds NaN or infinity."""
    finite = np.isfinite(rows)
    # Counting is half the time of all() on a few dozen numbers, and this runs in every step.
    if np.count_nonzero(finite) == finite.size:
        return
    by_row = finite.reshape(len(rows), -1).all(axis=1)
    row = int(np.argmin(by_row))
    raise NotFinite(row, what, rows[row].tolist())
