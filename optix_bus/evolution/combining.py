"""Agents of any kind acting together: what `EnsemblePolicy` asks of its members, for live agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from optix_bus.agents.acting.ensemble import EnsemblePolicy
from optix_bus.errors import Unsuitable
from optix_bus.interfaces import Acting, Remembering
from optix_bus.pipelines.acting import Actor


class MemberActing:
    """One agent as a member: asked in batches, also where it only has ``act``.

    Raises:
        Unsuitable: it remembers its episode.
    """

    def __init__(self, agent: Any) -> None:
        if isinstance(agent, Remembering):
            raise Unsuitable(
                f"{type(agent).__name__} remembers its episodes; an ensemble takes agents without memory"
            )
        self._agent = agent
        self._actor = Actor(agent)
        # Where a user has changed how the agent acts, its probabilities are no longer what it acts by.
        ask = None if self._actor.by_rows else getattr(agent, "action_probs_batch", None)
        self.action_probs_batch = ask if ask is not None else _unknown

    def act_batch(self, observations: np.ndarray[Any, Any], *, deterministic: bool = False) -> Acting:
        """See `Actor.act`."""
        with self._actor.evaluating(deterministic):
            return self._actor.act(observations, deterministic)

    def reseed(self, rng: np.random.Generator) -> None:
        """Where the agent allows it."""
        self._actor.reseed(rng)


def _unknown(observations: np.ndarray[Any, Any]) -> None:
    """Probabilities of a member that does not say."""


def together(
    agents: Sequence[Any], weights: Sequence[float], rng: np.random.Generator | None = None
) -> EnsemblePolicy:
    """Agents as one policy with their weights of now."""
    return EnsemblePolicy([MemberActing(agent) for agent in agents], weights, rng)


def combined_action(
    agents: Sequence[Any],
    weights: Sequence[float],
    observation: Any,
    rng: np.random.Generator | None = None,
    *,
    deterministic: bool = False,
) -> Any:
    """Their action for one observation: an int, or an array."""
    policy = together(agents, weights, rng)
    action = policy.act_batch(np.asarray(observation)[None], deterministic=deterministic).actions[0]
    return int(action) if np.ndim(action) == 0 and np.asarray(action).dtype.kind in "iu" else action
