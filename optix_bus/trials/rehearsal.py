"""Search and main run in one: what `RLOptimizer` does with factories instead of an agent."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optix_bus.errors import ConfigurationError
from optix_bus.interfaces import BaseAgent, BasePipeline, LoopCallback
from optix_bus.messages import RunFinished
from optix_bus.trials.orchestrator import TrialOrchestrator

#: Settings of the main run that no trial has: they say when the main run ends.
_OF_THE_MAIN_RUN = ("max_steps", "max_episodes", "keep_watching", "watch_seconds")

Made = tuple[BaseAgent, BasePipeline, BasePipeline | None]


class Rehearsal:
    """The trials before a main run.

    Args:
        loop: arguments of the main run's loop; trials have the same but for folder, seed, callbacks, limits
            and the tuning of hyperparameters.
        n_trials: how many trials.
        trial_steps_fraction: budget of a trial as a share of the main run's.
        agent_factory, pipeline_factory, val_pipeline_factory: make what trials and main run need.
        trial_agent_factory: makes the agents of the trials, where those should be others.
        param_space, trial_steps, trial_episodes, storage, study_name: as for `TrialOrchestrator`.
    """

    def __init__(
        self,
        loop: Mapping[str, Any],
        *,
        n_trials: int,
        agent_factory: Callable[[dict[str, Any]], BaseAgent],
        pipeline_factory: Callable[[], BasePipeline],
        val_pipeline_factory: Callable[[], BasePipeline] | None,
        trial_agent_factory: Callable[[dict[str, Any]], BaseAgent] | None,
        param_space: Mapping[str, Any] | None,
        trial_steps: int | None,
        trial_episodes: int | None,
        trial_steps_fraction: float | None,
        storage: Any,
        study_name: str | None,
    ) -> None:
        settings = loop["settings"]
        if trial_steps_fraction is not None:
            if trial_steps is not None or trial_episodes is not None:
                raise ConfigurationError("a trial has one budget: pass trial_steps_fraction or the other")
            trial_steps, trial_episodes = _share(trial_steps_fraction, settings)
        options = {name: loop[name] for name in ("evaluator", "val_episodes", "verbose")}
        options |= {name: value for name, value in settings.items() if name not in _OF_THE_MAIN_RUN}
        folder = loop["checkpoint_dir"]
        self._factories = (agent_factory, pipeline_factory, val_pipeline_factory)
        #: The search itself.
        self.search = TrialOrchestrator(
            agent_factory if trial_agent_factory is None else trial_agent_factory,
            pipeline_factory,
            param_space,
            n_trials,
            trial_steps,
            trial_episodes=trial_episodes,
            rloptimizer_kwargs=options,
            val_pipeline_factory=val_pipeline_factory,
            checkpoint_score_fn=loop["checkpoint_score_fn"],
            study_name=study_name,
            storage=storage,
            checkpoint_dir=None if folder is None else Path(folder) / "trials",
            seed=loop["seed"],
        )
        self._searching = False
        self._calling = 0

    @property
    def under_way(self) -> bool:
        """Whether trials are run, so that callbacks and stops are theirs."""
        return self._searching

    @property
    def interrupted(self) -> bool:
        """Whether the search was ended before its time."""
        return self.search.interrupted

    def add_callback(self, callback: LoopCallback) -> None:
        """One more callback for the trial under way, and for no other."""
        self.search.add_callback(_OfTrial(callback, self._called))

    def stop(self) -> None:
        """End the search; from a callback of a trial, that trial."""
        if self._calling == threading.get_ident():
            self.search.stop_trial()
        else:
            self.search.stop()

    @contextmanager
    def performance(self) -> Iterator[Made]:
        """Search, and make agent and pipelines of the main run; what they were given is closed at the end.

        The agent starts with the weights of the best trial, where that one has kept any.
        """
        self._searching = True
        try:
            best = self.search.run()
        finally:
            self._searching = False
        agent_factory, pipeline_factory, val_pipeline_factory = self._factories
        agent = agent_factory(dict(best.params))
        if best.weights_path:
            agent.load_weights(best.weights_path)
        pipelines = [pipeline_factory()]
        if val_pipeline_factory is not None:
            pipelines.append(val_pipeline_factory())
        try:
            yield agent, pipelines[0], pipelines[1] if len(pipelines) > 1 else None
        finally:
            for pipeline in pipelines:
                given = getattr(pipeline, "given_environment", None)
                if given is not None:
                    with contextlib.suppress(Exception):  # it would hide how the run ended
                        given.close()

    def without_main_run(self) -> RunFinished:
        """How a search ends that was interrupted: with the best trial."""
        return RunFinished(
            reason="interrupted",
            windows=0,
            steps=0,
            evaluations=0,
            best_score=self.search.best_score,
            best_standard_error=math.nan,
            best_policy_version=-1,
            best_window=-1,
            train_score=math.nan,
            generalization_gap=math.nan,
            state="active",
            decided_by_loop=False,
            report=("the search was interrupted: there was no main run, the best trial is restored",),
        )

    @contextmanager
    def _called(self) -> Iterator[None]:
        self._calling = threading.get_ident()
        try:
            yield
        finally:
            self._calling = 0


class _OfTrial(LoopCallback):
    """A user's callback inside a trial, with a note of when it is called: a stop that comes from there is
    meant for the trial."""

    def __init__(self, callback: LoopCallback, called: Callable[[], Any]) -> None:
        self._callback, self._called = callback, called

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        hook, called = getattr(self._callback, name), self._called

        def call(*arguments: Any) -> None:
            with called():
                hook(*arguments)

        return call


def _share(fraction: float, settings: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Steps or windows of a trial."""
    if not 0.0 < fraction <= 1.0:
        raise ConfigurationError(f"found trial_steps_fraction={fraction}, expected above 0 and at most 1")
    if settings.get("max_steps") is not None:
        return max(1, math.ceil(fraction * settings["max_steps"])), None
    if settings.get("max_episodes") is not None:
        return None, max(1, math.ceil(fraction * settings["max_episodes"]))
    raise ConfigurationError(
        f"trial_steps_fraction={fraction} is a share of the main run, which has no limit: pass max_steps or "
        "max_episodes, or give a trial its own trial_steps"
    )
