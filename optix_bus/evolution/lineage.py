"""Where a variant comes from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Lineage:
    """Descent of a variant, as the manifests of its snapshots hold it.

    Attributes:
        variant: its number within the run, from 1; 0 is the policy that the run began with.
        parent: snapshot it was cloned from; empty where there was none.
        noise_scale: how far its hyperparameters were moved, see `optix_bus.evolution.mutation`.
        seed: of the noise.
        mutated: whether its weights were changed as well.
    """

    variant: int
    parent: str
    noise_scale: float
    seed: int
    mutated: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
