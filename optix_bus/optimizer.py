"""`RLOptimizer`: the whole loop over your own agent and environment, in one call."""

from __future__ import annotations

import dataclasses
import difflib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optix_bus.checkpoints import CheckpointRegistry
from optix_bus.errors import ConfigurationError
from optix_bus.evaluators import ReturnEvaluator
from optix_bus.interfaces import BaseAgent, BaseEvaluator, BaseOptimizer, BasePipeline, LoopCallback
from optix_bus.loop.machine import LoopMachine
from optix_bus.loop.scheduler import BackoffScheduler
from optix_bus.loop.settings import LoopSettings
from optix_bus.messages import RunFinished
from optix_bus.optimizers import make_optimizer
from optix_bus.optimizers.settings import TuningSettings
from optix_bus.runtime.controller import LoopController
from optix_bus.types import LoopState, PolicySnapshot

#: Keyword arguments of others, or of topologies, that have no place here, and what to do instead.
_ELSEWHERE = {
    "convergence_patience": "set dormant_threshold, and convergence_margin for the change that matters",
    "cv_threshold": "the equivalence test takes the noise from the scores themselves; set convergence_margin",
    "gap_threshold": "convergence is decided on validation scores alone; the metrics hold generalization_gap",
    "trend_window": "set convergence_window",
    "lookahead": "one agent object cannot act and learn at the same time; a topology can (optix-bus up)",
    "cut_windows": "cuts are written into a run directory; a topology has one (optix-bus up)",
    "cut_bytes": "cuts are written into a run directory; a topology has one (optix-bus up)",
}


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
    """

    def __init__(
        self,
        agent: BaseAgent,
        pipeline: BasePipeline,
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
        **settings: Any,
    ) -> None:
        _check(settings)
        run_id = time.strftime("run-%Y%m%d-%H%M%S-") + f"{time.time_ns() % 10**6:06d}"
        folder = (
            Path(checkpoint_dir) if checkpoint_dir is not None else Path("optix_bus_checkpoints") / run_id
        )
        tuning: Any = optimizer
        if optimizer is None or optimizer is True:
            defaults = TuningSettings()

            def tuning(bounds: Any, log_params: Any, rng: Any) -> BaseOptimizer | None:
                return make_optimizer(defaults, bounds, log_params, rng)

        self._controller = LoopController(
            agent,
            evaluator if evaluator is not None else ReturnEvaluator(),
            tuning if tuning is not False else None,
            pipeline,
            CheckpointRegistry(folder, max_snapshots, run_id=run_id),
            LoopMachine(LoopSettings(**settings), validation=val_pipeline is not None),
            val_pipeline=val_pipeline,
            val_episodes=val_episodes,
            checkpoint_score_fn=checkpoint_score_fn,
            callbacks=callbacks,
            verbose=verbose,
            verbose_log_file=verbose_log_file,
            seed=seed,
        )

    def run(self) -> RunFinished:
        """Train; returns how it ended. The agent then holds the best known weights."""
        return self._controller.run()

    def stop(self) -> None:
        """End the loop now; from a callback, a signal handler or another thread."""
        self._controller.stop()

    def add_callback(self, callback: LoopCallback) -> None:
        """One more callback; also while the loop runs."""
        self._controller.callbacks.append(callback)

    @property
    def best_snapshot(self) -> PolicySnapshot | None:
        """The best policy on disk with the score that it earned."""
        return self._controller.best_snapshot

    @property
    def state(self) -> LoopState:
        """ACTIVE, COOLING, DORMANT or WATCHDOG."""
        return self._controller.state

    @property
    def scheduler(self) -> BackoffScheduler:
        """The loop's scheduler."""
        return self._controller.scheduler

    @property
    def _scheduler(self) -> BackoffScheduler:
        return self._controller.scheduler


def _check(settings: dict[str, Any]) -> None:
    known = [field.name for field in dataclasses.fields(LoopSettings)]
    for key in settings:
        if key in known:
            continue
        if key in _ELSEWHERE:
            raise ConfigurationError(f"RLOptimizer has no option {key!r}: {_ELSEWHERE[key]}")
        close = difflib.get_close_matches(key, known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; the options are {', '.join(sorted(known))}"
        raise ConfigurationError(f"RLOptimizer has no option {key!r}{hint}")
