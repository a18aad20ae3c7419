"""One trial: a loop of its own, with its own agent, environments, folder and seed, and closed afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from optix_bus.interfaces import BaseAgent, BasePipeline, LoopCallback
from optix_bus.messages import Event, WindowCollected, WindowJudged
from optix_bus.runtime.controller import LoopController
from optix_bus.runtime.loop_options import make_controller, split_options
from optix_bus.trials.course import Budget, Course
from optix_bus.trials.work import PRUNED, Work

_FINISHED = "finished early"


class Trial:
    """Runs one trial.

    Args:
        claimed: Optuna's trial.
        budget: of the trial.
        folder: for its checkpoints.
        seed: of its loop.
        options: further arguments of the loop.
    """

    def __init__(
        self, claimed: Any, budget: Budget, folder: Path, seed: int, options: Mapping[str, Any]
    ) -> None:
        self._course = Course(claimed, budget)
        self._budget = budget
        self._folder = folder
        self._seed = seed
        self._options = dict(options)
        self._controller: LoopController | None = None
        self._asked, self._passed_on = "", False
        self.callbacks: list[LoopCallback] = list(self._options.pop("callbacks", None) or ())
        self.steps = 0

    def run(
        self,
        params: dict[str, Any],
        agent_factory: Callable[[dict[str, Any]], BaseAgent],
        pipeline_factory: Callable[[], BasePipeline],
        val_pipeline_factory: Callable[[], BasePipeline] | None,
    ) -> Work:
        """Make everything, train until the budget is used or the trial is given up, and close everything.

        Raises:
            Exception: whatever the factories, the agent or an environment raised.
        """
        made: list[Any] = []
        try:
            agent = agent_factory(dict(params))
            made.append(agent)
            pipeline = pipeline_factory()
            made.append(pipeline)
            val_pipeline = val_pipeline_factory() if val_pipeline_factory is not None else None
            if val_pipeline is not None:
                made.append(val_pipeline)
            self._controller = self._loop(agent, pipeline, val_pipeline)
            # A callback that is added from now on is heard as well: the loop has the same list.
            self._controller.callbacks = self.callbacks
            finished = self._controller.run()
            best = self._controller.best_snapshot
        finally:
            self._controller = None
            _close(made)
        return Work.of(
            finished,
            self._course,
            pruned=self._asked == PRUNED,
            early=self._asked == _FINISHED,
            weights="" if best is None else best.weights_path,
        )

    def stop(self, reason: str) -> None:
        """End the loop after the event in hand."""
        self._asked = self._asked or reason
        if self._controller is not None:
            self._controller.stop(self._asked)

    def finish(self) -> None:
        """End the trial with the score that it has."""
        self.stop(_FINISHED)

    def _loop(
        self, agent: BaseAgent, pipeline: BasePipeline, val_pipeline: BasePipeline | None
    ) -> LoopController:
        named, settings = split_options(self._options)
        return make_controller(
            agent,
            pipeline,
            val_pipeline=val_pipeline,
            checkpoint_dir=self._folder,
            seed=self._seed,
            settings={**settings, **self._budget.setting, "keep_watching": False},
            listener=self._listen,
            quiet=True,
            **{"optimizer": False, "max_snapshots": 1, **named},
        )

    def _listen(self, event: Event) -> None:
        if self._asked and not self._passed_on and self._controller is not None:
            self._passed_on = True  # also what was asked before there was a loop to ask
            self._controller.stop(self._asked)
        if isinstance(event, WindowCollected) and event.purpose == "train":
            self.steps = event.total_steps
        elif isinstance(event, WindowJudged) and not self._asked:
            used = event.steps if self._budget.unit == "steps" else event.window + 1
            if self._course.see(event.score, used):
                self.stop(PRUNED)


def _close(made: list[Any]) -> None:
    """Close what the factories made, also the environments that a pipeline was given, in reverse order.

    The loop has closed most of it; where it never began, nobody has. An error here would hide the first one.
    """
    for each in reversed(made):
        with contextlib.suppress(Exception):
            each.teardown()
        given = getattr(each, "given_environment", None)
        if given is not None:
            with contextlib.suppress(Exception):
                given.close()
