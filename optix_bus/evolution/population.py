"""The mind of the policy manager node where variants are trained by nodes of their own, all at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from optix_bus.evolution.line import EvolutionLine, Variant
from optix_bus.evolution.meta_controller import MetaAction
from optix_bus.evolution.mind import Pruned
from optix_bus.evolution.report import MemberLine
from optix_bus.evolution.settings import EvolutionSettings

#: What variant 0 is.
_FIRST = "the learner of the topology"


class Population(EvolutionLine):
    """Decides as `EvolutionLine` does, by the scores of the learner of the topology, which is variant 0 and
    never leaves. All others go on beside it until they are pruned, or the run ends.
    """

    beside = True
    #: Number of the variant that was decided at the plateau in hand; it has not had its chance yet.
    _newest = -1

    def __init__(self, settings: EvolutionSettings) -> None:
        super().__init__(settings)
        #: Those that were pruned, each with when and why.
        self.former: list[tuple[Variant, str]] = []

    def scored_beside(self, variant: int, score: float) -> None:
        """One evaluation of a variant; a score that is not finite is no evidence."""
        found = next((each for each in self.variants if each.number == variant), None)
        if found is not None and math.isfinite(score):
            found.scored(score, self._settings.score_window)

    def prune(self, action: MetaAction, window: int) -> list[Pruned]:
        """Remove what is over the limit, and one more where that was decided."""
        self._newest = self.spawns if action is MetaAction.SPAWN else -1
        return super().prune(action, window)

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on."""
        return {**super().state(), "former": [[asdict(variant), end] for variant, end in self.former]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        super().load_state(state)
        self.former = [(Variant(**variant), end) for variant, end in state["former"]]

    def _removable(self) -> list[Variant]:
        return [variant for variant in self.variants if variant.number not in (0, self._newest)]

    def _remove(self, reason: str, window: int) -> Pruned:
        before = {variant.number: variant for variant in self.variants}
        pruned = super()._remove(reason, window)
        self.former.append((before[pruned.number], f"pruned at window {window}: {reason}"))
        return pruned

    def _members(self) -> list[MemberLine]:
        return [variant.line(_FIRST, "trained to the end") for variant in self.variants]

    def _former(self) -> list[MemberLine]:
        return [variant.line(_FIRST, end) for variant, end in self.former]
