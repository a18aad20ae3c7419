"""What the scheduler does about variants that are trained by nodes of their own."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from optix_bus.loop.book import OpenWindow, Step, WindowBook
from optix_bus.loop.machine import LoopMachine
from optix_bus.loop.members import Members
from optix_bus.messages import (
    Event,
    LoopStateChanged,
    VariantDismissed,
    VariantEvaluationRequested,
    VariantPruned,
    VariantScored,
    VariantUpdated,
)
from optix_bus.messages.plain import as_plain
from optix_bus.runtime import loop_words
from optix_bus.runtime.node import Context, Node, handles


class VariantJoins(Node):
    """A window is judged when all variants have come as far; then the best of them may become the best.

    Without variants it does nothing.
    """

    def __init__(self, machine: LoopMachine, members: Members | None) -> None:
        self.machine = machine
        self._book = WindowBook()
        self._members = members if members is not None else Members()

    @abstractmethod
    def _work(self, ctx: Context) -> None:
        """Carry the oldest window on as far as the facts allow."""

    @handles(VariantUpdated)
    def on_variant(self, event: VariantUpdated, ctx: Context) -> None:
        """A policy of a variant exists."""
        window = self._book.find(event.window)
        if self._members.learnt(event.variant, event.version, event.window, event.params) and window:
            window.rolling_back = False  # the plateau is answered
        self._work(ctx)

    @handles(VariantScored)
    def on_variant_scored(self, event: VariantScored, ctx: Context) -> None:
        """A variant was scored."""
        self._members.scored(event.variant, as_plain(event))
        self._work(ctx)

    @handles(VariantPruned)
    def on_pruned(self, event: VariantPruned, ctx: Context) -> None:
        """The policy manager does without a variant."""
        self._members.prune(event.variant, event.reason)

    def _waits_for_variants(self, window: OpenWindow, step: Step) -> bool:
        due = step in (Step.JUDGE, Step.CLOSE) and not window.watch
        return due and self._members.waits(window.number, evaluate=window.evaluate)

    def _compare(self, window: OpenWindow, ctx: Context) -> bool:
        """Whether a variant is the best now, once the learner's own policy is judged: False where fresh
        episodes have to say so first."""
        for variant, version in self._members.rivals(self.machine.beats_record):
            ctx.emit(
                VariantEvaluationRequested(variant=variant, window=window.number, policy_version=version)
            )
        if self._members.confirming:
            return False
        for fresh, score, params in self._members.confirmed():
            before = self.machine.best_score
            if self.machine.confirm(fresh.policy_version, fresh, own=False):
                gained = not fresh.score - before <= self.machine.scheduler.margin
                self._members.improved = self._members.improved or gained
                ctx.emit(loop_words.variant_promoted(fresh, score["metrics"], self.machine, params))
        return True

    def _variant(self, decision: dict[str, Any]) -> Event:
        """A variant was decided: the learner goes on from it, or nodes of its own begin with it."""
        if not self._members.present:
            return loop_words.variant_requested(decision)
        nodes = self._members.admit(decision["variant"], decision["window"])
        return loop_words.variant_admitted(decision, nodes)

    def _close_variants(self, window: int, ctx: Context) -> None:
        """A window is complete: who was pruned leaves, and while one of them gets better the run goes on."""
        for variant, nodes, reason in self._members.close():
            ctx.emit(VariantDismissed(window=window, variant=variant, nodes=nodes, reason=reason))
        if self._members.improved:
            self._members.improved = False
            before = self.machine.state.value
            self.machine.restart()
            if before != self.machine.state.value:
                ctx.emit(LoopStateChanged(window=window, old=before, new=self.machine.state.value))
