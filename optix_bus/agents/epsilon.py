"""Where on its way down the probability of a random action stands, by steps of the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Epsilon:
    """Epsilon falls from the hyperparameter of that name; giving that a new value begins anew.

    Attributes:
        since: clock of the environment at which the present value was given.
    """

    def __init__(self) -> None:
        self.since = 0

    def now(self, environment_steps: int, params: Mapping[str, Any]) -> float:
        """Epsilon of the next step."""
        fallen = params["epsilon"] * self.decay(params) ** (environment_steps - self.since)
        return float(min(1.0, max(params["epsilon_min"], fallen)))

    def decay(self, params: Mapping[str, Any]) -> float:
        """The factor of one step."""
        return float(params["epsilon_decay"] ** (1.0 / params["epsilon_decay_steps"]))

    def head(self, environment_steps: int, params: Mapping[str, Any]) -> dict[str, Any]:
        """The part of an acting description that is about exploring."""
        return {
            "head": "epsilon_greedy",
            "epsilon": self.now(environment_steps, params),
            "floor": float(params["epsilon_min"]),
            "decay": self.decay(params),
        }
