"""`RLOptimizer`: the whole loop over your own agent and environment, in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optix_bus.interfaces import BaseAgent, BaseEvaluator, BaseOptimizer, BasePipeline, LoopCallback
from optix_bus.loop.scheduler import BackoffScheduler
from optix_bus.messages import RunFinished
from optix_bus.runtime.loop_options import make_controller
from optix_bus.types import LoopState, PolicySnapshot


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
        self._controller = make_controller(
            agent,
            pipeline,
            val_pipeline=val_pipeline,
            evaluator=evaluator,
            optimizer=optimizer,
            callbacks=callbacks,
            checkpoint_dir=checkpoint_dir,
            max_snapshots=max_snapshots,
            checkpoint_score_fn=checkpoint_score_fn,
            val_episodes=val_episodes,
            verbose=verbose,
            verbose_log_file=verbose_log_file,
            seed=seed,
            settings=settings,
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
