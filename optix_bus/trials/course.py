"""How far a trial has come, told to the study at points that are the same for all trials.

A median over trials needs their scores at equal amounts of training. Trials whose windows have different
sizes, or whose evaluations become rarer, share no step; so the budget is divided by a grid, and each trial
reports the score that it had last where it passes a point of it. The unit is the budget's own: environment
steps, or windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from optix_bus.errors import ConfigurationError

_POINTS = 20
_WARMUP = 0.15


class Reporting(Protocol):
    """What is told: an Optuna trial."""

    def report(self, value: float, step: int) -> None:
        """A score at a point."""
        ...

    def should_prune(self) -> bool:
        """Whether it is below what others had at its last point."""
        ...


@dataclass(frozen=True)
class Budget:
    """What one trial may use, and where it is compared with the others.

    Attributes:
        amount: of environment steps, or of windows.
        unit: ``steps`` or ``episodes``; an episode of the loop is a window, as in ``max_episodes``.
        warmup: no trial is pruned before this much, in the same unit.
        interval: from one point of the grid to the next, in the same unit.
    """

    amount: int
    unit: str
    warmup: int
    interval: int

    @classmethod
    def of(
        cls,
        steps: int | None,
        episodes: int | None,
        warmup: int | None = None,
        interval: int | None = None,
        *,
        default_steps: int = 50_000,
    ) -> Budget:
        """From what a user gives; 15 % of the budget is warm-up, and there are twenty points.

        Raises:
            ConfigurationError: two budgets, or numbers that make no sense.
        """
        if steps is not None and episodes is not None:
            raise ConfigurationError(
                f"found trial_steps={steps} and trial_episodes={episodes}: a trial has one budget, pass one"
            )
        if episodes is not None:
            name, amount, unit = "trial_episodes", episodes, "episodes"
        else:
            name, amount, unit = "trial_steps", default_steps if steps is None else steps, "steps"
        _whole(name, amount, 1)
        early = math.floor(_WARMUP * amount) if warmup is None else warmup
        apart = max(1, amount // _POINTS) if interval is None else interval
        _whole("pruner_warmup_steps", early, 0)
        _whole("pruner_interval", apart, 1)
        return cls(amount, unit, early, apart)

    @property
    def setting(self) -> dict[str, int]:
        """The setting of the loop that ends a trial."""
        return {"max_steps" if self.unit == "steps" else "max_episodes": self.amount}

    def __str__(self) -> str:
        return f"{self.amount:,} {self.unit}"


class Course:
    """One trial on its way.

    Args:
        trial: is told.
        budget: with the grid.
    """

    def __init__(self, trial: Reporting, budget: Budget) -> None:
        self._trial = trial
        self._budget = budget
        self._reported = 0
        self._score = math.nan

    def see(self, score: float, amount: int) -> bool:
        """An evaluation after this much of the budget; returns whether the trial should end here.

        A score that is not finite says nothing and leaves the last one standing.
        """
        if math.isfinite(score):
            self._score = score
        last = min(amount, self._budget.amount) // self._budget.interval
        if last <= self._reported or not math.isfinite(self._score):
            return False
        self._report(last)
        return bool(self._trial.should_prune())

    def end(self) -> None:
        """The trial was done early: at the points that it has no need to reach it counts with its last score,
        or a quick learner would be missing where slower ones are compared."""
        if math.isfinite(self._score):
            self._report(self._budget.amount // self._budget.interval)

    def _report(self, last: int) -> None:
        for point in range(self._reported + 1, last + 1):
            self._trial.report(self._score, point * self._budget.interval)
        self._reported = max(self._reported, last)


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"found {name}={value!r}, expected a whole number of at least {least}")
