"""What became of a trial."""

from __future__ import annotations

import math
from dataclasses import dataclass

from optix_bus.messages import RunFinished
from optix_bus.trials.course import Course

#: Why a loop was stopped whose trial was given up.
PRUNED = "pruned"
_INTERRUPTS = ("interrupted", "stop requested")
#: Reasons after which a trial has nothing more to show, though its budget is not used up.
_DONE = ("converged", "target_score")


@dataclass(frozen=True)
class Work:
    """What became of a trial. ``score`` is NaN where there is none; ``reason`` then says why."""

    score: float = math.nan
    steps: int = 0
    pruned: bool = False
    interrupted: bool = False
    reason: str = ""
    weights: str = ""

    @classmethod
    def of(
        cls, finished: RunFinished, course: Course, *, pruned: bool, early: bool = False, weights: str = ""
    ) -> Work:
        """From the end of its loop.

        Args:
            finished: how that ended.
            course: of the trial; told where there is nothing more to come.
            pruned: whether it was given up.
            early: whether somebody has said that it has shown enough.
            weights: where its best policy lies.
        """
        score, steps = finished.best_score, finished.steps
        if pruned:
            return cls(score, steps, pruned=True, weights=weights)
        if finished.reason in _INTERRUPTS:
            return cls(score, steps, interrupted=True, reason="interrupted", weights=weights)
        if not math.isfinite(score):
            why = f"no score after {steps:,} steps: no episode ended, or each score was not finite"
            return cls(steps=steps, reason=why, weights=weights)
        if early or finished.reason in _DONE:
            course.end()
        return cls(score, steps, weights=weights)

    def __str__(self) -> str:
        if self.interrupted:
            return "interrupted"
        if self.pruned:
            return PRUNED
        return f"{self.score:.2f}" if math.isfinite(self.score) else f"failed ({self.reason})"
