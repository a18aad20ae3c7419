"""Nodes that do what no node may: something other than their events influences them."""

from __future__ import annotations

import random
import time
from typing import Any

from nodes.checkpoint import CheckpointNode
from nodes.evaluator import EvaluatorNode
from nodes.scheduler import SchedulerNode
from optix_bus.messages import CollectWindow, PolicyUpdated, WindowCollected, WindowScored
from optix_bus.runtime.node import Context, Node, NoSettings, handles

#: Set by tests.
RAISES_AT_WINDOW: list[int] = []


class ClockedEvaluator(EvaluatorNode):
    """Its scores tell the time."""

    @handles(WindowCollected)
    def on_window(self, event: WindowCollected, ctx: Context) -> None:
        super().on_window(event, _Changing(ctx, time.time()))

    @handles(PolicyUpdated)
    def on_policy(self, event: PolicyUpdated, ctx: Context) -> None:
        super().on_policy(event, _Changing(ctx, time.time()))


class MoodyEvaluator(EvaluatorNode):
    """Its third score has a number in it that nobody seeded."""

    @handles(PolicyUpdated)
    def on_policy(self, event: PolicyUpdated, ctx: Context) -> None:
        super().on_policy(event, _Changing(ctx, random.random()) if event.window == 2 else ctx)


class _Changing:
    """A context through which scores get another standard deviation."""

    def __init__(self, ctx: Context, number: float) -> None:
        self._ctx = ctx
        self._number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    def emit(self, event: Any) -> None:
        fields = {field: getattr(event, field) for field in event.__struct_fields__}
        self._ctx.emit(WindowScored(**{**fields, "std": self._number}))


class EagerScheduler(SchedulerNode):
    """Stops two windows early."""

    @handles(WindowScored)
    def on_scored(self, event: WindowScored, ctx: Context) -> None:
        super().on_scored(event, ctx)
        if event.window == 2 and event.purpose == "score":
            self._end("early", ctx)


class FragileCheckpoint(CheckpointNode):
    """Raises where a test says so."""

    @handles(CollectWindow)
    def on_collect(self, event: CollectWindow, ctx: Context) -> None:
        if event.window in RAISES_AT_WINDOW:
            raise RuntimeError("the disk has been stolen")
        super().on_collect(event, ctx)


class NoNode:
    """Not even a node."""


class Silent(Node):
    """Takes note, and says nothing."""

    seen = 0

    def __init__(self, settings: NoSettings) -> None: ...

    @handles(CollectWindow)
    def on_collect(self, event: CollectWindow, ctx: Context) -> None:
        type(self).seen += 1
