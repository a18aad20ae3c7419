"""Decisions that a Python user's callbacks have taken, and carried out on their own agents, for the loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optix_bus.evolution.callback import PolicyManagerCallback
from optix_bus.evolution.decision import Decision
from optix_bus.evolution.meta_controller import MetaAction
from optix_bus.evolution.mind import Pruned
from optix_bus.interfaces import LoopCallback


def evolving(callbacks: Sequence[LoopCallback]) -> list[PolicyManagerCallback]:
    """The policy managers among callbacks."""
    return [each for each in callbacks if isinstance(each, PolicyManagerCallback)]


class CallbackEvolution:
    """Asks the callbacks what they decided when they heard of the plateau. They have heard everything else
    themselves; one that raised has decided nothing, and the run may end.
    """

    #: All agents are the callbacks' own, and no node trains one.
    beside = False

    def __init__(self, callbacks: Sequence[LoopCallback]) -> None:
        self._callbacks = callbacks

    @property
    def spawns(self) -> int:
        """Variants made by all of them."""
        return sum(len(each.manager.lineages) for each in evolving(self._callbacks))

    def describe_agent(self, bounds: Mapping[str, tuple[float, float]], log_params: Sequence[str]) -> None:
        """The callbacks have the agent itself."""

    def promoted(self, window: int, params: Mapping[str, Any]) -> None:
        """Their manager asks the loop's registry."""

    def began(self, version: int) -> None:
        """Their agents have no versions."""

    def scored(self, window: int, policy_version: int, score: float, gap: float) -> None:
        """They hear of evaluations by themselves."""

    def scored_beside(self, variant: int, score: float) -> None:
        """No node trains their agents."""

    def reweigh(self, window: int) -> tuple[dict[int, float], dict[int, float]]:
        """Of the first manager."""
        members = [member for each in evolving(self._callbacks)[:1] for member in each.manager.members]
        scores = {member.number: member.mean_score for member in members if member.scores}
        return {member.number: member.weight for member in members}, scores

    def decide(self, window: int, seed: int) -> Decision:
        """A spawn, if one of them has made one; otherwise what the first has decided."""
        taken = [each.take_decision() for each in evolving(self._callbacks)]
        made = [decision for decision in taken if decision is not None]
        if not made:
            return Decision(window, MetaAction.NO_OP, "the callback of the policy manager has failed")
        return next((each for each in made if each.action is MetaAction.SPAWN), made[0])

    def prune(self, action: MetaAction, window: int) -> Sequence[Pruned]:
        """Whom they have removed."""
        return [pruned for each in evolving(self._callbacks) for pruned in each.take_pruned()]

    def report_lines(self) -> list[str]:
        """Of all of them."""
        return [line for each in evolving(self._callbacks) for line in each.report_lines()]

    def state(self) -> dict[str, Any]:
        """Nothing: a loop over a user's own objects is not taken up again."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing to take up."""
