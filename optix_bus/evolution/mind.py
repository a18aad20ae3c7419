"""What the policy manager node asks of whoever decides: a line of variants, or a Python user's callback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optix_bus.evolution.decision import Decision
from optix_bus.evolution.meta_controller import MetaAction


@dataclass(frozen=True)
class Pruned:
    """A member that leaves the ensemble."""

    number: int
    weight: float
    reason: str


class EvolutionMind(Protocol):
    """Hears what happens, weighs, decides and prunes, in this order at each plateau."""

    @property
    def beside(self) -> bool:
        """Whether variants are trained beside each other, and weights may have changed since a plateau."""
        ...

    @property
    def spawns(self) -> int:
        """Variants made so far."""
        ...

    def describe_agent(self, bounds: Mapping[str, tuple[float, float]], log_params: Sequence[str]) -> None:
        """What may be moved, and how."""
        ...

    def promoted(self, window: int, params: Mapping[str, Any]) -> None:
        """The policy of this window is the best known, learnt with these hyperparameters."""
        ...

    def began(self, version: int) -> None:
        """The newest variant's first policy has this version."""
        ...

    def scored(self, window: int, policy_version: int, score: float, gap: float) -> None:
        """One evaluation; ``gap`` is training minus validation, NaN without validation."""
        ...

    def scored_beside(self, variant: int, score: float) -> None:
        """One evaluation of a variant that is trained by nodes of its own."""
        ...

    def reweigh(self, window: int) -> tuple[Mapping[int, float], Mapping[int, float]]:
        """Weights and rolling scores by number of the member."""
        ...

    def decide(self, window: int, seed: int) -> Decision:
        """What happens at this plateau; ``seed`` is that of the noise, should there be a variant."""
        ...

    def prune(self, action: MetaAction, window: int) -> Sequence[Pruned]:
        """Who leaves the ensemble after this decision, at the plateau of this window."""
        ...

    def report_lines(self) -> list[str]:
        """For the end of the loop's report."""
        ...

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        ...
