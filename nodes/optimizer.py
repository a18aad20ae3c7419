"""Proposes hyperparameters after each evaluated window. The mind is a `BaseOptimizer`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optix_bus.interfaces import BaseOptimizer
from optix_bus.messages import (
    AgentDescribed,
    HyperparametersChanged,
    HyperparametersProposed,
    WindowJudged,
    WindowScored,
)
from optix_bus.optimizers import make_optimizer
from optix_bus.optimizers.settings import TuningSettings
from optix_bus.runtime.node import Context, Node, Site, handles
from optix_bus.types import EvalMetrics, HyperparamSet

#: Makes the optimizer once the agent's own bounds are known: (param_bounds, log_params, rng).
OptimizerFactory = Callable[[dict[str, tuple[float, float]], tuple[str, ...], Any], BaseOptimizer | None]


class OptimizerNode(Node):
    """One answer to each judged window, also where it leaves everything as it is.

    Every score reaches the optimizer with ``metrics["hyperparams_version"]``, the version that the scored
    policy was *learnt* with, so that credit goes to the change that caused it.
    """

    emits = (HyperparametersProposed,)
    settings = TuningSettings
    noted = (AgentDescribed, HyperparametersChanged, WindowScored)

    def __init__(self, factory: OptimizerFactory) -> None:
        self._factory = factory
        self._optimizer: BaseOptimizer | None = None
        self._current = HyperparamSet({})
        self._history: list[EvalMetrics] = []

    @classmethod
    def build(cls, settings: TuningSettings, site: Site) -> OptimizerNode:
        return cls(lambda bounds, log_params, rng: make_optimizer(settings, bounds, log_params, rng))

    @handles(AgentDescribed)
    def on_agent(self, event: AgentDescribed, ctx: Context) -> None:
        bounds = {key: (low, high) for key, (low, high) in event.param_bounds.items()}
        self._optimizer = self._factory(bounds, event.log_params, ctx.rng("probes"))

    @handles(HyperparametersChanged)
    def on_changed(self, event: HyperparametersChanged, ctx: Context) -> None:
        self._current = HyperparamSet(dict(event.params), max(event.window, 0), ctx.now)

    @handles(WindowScored)
    def on_scored(self, event: WindowScored, ctx: Context) -> None:
        if event.purpose != "score" or event.n == 0:
            return
        metrics = {**event.metrics, "hyperparams_version": float(event.learnt_with)}
        # Optimizers look at the recent past only; a run of weeks must not keep every score.
        self._history = [*self._history[-499:], EvalMetrics(event.score, metrics, event.window, ctx.now)]

    @handles(WindowJudged)
    def on_judged(self, event: WindowJudged, ctx: Context) -> None:
        proposed = self._current
        if self._optimizer is not None and self._history and event.verdict != "unscored":
            if event.verdict == "improved":
                self._optimizer.on_improvement(self._history[-1])
            elif event.verdict == "plateaued":
                self._optimizer.on_plateau(list(self._history))
            proposed = self._optimizer.suggest(self._current.copy(), list(self._history))
        ctx.emit(
            HyperparametersProposed(
                window=event.window,
                params=proposed.params,
                changed=proposed.params != self._current.params,
                probing=self._optimizer is not None and self._optimizer.is_probing,
                method=type(self._optimizer).__name__ if self._optimizer is not None else "none",
            )
        )
