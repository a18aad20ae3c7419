"""`RLOptimizer`: the whole loop over your own agent and environment, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optix_bus.errors import ConfigurationError
from optix_bus.interfaces import BaseAgent, BaseEvaluator, BaseOptimizer, BasePipeline, LoopCallback
from optix_bus.loop.scheduler import BackoffScheduler
from optix_bus.loop.settings import LoopSettings
from optix_bus.messages import RunFinished
from optix_bus.runtime.controller import LoopController
from optix_bus.runtime.loop_options import check_options, make_controller
from optix_bus.types import LoopState, PolicySnapshot

if TYPE_CHECKING:
    from optix_bus.trials.rehearsal import Rehearsal


class RLOptimizer:
    """Trains an agent until it has stopped improving, and leaves it with its best weights.

        opt = RLOptimizer(agent=agent, pipeline=pipeline, val_pipeline=val_pipeline)
        opt.run()
        opt.best_snapshot

    Args:
        agent: anything with the six methods of `BaseAgent`.
        pipeline: where training experience comes from; an agent it was built without is set.
        val_pipeline: separate environment that is acted in and never learnt from; with it, every decision
            uses its scores alone.
        evaluator: turns windows into scores; by default the mean return of complete episodes.
        optimizer: tunes hyperparameters; by default SPSA over the agent's ``default_param_bounds``, and
            nothing for an agent without any. False for no tuning.
        callbacks: `LoopCallback` objects.
        checkpoint_dir: where snapshots go; by default a new folder under ``./optix_bus_checkpoints``. A
            folder with another run's snapshots is refused.
        max_snapshots: how many of the best are kept.
        checkpoint_score_fn: ``fn(agent) -> float``; chooses snapshots instead of the loop's own signal.
        val_episodes: complete episodes in one evaluation.
        verbose: print a line for each evaluation.
        verbose_log_file: write those lines and the report here as well.
        seed: of every random stream that the loop hands out.
        settings: any field of `optix_bus.loop.settings.LoopSettings`.

    With factories instead of ``agent`` and ``pipeline`` the settings are searched first, in short trials of
    their own, and the run goes on from the weights of the best one (see `TrialOrchestrator`):

        opt = RLOptimizer(agent_factory=make_agent, pipeline_factory=make_pipeline, n_trials=20,
                          param_space={"learning_rate": ("log_float", 1e-4, 3e-3)}, max_steps=1_000_000)
        opt.run()
        opt.agent, opt.search.best_params

    Callbacks that are added while a factory makes an agent hear the run of that agent, trial or main run.

    Args of the search:
        agent_factory: params to a new agent.
        pipeline_factory, val_pipeline_factory: make the pipelines of a trial, and of the main run.
        param_space: what is searched; by default the bounds that the agent brings.
        n_trials: how many trials.
        trial_steps, trial_episodes: budget of one trial; 50,000 steps by default.
        trial_steps_fraction: instead, the share of ``max_steps``, or of ``max_episodes``, for one trial.
        trial_agent_factory: for the trials alone.
        storage, study_name: where the study lies, as for `TrialOrchestrator`.
    """

    def __init__(
        self,
        agent: BaseAgent | None = None,
        pipeline: BasePipeline | None = None,
        *,
        val_pipeline: BasePipeline | None = None,
        evaluator: BaseEvaluator | None = None,
        optimizer: BaseOptimizer | bool | None = None,
        callbacks: Sequence[LoopCallback] | None = None,
        checkpoint_dir: str | Path | None = None,
        max_snapshots: int = 10,
        checkpoint_score_fn: Callable[[Any], float] | None = None,
        val_episodes: int = 20,
        verbose: bool = False,
        verbose_log_file: str | None = None,
        seed: int = 0,
        agent_factory: Callable[[dict[str, Any]], BaseAgent] | None = None,
        pipeline_factory: Callable[[], BasePipeline] | None = None,
        param_space: Mapping[str, Any] | None = None,
        n_trials: int = 20,
        trial_steps: int | None = None,
        trial_episodes: int | None = None,
        trial_steps_fraction: float | None = None,
        val_pipeline_factory: Callable[[], BasePipeline] | None = None,
        trial_agent_factory: Callable[[dict[str, Any]], BaseAgent] | None = None,
        storage: Any = None,
        study_name: str | None = None,
        **settings: Any,
    ) -> None:
        check_options(settings)
        LoopSettings(**settings)
        self._callbacks: list[LoopCallback] = list(callbacks or ())
        self._loop: dict[str, Any] = {
            "evaluator": evaluator,
            "optimizer": optimizer,
            "checkpoint_dir": checkpoint_dir,
            "max_snapshots": max_snapshots,
            "checkpoint_score_fn": checkpoint_score_fn,
            "val_episodes": val_episodes,
            "verbose": verbose,
            "verbose_log_file": verbose_log_file,
            "seed": seed,
            "settings": settings,
        }
        self._rehearsal: Rehearsal | None = None
        self._controller: LoopController | None = None
        searching: dict[str, Any] = {
            "agent_factory": agent_factory,
            "pipeline_factory": pipeline_factory,
            "val_pipeline_factory": val_pipeline_factory,
            "trial_agent_factory": trial_agent_factory,
            "param_space": param_space,
            "trial_steps": trial_steps,
            "trial_episodes": trial_episodes,
            "trial_steps_fraction": trial_steps_fraction,
            "storage": storage,
            "study_name": study_name,
        }
        given = sorted(name for name, value in searching.items() if value is not None)
        if agent_factory is not None and pipeline_factory is not None:
            have = {"agent": agent, "pipeline": pipeline, "val_pipeline": val_pipeline}
            if both := [name for name, value in have.items() if value is not None]:
                raise ConfigurationError(
                    f"found {', '.join(both)} beside agent_factory and pipeline_factory: with a search the "
                    "factories make them"
                )
            # A run without a search is nobody's child and looks after no processes.
            from optix_bus.trials.rehearsal import Rehearsal

            self._rehearsal = Rehearsal(self._loop, n_trials=n_trials, **searching)
        elif given:
            raise ConfigurationError(
                f"found {', '.join(given)}, which belong to a search: it needs both agent_factory and "
                "pipeline_factory, and a run without a search has agent and pipeline"
            )
        elif agent is None or pipeline is None:
            raise ConfigurationError(
                "RLOptimizer needs agent and pipeline, or agent_factory and pipeline_factory for a search"
            )
        else:
            self._begin(agent, pipeline, val_pipeline)

    def run(self) -> RunFinished:
        """Train; returns how it ended. The agent then holds the best known weights.

        With a search the trials come first. After an interrupt (Ctrl-C) or `stop` during the search there is
        no main run: the agent holds the weights of the best trial so far.
        """
        if self._rehearsal is not None:
            self._controller = None
            with self._rehearsal.performance() as (agent, pipeline, val_pipeline):
                controller = self._begin(agent, pipeline, val_pipeline)
                if self._rehearsal.interrupted:
                    return self._rehearsal.without_main_run()
                return controller.run()
        assert self._controller is not None
        return self._controller.run()

    def stop(self) -> None:
        """End the loop now; from a callback, a signal handler or another thread.

        During a search this ends the search as well, unless it is called by a callback of a trial: then that
        trial alone.
        """
        if self._controller is not None:
            self._controller.stop()
        elif self._rehearsal is not None:
            self._rehearsal.stop()

    def add_callback(self, callback: LoopCallback) -> None:
        """One more callback; also while the loop runs, and while a factory makes an agent for it."""
        if self._rehearsal is not None and self._rehearsal.under_way:
            self._rehearsal.add_callback(callback)
        else:
            self._callbacks.append(callback)

    @property
    def agent(self) -> BaseAgent:
        """Who is trained; after a search the one that the factory made for the main run."""
        return self._begun.agent

    @property
    def search(self) -> Any:
        """The `TrialOrchestrator` of the search.

        Raises:
            ConfigurationError: there is none.
        """
        if self._rehearsal is None:
            raise ConfigurationError("this RLOptimizer searches nothing: it was built without agent_factory")
        return self._rehearsal.search

    @property
    def best_snapshot(self) -> PolicySnapshot | None:
        """The best policy on disk with the score that it earned; None before there is one."""
        return None if self._controller is None else self._controller.best_snapshot

    @property
    def state(self) -> LoopState:
        """ACTIVE, COOLING, DORMANT or WATCHDOG."""
        return LoopState.ACTIVE if self._controller is None else self._controller.state

    @property
    def scheduler(self) -> BackoffScheduler:
        """The loop's scheduler."""
        return self._begun.scheduler

    @property
    def _scheduler(self) -> BackoffScheduler:
        return self._begun.scheduler

    @property
    def _begun(self) -> LoopController:
        if self._controller is None:
            raise ConfigurationError("the main run has not begun: call run(), which searches first")
        return self._controller

    def _begin(
        self, agent: BaseAgent, pipeline: BasePipeline, val_pipeline: BasePipeline | None
    ) -> LoopController:
        made = make_controller(agent, pipeline, val_pipeline=val_pipeline, **self._loop)
        made.callbacks = self._callbacks  # the same list: a callback may be added while it runs
        self._controller = made
        return made
