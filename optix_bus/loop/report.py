"""What the loop can say about convergence at the end: what was decided, by what, and what stayed open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from optix_bus.stats import EquivalenceReport


@dataclass(frozen=True)
class ConvergenceReport:
    """The convergence decision of a run.

    Attributes:
        converged: whether the loop decided that training is done.
        evaluations: scores that carried evidence.
        method: ``equivalence`` or ``classical``.
        test: the last look; None without any evaluation.
        blocked_by: what forbade DORMANT at the last evaluation; empty where nothing did.
        watched: evaluations of the watchdog.
        woken: how often it found that the world had changed.
    """

    converged: bool
    evaluations: int
    method: str
    test: EquivalenceReport | None
    blocked_by: tuple[str, ...]
    watched: int = 0
    woken: int = 0

    def lines(self) -> list[str]:
        """The report as text, for people."""
        head = "converged" if self.converged else "not converged"
        test = self.test
        if test is None:
            return [f"convergence: {head}; no evaluation held evidence", *self._watch_lines()]
        lines = [f"convergence: {head} after {self.evaluations} evaluations ({self.method} test)"]
        if math.isfinite(test.bound):
            lines.append(
                f"  slope x window {test.rise:+.4g} over {test.window} evaluations, upper 95 % "
                f"bound {test.bound:.4g}, margin {test.margin:.4g}; "
                f"{test.looks} looks running passed, {test.looks_needed} needed"
            )
            lines.append(
                f"  noise of one evaluation {test.noise:.4g}, autocorrelation {test.r:.2f} "
                f"(worth {test.n_eff:.1f} independent evaluations)"
            )
            lines.append(f"  not excluded: a further rise of up to {test.not_excluded:.4g} per window")
        else:
            lines.append(f"  the test needs {test.window} evaluations; no rise could be excluded")
        if test.margin > test.asked_margin:
            lines.append(
                f"  a rise of {test.asked_margin:.4g} would have mattered, but would have taken more than "
                f"{test.window} evaluations to exclude: more episodes in each evaluation sharpen the test"
            )
        lines += [f"  held back: {reason}" for reason in self.blocked_by]
        return [*lines, *self._watch_lines()]

    def _watch_lines(self) -> list[str]:
        if not self.watched:
            return []
        times = {0: "found no change", 1: "found that the world had changed"}
        found = times.get(self.woken, f"found {self.woken} times that the world had changed")
        return [f"watchdog: evaluated {self.watched} times without training, and {found}"]


#: The latest changes of the optimizer are named one by one, earlier ones are counted.
_NAMED = 5


def tuning_lines(switches: Sequence[tuple[int, str, str, str]]) -> list[str]:
    """Which tuner an optimizer that chooses among others chose, from when on, and why.

    Args:
        switches: window, old, new and reason of each change, oldest first.
    """
    if not switches:
        return []
    named = switches[-_NAMED:]
    earlier = len(switches) - len(named)
    head = f"tuning: {named[0][1]} at first" if not earlier else f"tuning: {earlier} changes, then"
    return [head, *(f"  {new} from window {window + 1} on: {reason}" for window, _, new, reason in named)]
