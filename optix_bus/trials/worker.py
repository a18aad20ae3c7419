"""A worker of a search: claims a trial, runs its topology in this process, and tells the study.

python -m optix_bus.trials.worker RUN
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optix_bus.messages import WindowCollected, WindowJudged
from optix_bus.runtime import lifeline
from optix_bus.runtime.fold import Envelope
from optix_bus.runtime.inline import InlineRunner
from optix_bus.runtime.inline_run import run_inline
from optix_bus.runtime.progress import QuietView
from optix_bus.runtime.run_directory import RunDirectory
from optix_bus.runtime.supervisor import Outcome
from optix_bus.runtime.topology import load_topology
from optix_bus.trials.course import Course
from optix_bus.trials.study import TrialStudy
from optix_bus.trials.tune_plan import TunePlan
from optix_bus.trials.work import PRUNED, Work


def work(run: Path) -> None:
    """Run trials until the study has as many as the plan says."""
    plan = TunePlan.read(run)
    study = plan.study(run)
    while (claimed := study.claim(plan.trials)) is not None:
        params = study.space.suggest(claimed)
        print(f"trial {claimed.number}: {params}", flush=True)
        _Watched(run, plan, study, claimed).run(params)


class _Watched:
    """One trial, told to the study as it goes on."""

    def __init__(self, run: Path, plan: TunePlan, study: TrialStudy, claimed: Any) -> None:
        self._run, self._plan, self._study, self._claimed = run, plan, study, claimed
        self._course = Course(claimed, study.budget)
        self._runner: InlineRunner | None = None
        self._pruned = False
        self._steps = 0

    def run(self, params: Mapping[str, Any]) -> None:
        """From the topology to the mark in the study."""
        began, number = time.monotonic(), self._claimed.number
        folder = self._run / "trials" / f"{number:04d}"
        try:
            topology = load_topology(
                self._run / "topology.yaml", self._plan.overrides(number, params), build_environment=False
            )
            directory = RunDirectory.create(folder)
            outcome = run_inline(topology, directory, QuietView(), self._listen, self._begin)
        except Exception as error:  # the user's agents and environments; the search goes on
            outcome = Outcome(3, f"{type(error).__name__}: {error}", None)
        weights = str(folder / "checkpoints")
        if outcome.finished is None:
            work = Work(steps=self._steps, reason=outcome.reason, weights=weights)
        else:
            work = Work.of(outcome.finished, self._course, pruned=self._pruned, weights=weights)
        self._study.mark(self._claimed, work, time.monotonic() - began)

    def _begin(self, runner: InlineRunner) -> None:
        self._runner = runner

    def _listen(self, envelope: Envelope) -> None:
        event = envelope.event
        if isinstance(event, WindowCollected) and event.purpose == "train":
            self._steps = event.total_steps
        elif isinstance(event, WindowJudged) and not self._pruned and self._runner is not None:
            self._pruned = self._course.see(event.score, event.steps)
            if self._pruned:
                self._runner.stop(PRUNED)


if __name__ == "__main__":
    lifeline.watch()
    work(Path(sys.argv[1]))
