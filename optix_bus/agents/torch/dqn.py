"""Deep Q-learning in PyTorch, with the network and optimizer of your choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from optix_bus.agents.cards.dqn import DQN
from optix_bus.agents.epsilon import Epsilon
from optix_bus.agents.torch.dqn_update import DQNUpdate
from optix_bus.agents.torch.fast_dqn import FastDQN
from optix_bus.agents.torch.flat import why_not_by_hand
from optix_bus.agents.torch.q_agent import TorchQAgent, TorchQUpdate
from optix_bus.agents.torch.q_networks import check_q_network
from optix_bus.errors import Unsuitable
from optix_bus.rl import ObsNormalizer
from optix_bus.types import EpisodeData, HyperparamSet, SpaceSpec


class TorchDQNAgent(TorchQAgent):
    """Values of discrete actions from a replay; double, with priorities and n-step returns where asked for.

    Epsilon, learning and the takeover by the target network follow the steps of the environment and the
    gradient steps: how experience is cut into windows changes none of them.

    Args:
        q_network: observations ``[B, *obs_shape]`` float32 to action values ``[B, n_actions]``.
        n_actions: how many actions there are.
        optimizer: over its parameters.
        hyperparams: what differs from the card's defaults; the learning rate defaults to the optimizer's.
        device: ``auto``, or a torch device.
        obs_normalizer: scales observations; it learns from each window after the network did.
        fast: compute the update by hand in NumPy, faster than automatic differentiation and the same to
            rounding: ``auto`` where network and optimizer allow it, True insists, False never.
        seed: of acting and drawing; None takes it from torch's generator.
        spaces: checked against the network when given.
        replay_path: folder for the files of a mapped replay, see `optix_bus.rl.ReplayBuffer`.

    Raises:
        Unsuitable: the network does not fit ``spaces`` or ``n_actions``, or ``fast=True`` does not fit it.
        ConfigurationError: a hyperparameter is unknown or out of range.
    """

    card = DQN
    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = dict(DQN.bounds)
    default_log_params: ClassVar[Sequence[str]] = list(DQN.log_params)
    default_min_episodes_before_dormant: ClassVar[int] = DQN.min_episodes_before_dormant

    def __init__(
        self,
        q_network: nn.Module,
        n_actions: int,
        optimizer: torch.optim.Optimizer,
        hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
        device: str | torch.device = "auto",
        obs_normalizer: ObsNormalizer | None = None,
        *,
        fast: bool | Literal["auto"] = "auto",
        seed: int | None = None,
        spaces: SpaceSpec | None = None,
        replay_path: str | None = None,
    ) -> None:
        check_q_network(q_network, n_actions, spaces)
        self._known_shape = None if spaces is None else spaces.observation.shape
        self._epsilon = Epsilon()
        self._fast = fast
        super().__init__(
            q_network, n_actions, optimizer, hyperparams, device, obs_normalizer, seed, replay_path
        )
        if fast is True:
            self._way_to_update()

    @property
    def epsilon(self) -> float:
        """Probability of a random action in the next step."""
        return self._epsilon.now(self._memory.environment_steps, self._hyperparams.params)

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """As `TorchQAgent.learn`; reports ``epsilon`` too."""
        return {**super().learn(episode_data), "epsilon": self.epsilon}

    def set_hyperparams(self, hyperparams: HyperparamSet | Mapping[str, Any]) -> None:
        """Put the given hyperparameters into force; a new ``epsilon`` falls from this step on."""
        before = self._hyperparams.params["epsilon"]
        super().set_hyperparams(hyperparams)
        if self._hyperparams.params["epsilon"] != before:
            self._epsilon.since = self._memory.environment_steps

    def _way_to_update(self) -> TorchQUpdate:
        reason = "fast=False"
        if self._fast is not False:
            reason = why_not_by_hand({"q_network": self._q_network}, self._optimizer, self._device)
        if not reason:
            return FastDQN(self._q_network, self._target_network, self._optimizer)
        if self._fast is True:
            raise Unsuitable(
                f"fast=True, but the update cannot be computed by hand: {reason}; try fast='auto'"
            )
        return DQNUpdate(self._q_network, self._target_network, self._optimizer, self._device)

    def _head(self) -> Mapping[str, Any]:
        return self._epsilon.head(self._memory.environment_steps, self._hyperparams.params)

    def _counters(self) -> dict[str, Any]:
        return {**super()._counters(), "epsilon_since": self._epsilon.since}

    def _load_counters(self, metadata: Mapping[str, Any]) -> None:
        super()._load_counters(metadata)
        self._epsilon.since = int(metadata.get("epsilon_since", 0))
