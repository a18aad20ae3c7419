"""Who looks after the workers of a search: starts them, marks the trials of the dead, keeps the result."""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from optix_bus.errors import NodeFailure
from optix_bus.runtime.children import SpawnedChild, explain_exit
from optix_bus.trials.best import BestTrial
from optix_bus.trials.study import Row
from optix_bus.trials.tune_plan import TunePlan

_LOOK_SECONDS = 0.25
_STOP_SECONDS = 5.0
#: Deaths running, without a trial that came to its end, after which more would be a waste.
_DEATHS = 3


class TuneView(Protocol):
    """Draws a search."""

    def rows(self, rows: list[Row], plan: TunePlan) -> None:
        """A few times a second: every trial so far."""
        ...

    def say(self, text: str) -> None:
        """Something happened beside the trials."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...


class TuneCrew:
    """Runs the workers of a search to its end.

    Args:
        run: folder of the search, with its plan.
        plan: read from there.
        view: draws.
    """

    def __init__(self, run: Path, plan: TunePlan, view: TuneView) -> None:
        self._run, self._plan, self._view = run, plan, view
        self._study = plan.study(run)
        self._workers: dict[int, SpawnedChild] = {}
        self._deaths = self._ended = 0

    def see_through(self) -> BestTrial | None:
        """Until the study has all its trials; returns the best. Workers die with this process.

        Raises:
            NodeFailure: workers die again and again, or no trial came to a score.
            KeyboardInterrupt: interrupted; the trials under way are marked, what is done is kept.
        """
        self._study.reap()
        try:
            for number in range(min(self._plan.workers, max(1, self._left()))):
                self._start(number)
            while self._workers:
                time.sleep(_LOOK_SECONDS)
                self._look()
        finally:
            self._end()
            self._view.rows(self._study.rows(), self._plan)
            best = self.keep()
        if best is None:
            raise NodeFailure(f"no trial came to a score{self._study.why()}")
        return best

    def rows(self) -> list[Row]:
        """Every trial so far."""
        return self._study.rows()

    def keep(self) -> BestTrial | None:
        """Write table and result; returns the best trial, None before there is one."""
        rows = [asdict(row) for row in self._study.rows()]
        for row in rows:
            row["score"] = row["score"] if math.isfinite(row["score"]) else None
        _write(self._run / "trials.json", json.dumps(rows, indent=2) + "\n")
        best = self._study.best()
        if best is not None:
            _write(self._run / "best.yaml", self._plan.result(self._run, best.params))
        return best

    def _left(self) -> int:
        return self._plan.trials - sum(not row.lost for row in self._study.rows())

    def _start(self, number: int) -> None:
        log = self._run / "logs" / f"worker-{number}.log"
        arguments = ["-m", "optix_bus.trials.worker", str(self._run)]
        self._workers[number] = SpawnedChild(f"worker-{number}", arguments, log)

    def _look(self) -> None:
        for number, worker in list(self._workers.items()):
            code = worker.exit_code
            if code is None:
                continue
            worker.wait(0.0)
            del self._workers[number]
            if code:
                self._died(number, worker, code)
        self._view.rows(self._study.rows(), self._plan)

    def _died(self, number: int, worker: SpawnedChild, code: int) -> None:
        """Mark its trial, and put another worker in its place unless that would die of the same."""
        lost = self._study.reap()
        ended = sum(row.state != "running" and not row.lost for row in self._study.rows())
        self._deaths = 1 if ended > self._ended else self._deaths + 1
        self._ended = ended
        what = f"; trial {', '.join(map(str, lost))} is lost" if lost else ""
        self._view.say(f"worker {number} {explain_exit(code)}{what}")
        if self._deaths >= _DEATHS:
            lines = "\n".join(f"  | {line}" for line in worker.last_lines())
            raise NodeFailure(
                f"workers died {self._deaths} times running without a trial that ended: worker {number} "
                f"{explain_exit(code)}; last lines of {worker.log}:\n{lines}"
            )
        self._start(number)

    def _end(self) -> None:
        """End what still works; what it was at is marked."""
        if not self._workers:
            return
        for worker in self._workers.values():
            worker.terminate()
        for worker in self._workers.values():
            if worker.wait(_STOP_SECONDS) is None:
                worker.kill()
                worker.wait(_STOP_SECONDS)
        self._workers.clear()
        with contextlib.suppress(Exception):  # it would hide why this ends; who resumes marks them
            self._study.reap("interrupted")


def _write(path: Path, text: str) -> None:
    """Beside, then renamed: nobody reads half of it."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def search_facts(run: Path, plan: TunePlan, rows: list[Row], best: BestTrial | None) -> dict[str, Any]:
    """The answer of ``tune --json``."""
    table = [asdict(row) | {"score": row.score if math.isfinite(row.score) else None} for row in rows]
    return {
        "run": str(run),
        "trials": table,
        "best": None if best is None else {"trial": best.number, "score": best.score, "params": best.params},
        "topology": None if best is None else str(run / "best.yaml"),
        "steps": sum(row.steps for row in rows),
        "steps_without_pruning": plan.steps * sum(row.state in ("complete", "pruned") for row in rows),
    }
