"""The loop over a user's own objects, in this process: what stands behind `RLOptimizer`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optix_bus.checkpoints import CheckpointRegistry
from optix_bus.evolution.by_callback import CallbackEvolution, evolving
from optix_bus.interfaces import BaseAgent, BaseEvaluator, BaseOptimizer, BasePipeline, LoopCallback
from optix_bus.loop.machine import LoopMachine
from optix_bus.loop.scheduler import BackoffScheduler
from optix_bus.loop.settings import LoopSettings
from optix_bus.messages import Event, OptimizerSwitched, RunFinished, WindowJudged
from optix_bus.runtime.fold import Envelope
from optix_bus.runtime.inline import InlineRunner
from optix_bus.runtime.node import Node
from optix_bus.runtime.report import report_lines
from optix_bus.runtime.site import load
from optix_bus.types import LoopState, PolicySnapshot

OptimizerFactory = Callable[[dict[str, tuple[float, float]], tuple[str, ...], Any], BaseOptimizer | None]


class LoopController:
    """Wires pipelines, learner, evaluator, scheduler, optimizer, checkpoint and callbacks; runs them inline.

    The agent and the pipelines are the user's objects: nothing is copied or pickled, a breakpoint in any of
    them stops where it should.

    Args:
        agent: acts and learns.
        evaluator: turns windows into scores.
        optimizer: tunes hyperparameters; a factory of (bounds, log_params, rng) or None for no tuning.
        pipeline: where experience comes from.
        checkpoint_registry: where the best policies go.
        machine: the loop's mind.
        val_pipeline: acts, never learns; its scores drive every decision.
        val_episodes: complete episodes in one evaluation.
        checkpoint_score_fn: external scorer that chooses snapshots; convergence still uses the loop's signal.
        callbacks: called in order; more can be added while the loop runs.
        verbose: a line for each evaluation.
        verbose_log_file: write those lines here as well.
        seed: of all random streams that the loop hands out.
        listener: called with every event in order, before any node sees it.
        quiet: print no report at the end.
    """

    def __init__(
        self,
        agent: BaseAgent,
        evaluator: BaseEvaluator,
        optimizer: BaseOptimizer | OptimizerFactory | None,
        pipeline: BasePipeline,
        checkpoint_registry: CheckpointRegistry,
        machine: LoopMachine | None = None,
        *,
        val_pipeline: BasePipeline | None = None,
        val_episodes: int = 20,
        checkpoint_score_fn: Callable[[Any], float] | None = None,
        callbacks: Sequence[LoopCallback] | None = None,
        verbose: bool = False,
        verbose_log_file: str | None = None,
        seed: int = 0,
        listener: Callable[[Event], None] | None = None,
        quiet: bool = False,
    ) -> None:
        validation = val_pipeline is not None
        self.agent = agent
        self.registry = checkpoint_registry
        self.machine = machine if machine is not None else LoopMachine(LoopSettings(), validation=validation)
        self.callbacks: list[LoopCallback] = list(callbacks or ())
        self._seed = seed
        self._listener = listener
        self._verbose, self._quiet = verbose, quiet
        self._log_file = Path(verbose_log_file) if verbose_log_file is not None else None
        self._runner: InlineRunner | None = None
        self._build: Callable[[], dict[str, Node]] = lambda: self._nodes(
            pipeline, val_pipeline, val_episodes, evaluator, optimizer, checkpoint_score_fn
        )
        self.finished: RunFinished | None = None

    def _nodes(
        self,
        pipeline: BasePipeline,
        val_pipeline: BasePipeline | None,
        val_episodes: int,
        evaluator: BaseEvaluator,
        optimizer: BaseOptimizer | OptimizerFactory | None,
        score: Callable[[Any], float] | None,
    ) -> dict[str, Node]:
        validation = val_pipeline is not None
        evolvers = evolving(self.callbacks)
        pipeline_node = load("nodes.pipeline:PipelineNode")
        nodes: dict[str, Node] = {}
        if validation:
            nodes["validation"] = pipeline_node(
                val_pipeline, "validation", agent=self.agent, episodes=val_episodes
            )
        nodes["pipeline"] = pipeline_node(pipeline, "train", agent=self.agent)
        nodes["learner"] = load("nodes.learner:LearnerNode")(self.agent, score=score)
        nodes["evaluator"] = load("nodes.evaluator:EvaluatorNode")(evaluator, validation=validation)
        nodes["scheduler"] = load("nodes.scheduler:SchedulerNode")(
            self.machine,
            validation=validation,
            optimizer=optimizer is not None,
            evolution=bool(evolvers),
        )
        nodes["checkpoint"] = load("nodes.checkpoint:CheckpointNode")(self.registry)
        if optimizer is not None:
            factory = (lambda *_: optimizer) if isinstance(optimizer, BaseOptimizer) else optimizer
            nodes["optimizer"] = load("nodes.optimizer:OptimizerNode")(factory)
        nodes["callbacks"] = load("nodes.callbacks:CallbackNode")(
            self.callbacks, weights_root=str(self.registry.directory)
        )
        for callback in evolvers:
            callback.join_loop(self.registry)
        if evolvers:  # behind the callbacks: it asks what they have decided
            mind = CallbackEvolution(self.callbacks)
            nodes["policy_manager"] = load("nodes.policy_manager:PolicyManagerNode")(mind)
        return nodes

    def run(self) -> RunFinished:
        """Run until the loop has decided that training is done, a limit is reached or `stop` is called.

        When this returns, for whatever reason, the agent holds the best known weights. After an error in the
        agent or an environment it holds them as well, and the error is raised.
        """
        self._runner = InlineRunner(self._build(), seed=self._seed, listener=self._listen)
        try:
            self.finished = self._runner.run()
        except BaseException:
            if self.registry.best is not None:
                self.registry.load_best(self.agent)
            raise
        finally:
            self._runner = None
        self._say("\n".join(report_lines(self.finished)), always=not self._quiet)
        return self.finished

    def stop(self, reason: str = "stop requested") -> None:
        """End the loop after the event in hand; no further window is collected. Callable from callbacks,
        signal handlers and other threads; without a running loop it does nothing."""
        if self._runner is not None:
            self._runner.stop(reason)

    @property
    def state(self) -> LoopState:
        """ACTIVE, COOLING, DORMANT or WATCHDOG."""
        return self.machine.state

    @property
    def scheduler(self) -> BackoffScheduler:
        """The scheduler's counters and thresholds."""
        return self.machine.scheduler

    @property
    def best_snapshot(self) -> PolicySnapshot | None:
        """The best policy on disk, with the score that it earned."""
        return self.registry.best

    def _listen(self, envelope: Envelope) -> None:
        event = envelope.event
        if self._listener is not None:
            self._listener(event)
        if isinstance(event, WindowJudged):
            self._say(
                f"[loop] ep={event.window:4d}  raw={event.score:9.2f}  smoothed={event.smoothed:9.2f}  "
                f"state={event.state.upper()}  interval={event.interval}"
                + ("  improved" if event.verdict == "improved" else "")
            )
        elif isinstance(event, OptimizerSwitched):
            self._say(f"[loop] ep={event.window:4d}  tuning {event.old} -> {event.new}: {event.reason}")

    def _say(self, line: str, always: bool = False) -> None:
        if self._verbose or always:
            print(line, flush=True)
        if self._log_file is not None and (self._verbose or always):
            with self._log_file.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
