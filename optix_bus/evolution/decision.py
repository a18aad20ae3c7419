"""What a policy manager has decided at a plateau."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optix_bus.evolution.meta_controller import MetaAction


@dataclass(frozen=True)
class Decision:
    """An action with everything that one needs to say afterwards why it was taken.

    Attributes:
        window: the window at which the loop was DORMANT.
        action: what is done.
        reason: one sentence.
        variant: number of the variant that is made, or of the last one.
        noise_scale: how far its hyperparameters are moved.
        weight_noise: how far its weights are.
        seed: of the noise.
        params: its hyperparameters; empty where nothing is made, or where the agent has them already.
        made: whether the agent is the variant already.
        figures: the numbers behind all that, by name.
    """

    window: int
    action: MetaAction
    reason: str
    variant: int = 0
    noise_scale: float = 0.0
    weight_noise: float = 0.0
    seed: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    made: bool = False
    figures: Mapping[str, float] = field(default_factory=dict)
