"""Several agents behind the interface of one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from optix_bus.agents.acting.ensemble import EnsemblePolicy
from optix_bus.agents.acting.load import ENSEMBLE, FORMAT, is_portable
from optix_bus.agents.storage import read_state, save_state
from optix_bus.errors import CheckpointError
from optix_bus.evolution.combining import together
from optix_bus.evolution.manager import Member, PolicyManager
from optix_bus.interfaces import Acting, ArrayAgent, BaseAgent, Policy
from optix_bus.nesting import join, split
from optix_bus.portable import capture, restore
from optix_bus.types import EpisodeData, HyperparamSet, NamedArrays

#: What a window was acted with, as whoever drives the learner counts it.
_VERSIONS = ("policy_version", "learner_version")


class EnsembleAgent(BaseAgent):
    """Acts with all members of a policy manager; the primary agent learns.

    Discrete actions are combined on the members' probabilities and continuous ones averaged, both by weight,
    see `EnsemblePolicy`. Weights and members are those of the manager at that moment. As long as the manager
    has no members, the primary agent acts alone.

    The primary agent learns from what all of them did: with the ensemble's own log-probabilities where it has
    them, so that the first ratio of PPO corrects for the difference. Hyperparameters, bounds and
    ``is_on_policy`` are the primary agent's. A state, and so a snapshot, holds every member and its weight,
    because it was all of them that earned the score.

    Args:
        policy_manager: has the members and their weights.
        primary_agent: learns; usually one of the members.
        seed: of drawing actions, until `reseed`.
    """

    def __init__(self, policy_manager: PolicyManager, primary_agent: Any, *, seed: int = 0) -> None:
        self._manager = policy_manager
        self._primary = primary_agent
        self._rng = np.random.default_rng(seed)
        self._deterministic = False
        policy_manager.unpack = self._policy_of

    @property
    def policy_manager(self) -> PolicyManager:
        """The manager whose members act."""
        return self._manager

    @property
    def primary_agent(self) -> Any:
        """The agent that learns."""
        return self._primary

    @property
    def is_on_policy(self) -> bool:
        """As the primary agent."""
        return bool(self._primary.is_on_policy)

    def act(self, observation: Any) -> Any:
        """The combined action for one observation: an int, or an array in the members' units."""
        action = self.act_batch(np.asarray(observation)[None]).actions[0]
        return int(action) if np.ndim(action) == 0 and np.asarray(action).dtype.kind in "iu" else action

    def act_batch(
        self,
        observations: np.ndarray[Any, Any],
        *,
        deterministic: bool = False,
        action_masks: np.ndarray[Any, Any] | None = None,
    ) -> Acting:
        """The combined actions for ``[B, *obs_shape]``."""
        return self._together().act_batch(
            observations, deterministic=deterministic or self._deterministic, action_masks=action_masks
        )

    def action_probs_batch(self, observations: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
        """The combined probability of each discrete action ``[B, n_actions]``; None where a member does not
        know its own."""
        return self._together().action_probs_batch(observations)

    @contextmanager
    def evaluation_mode(self) -> Iterator[None]:
        """Within it, acting is deterministic."""
        before, self._deterministic = self._deterministic, True
        try:
            yield
        finally:
            self._deterministic = before

    def policy(self) -> Policy:
        """The acting half with the weights of now; later learning does not change it."""
        members = [member.policy() if isinstance(member, ArrayAgent) else member for member in self._agents]
        return together(members, self._weights, self._rng)

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw all randomness from this generator, the members from children of it."""
        self._rng = rng
        self._together().reseed(rng)

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Let the primary agent learn from what all of them did."""
        if len(self._agents) == 1 and self._agents[0] is self._primary:
            found: dict[str, Any] = self._primary.learn(episode_data)
            return found
        # Without the versions nobody takes the window for one that the primary agent acted alone.
        metadata = {key: value for key, value in episode_data.metadata.items() if key not in _VERSIONS}
        diagnostics: dict[str, Any] = self._primary.learn(replace(episode_data, metadata=metadata))
        return diagnostics

    def get_hyperparams(self) -> HyperparamSet:
        """Those of the primary agent."""
        found: HyperparamSet = self._primary.get_hyperparams()
        return found

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Into force in the primary agent."""
        self._primary.set_hyperparams(hyperparams)

    def state(self) -> NamedArrays:
        """Every member's state and weight, and how to act where NumPy can act for all."""
        members = self._everybody
        parts = {_name(member.number): capture(member.agent) for member in members}
        weights = {_name(member.number): member.weight for member in members}
        joined = join(parts, {"weights": weights, "primary": self._name_of(self._primary)})
        acting = list(parts) if self._manager.members else [self._name_of(self._primary)]
        portable = all(is_portable(parts[name]) for name in acting)
        description: dict[str, Any] = {"format": FORMAT, "kind": "agent"}
        if portable:
            description = {
                "format": FORMAT,
                "kind": ENSEMBLE,
                "names": acting,
                "members": [parts[name].metadata["policy"] for name in acting],
                "weights": [weights[name] for name in acting],
            }
        return NamedArrays(joined.arrays, {**joined.metadata, "policy": description})

    def load_state(self, state: NamedArrays) -> None:
        """Go on from a state, as far as its members are still there.

        Raises:
            CheckpointError: it is no state of an ensemble.
        """
        parts, facts = _split(state)
        for member in self._everybody:
            name = _name(member.number)
            if name in parts:
                restore(member.agent, parts[name])
                member.weight = float(facts["weights"][name])

    def save_weights(self, path: str) -> None:
        """Write `state` to ``path``: a file if it ends in ``.safetensors``, otherwise a folder."""
        save_state(self.state(), path)

    def load_weights(self, path: str) -> None:
        """Read what `save_weights` wrote."""
        self.load_state(read_state(path))

    def average_weights(self, paths: Sequence[str]) -> None:
        """Load the mean of several weights of the primary agent's own into it."""
        self._primary.average_weights(paths)

    def perturb_weights(self, noise_scale: float) -> None:
        """Perturb the primary agent."""
        self._primary.perturb_weights(noise_scale)

    def teardown(self) -> None:
        """Every member's."""
        for member in self._everybody:
            member.agent.teardown()

    @property
    def _agents(self) -> list[Any]:
        return self._manager.agents or [self._primary]

    @property
    def _weights(self) -> list[float]:
        return self._manager.weights or [1.0]

    @property
    def _everybody(self) -> list[Member]:
        """The members, and the primary agent where it is none."""
        members = self._manager.members
        if self._manager.find(self._primary) is not None:
            return members
        return [*members, Member(-1, self._primary, 0.0 if members else 1.0, deque())]

    def _together(self) -> EnsemblePolicy:
        return together(self._agents, self._weights, self._rng)

    def _name_of(self, agent: Any) -> str:
        member = self._manager.find(agent)
        return _name(-1 if member is None else member.number)

    def _policy_of(self, policy: NamedArrays, agent: Any) -> NamedArrays:
        """What a snapshot of an ensemble holds for an agent: its own policy, for a stranger the primary's."""
        if "parts" not in policy.metadata:
            return policy
        parts, facts = _split(policy)
        return parts.get(self._name_of(agent), parts[facts["primary"]])


def _name(number: int) -> str:
    return "primary" if number < 0 else f"member-{number}"


def _split(state: NamedArrays) -> tuple[dict[str, NamedArrays], dict[str, Any]]:
    if "parts" not in state.metadata or "facts" not in state.metadata:
        raise CheckpointError(
            f"found a state of {', '.join(state.metadata) or 'nothing'}, expected one of an EnsembleAgent"
        )
    return split(state)
