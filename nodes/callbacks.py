"""Calls the user's `LoopCallback` objects: on the bus a callback is one more subscriber."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optix_bus.errors import ConfigurationError
from optix_bus.interfaces import LoopCallback
from optix_bus.messages import (
    CollectWindow,
    Degraded,
    Dormant,
    HyperparametersChanged,
    Plateaued,
    PolicyUpdated,
    RunFinished,
    RunStarted,
    SnapshotSaved,
    WindowJudged,
    WindowScored,
)
from optix_bus.nesting import by_number, join, memory_of, remind, split
from optix_bus.runtime.node import Context, Node, Site, handles
from optix_bus.settings import setting
from optix_bus.types import EvalMetrics, HyperparamSet, LoopState, NamedArrays, PolicySnapshot


@dataclass(frozen=True)
class CallbackSettings:
    """Which callback a topology wants, by class."""

    callback: str = setting(description="class of the callback, as module:Class")
    arguments: dict[str, Any] = setting(description="keyword arguments of the class", factory=dict)


class CallbackNode(Node):
    """A callback that raises is logged and counted, and never hurts the loop."""

    settings = CallbackSettings
    optional = (Degraded, Dormant, HyperparametersChanged, Plateaued, SnapshotSaved)

    def __init__(self, callbacks: Sequence[LoopCallback], *, weights_root: str = "") -> None:
        self.callbacks = callbacks
        self._weights_root = weights_root
        self.failures = 0
        self._evaluated: set[int] = set()
        self._metrics: dict[int, EvalMetrics] = {}
        self._params: dict[str, Any] = {}

    @classmethod
    def build(cls, settings: CallbackSettings, site: Site) -> CallbackNode:
        module, _, name = settings.callback.partition(":")
        try:
            made = getattr(importlib.import_module(module), name)(**settings.arguments)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"callback {settings.callback!r} of node {site.name!r} cannot be made: {error}"
            ) from error
        return cls([made], weights_root=site.checkpoint_directory)

    def state(self) -> NamedArrays:
        memories, kinds = {}, []
        for number, callback in enumerate(self.callbacks):
            trouble = ""
            try:
                memory = memory_of(callback)
            except Exception as error:  # the user's code; the loop must go on
                memory, trouble = None, f"{type(error).__name__}: {error}"
            if memory is not None:
                memories[str(number)] = memory
            kinds.append([type(callback).__name__, trouble])
        facts = {
            "callbacks": kinds,
            "failures": self.failures,
            "evaluated": sorted(self._evaluated),
            "metrics": {window: [m.primary_score, m.metrics] for window, m in self._metrics.items()},
            "params": self._params,
        }
        return join(memories, facts)

    def load_state(self, state: NamedArrays) -> Sequence[str]:
        memories, facts = split(state)
        self.failures = int(facts["failures"])
        self._evaluated = set(facts["evaluated"])
        self._metrics = {
            window: EvalMetrics(score, metrics, window, 0.0)
            for window, (score, metrics) in by_number(facts["metrics"]).items()
        }
        self._params = facts["params"]
        remarks = []
        for number, (kind, trouble) in enumerate(facts["callbacks"]):
            memory = memories.get(str(number))
            if memory is not None:
                trouble = self._remember(number, kind, memory)
            if trouble:
                remarks.append(f"callback {kind} starts anew: {trouble}")
        return remarks

    def _remember(self, number: int, kind: str, memory: NamedArrays) -> str:
        """Give a callback its memory back; what stood against it."""
        callback = self.callbacks[number] if number < len(self.callbacks) else None
        if type(callback).__name__ != kind:
            return "another one is in its place"
        try:
            return "" if remind(callback, memory) else "it has no load_state()"
        except Exception as error:  # the user's code; the loop must go on
            return f"{type(error).__name__}: {error}"

    def _call(self, ctx: Context, hook: str, *arguments: Any) -> None:
        for callback in list(self.callbacks):
            try:
                getattr(callback, hook)(*arguments)
            except Exception as error:  # the user's code; the loop must go on
                self.failures += 1
                ctx.log.warning(
                    "callback failed",
                    callback=type(callback).__name__,
                    hook=hook,
                    error=f"{type(error).__name__}: {error}",
                )

    @handles(RunStarted)
    def on_start(self, event: RunStarted, ctx: Context) -> None:
        self._call(ctx, "on_loop_start")

    @handles(RunFinished)
    def on_finish(self, event: RunFinished, ctx: Context) -> None:
        self._call(ctx, "on_loop_stop")

    @handles(CollectWindow)
    def on_collect(self, event: CollectWindow, ctx: Context) -> None:
        if event.evaluate:
            self._evaluated.add(event.window)

    @handles(PolicyUpdated)
    def on_policy(self, event: PolicyUpdated, ctx: Context) -> None:
        if event.origin == "learned" and event.window not in self._evaluated:
            self._call(ctx, "on_episode_end", event.window, None)

    @handles(WindowScored)
    def on_scored(self, event: WindowScored, ctx: Context) -> None:
        if event.purpose != "confirm":
            self._metrics[event.window] = EvalMetrics(event.score, dict(event.metrics), event.window, ctx.now)

    @handles(WindowJudged)
    def on_judged(self, event: WindowJudged, ctx: Context) -> None:
        self._evaluated.discard(event.window)
        self._call(ctx, "on_episode_end", event.window, self._metrics.get(event.window))
        self._metrics = {window: m for window, m in self._metrics.items() if window >= event.window}

    @handles(SnapshotSaved)
    def on_saved(self, event: SnapshotSaved, ctx: Context) -> None:
        snapshot = PolicySnapshot(
            snapshot_id=event.snapshot_id,
            eval_metrics=EvalMetrics(event.score, dict(event.metrics), event.window, ctx.now),
            hyperparams=HyperparamSet(dict(event.params), event.window, ctx.now),
            weights_path=str(Path(self._weights_root) / event.path),
            episode_id=event.window,
            timestamp=ctx.now,
            policy_version=event.policy_version,
        )
        self._call(ctx, "on_improvement", snapshot)

    @handles(Plateaued)
    def on_plateau(self, event: Plateaued, ctx: Context) -> None:
        self._call(ctx, "on_plateau", event.window, LoopState(event.state))

    @handles(Dormant)
    def on_dormant(self, event: Dormant, ctx: Context) -> None:
        self._call(ctx, "on_dormant", event.window)

    @handles(Degraded)
    def on_degraded(self, event: Degraded, ctx: Context) -> None:
        metrics = self._metrics.get(event.window, EvalMetrics(event.score, {}, event.window, ctx.now))
        self._call(ctx, "on_degradation", event.window, metrics)

    @handles(HyperparametersChanged)
    def on_hyperparameters(self, event: HyperparametersChanged, ctx: Context) -> None:
        old, self._params = self._params, dict(event.params)
        if event.changed and event.version > 0:
            self._call(ctx, "on_hyperparam_update", old, dict(event.params))
