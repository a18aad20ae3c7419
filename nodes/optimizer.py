"""Proposes hyperparameters after each evaluated window. The mind is a `BaseOptimizer`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from optix_bus.interfaces import BaseOptimizer, Stateful
from optix_bus.messages import (
    AgentDescribed,
    HyperparametersChanged,
    HyperparametersProposed,
    OptimizerSwitched,
    WindowJudged,
    WindowScored,
)
from optix_bus.messages.plain import as_plain, from_plain
from optix_bus.nesting import join, memory_of, remind, split
from optix_bus.optimizers import make_optimizer
from optix_bus.optimizers.history import ScoreHistory, unpack_history
from optix_bus.optimizers.probing import ACTING, VERSION
from optix_bus.optimizers.routing import Switch
from optix_bus.optimizers.settings import TuningSettings
from optix_bus.runtime.node import Context, Node, Site, handles
from optix_bus.types import EvalMetrics, HyperparamSet, NamedArrays

_MEMORY, _HISTORY = "optimizer", "history"

#: Makes the optimizer once the agent's own bounds are known: (param_bounds, log_params, rng).
OptimizerFactory = Callable[[dict[str, tuple[float, float]], tuple[str, ...], Any], BaseOptimizer | None]


class OptimizerNode(Node):
    """One answer to each judged window of training, also where it leaves everything as it is.

    Every score reaches the optimizer with ``metrics["hyperparams_version"]``, the version that the scored
    policy was *learnt* with, so that credit goes to the change that caused it.
    """

    emits = (HyperparametersProposed, OptimizerSwitched)
    settings = TuningSettings
    noted = (AgentDescribed, HyperparametersChanged, WindowScored)

    def __init__(self, factory: OptimizerFactory) -> None:
        self._factory = factory
        self._described: AgentDescribed | None = None
        self._optimizer: BaseOptimizer | None = None
        self._made = False
        self._kind = ""
        # After a restart: what the optimizer will go on from once there is an event to make it in.
        self._memory: NamedArrays | None = None
        self._reseed = False
        self._current = HyperparamSet({})
        self._history = ScoreHistory()

    @classmethod
    def build(cls, settings: TuningSettings, site: Site) -> OptimizerNode:
        return cls(lambda bounds, log_params, rng: make_optimizer(settings, bounds, log_params, rng))

    @property
    def repeats(self) -> bool:
        """An optimizer without a state forgets."""
        return not self._kind or self._memory is not None or isinstance(self._optimizer, Stateful)

    def state(self) -> NamedArrays:
        memory = self._memory if self._memory is not None else memory_of(self._optimizer)
        facts = {
            "agent": None if self._described is None else as_plain(self._described),
            "kind": self._kind,
            "reseed": self._reseed,
            "params": self._current.params,
            "params_window": self._current.episode_id,
        }
        parts = {_HISTORY: self._history.pack()}
        if memory is not None:
            parts[_MEMORY] = memory
        return join(parts, facts)

    def load_state(self, state: NamedArrays) -> Sequence[str]:
        parts, facts = split(state)
        self._described = None if facts["agent"] is None else from_plain(AgentDescribed, facts["agent"])
        self._optimizer, self._made = None, False
        self._kind, self._memory = facts["kind"], parts.get(_MEMORY)
        self._reseed = bool(facts["reseed"])
        self._current = HyperparamSet(facts["params"], facts["params_window"], 0.0)
        self._history = ScoreHistory(unpack_history(parts[_HISTORY]))
        if self._kind and self._memory is None:
            return (f"{self._kind} has no state() and load_state(): its memory starts anew",)
        return ()

    def branch(self, number: int) -> None:
        self._reseed = True

    @handles(AgentDescribed)
    def on_agent(self, event: AgentDescribed, ctx: Context) -> None:
        self._described = event
        self._make(event, ctx)

    @handles(HyperparametersChanged)
    def on_changed(self, event: HyperparametersChanged, ctx: Context) -> None:
        self._current = HyperparamSet(dict(event.params), max(event.window, 0), ctx.now)

    @handles(WindowScored)
    def on_scored(self, event: WindowScored, ctx: Context) -> None:
        if event.purpose != "score" or event.n == 0:
            return
        metrics = {
            **event.metrics,
            VERSION: float(event.learnt_with),
            ACTING: float(event.hyperparams_version),
        }
        self._history.append(EvalMetrics(event.score, metrics, event.window, ctx.now))

    @handles(WindowJudged)
    def on_judged(self, event: WindowJudged, ctx: Context) -> None:
        if not event.learnt:
            return
        proposed = self._current
        if not self._made and self._described is not None:
            self._make(self._described, ctx)
        if self._optimizer is not None and self._history and event.verdict != "unscored":
            history = self._history.all()
            if event.verdict == "improved":
                self._optimizer.on_improvement(history[-1])
            elif event.verdict == "plateaued":
                self._optimizer.on_plateau(history)
            proposed = self._optimizer.suggest(self._current.copy(), list(history))
            self._tell(event.window, ctx)
        ctx.emit(
            HyperparametersProposed(
                window=event.window,
                params=proposed.params,
                changed=proposed.params != self._current.params,
                probing=self._optimizer is not None and self._optimizer.is_probing,
                method=self._kind or "none",
            )
        )

    def _tell(self, window: int, ctx: Context) -> None:
        """An optimizer that chooses among others says why it has chosen another one."""
        switch: Switch | None = getattr(self._optimizer, "switched", None)
        if switch is not None:
            ctx.emit(
                OptimizerSwitched(
                    window=window,
                    old=switch.old,
                    new=switch.new,
                    autocorrelation=switch.reading.autocorrelation,
                    gap=switch.reading.gap,
                    rank=switch.reading.rank,
                    reason=switch.reading.reason,
                )
            )

    def _make(self, agent: AgentDescribed, ctx: Context) -> None:
        """The optimizer, with the same random stream whenever it is made."""
        bounds = {key: (low, high) for key, (low, high) in agent.param_bounds.items()}
        self._optimizer, self._made = self._factory(bounds, agent.log_params, ctx.rng("probes")), True
        tuner: Any = self._optimizer
        if hasattr(tuner, "use_bounds"):
            tuner.use_bounds(bounds, agent.log_params)
        before, self._kind = self._kind, "" if self._optimizer is None else type(self._optimizer).__name__
        memory, self._memory = self._memory, None
        same = before == self._kind and remind(self._optimizer, memory)
        if memory is not None and not same:
            ctx.log.warning(
                "another optimizer than before: its memory starts anew", was=before, now=self._kind
            )
        if self._reseed and hasattr(tuner, "reseed"):
            tuner.reseed(ctx.rng("probes"))
        self._reseed = False
