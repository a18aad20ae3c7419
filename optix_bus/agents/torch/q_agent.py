"""What agents with action values and a replay do alike in PyTorch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from optix_bus.agents.experience import Experience
from optix_bus.agents.first_window import HeldAgainstWindows, check_shape
from optix_bus.agents.masked_acting import MaskedActing
from optix_bus.agents.off_policy import OffPolicyMemory
from optix_bus.agents.q_learning import QUpdate, learn_values
from optix_bus.agents.replay_learner import ReplayLearner
from optix_bus.agents.torch.base import TorchLearner
from optix_bus.agents.torch.device import resolve_device
from optix_bus.agents.torch.networks import describe, shape_of
from optix_bus.agents.torch.target import frozen_copy, take_over
from optix_bus.rl import ObsNormalizer
from optix_bus.types import EpisodeData, HyperparamSet


class TorchQUpdate(QUpdate, Protocol):
    """A way to make gradient steps that may keep weights elsewhere until it is told to bring them back."""

    def finish(self) -> None:
        """All steps of the window were made, and well."""
        ...


class TorchQAgent(HeldAgainstWindows, MaskedActing, ReplayLearner, TorchLearner):
    """A network, its target, a replay and clocks. A subclass says how a gradient step is made.

    Args:
        q_network: the network that acts and learns.
        n_actions: how many actions there are.
        optimizer: over its parameters.
        hyperparams: what differs from the card's defaults; the learning rate defaults to the optimizer's.
        device: ``auto``, or a torch device.
        obs_normalizer: scales observations; it learns from each window after the network did.
        seed: of acting and drawing; None takes it from torch's generator.
        replay_path: folder for the files of a mapped replay, see `optix_bus.rl.ReplayBuffer`.
    """

    def __init__(
        self,
        q_network: nn.Module,
        n_actions: int,
        optimizer: torch.optim.Optimizer,
        hyperparams: HyperparamSet | Mapping[str, Any] | None,
        device: str | torch.device,
        obs_normalizer: ObsNormalizer | None,
        seed: int | None,
        replay_path: str | None,
    ) -> None:
        where = resolve_device(device, small=describe(q_network, "q_network") is not None)
        self._q_network = q_network.to(where)
        self._target_network = frozen_copy(self._q_network)
        self._optimizer = optimizer
        self._n_actions = int(n_actions)
        self._memory = OffPolicyMemory(replay_path)
        super().__init__(hyperparams, where, obs_normalizer, None, seed)

    @property
    def _modules(self) -> Mapping[str, nn.Module]:
        return {"q_network": self._q_network, "target_network": self._target_network}

    @property
    def _optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"optimizer": self._optimizer}

    @property
    def _actor_name(self) -> str:
        return "q_network"

    @abstractmethod
    def _way_to_update(self) -> TorchQUpdate:
        """How gradient steps are made. Asked for each window: users may change networks in between."""

    def _check_sizes(self, experience: Experience) -> None:
        """Hold the network against the first window.

        Raises:
            Unsuitable: it has not one value for each action.
        """
        check_shape(
            experience, "q_network", partial(shape_of, self._q_network, self._device), [2, self._n_actions]
        )

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Store a window ``[T]`` or ``[T, B]`` and make the gradient steps that its steps call for.

        Returns:
            See `optix_bus.agents.q_learning.learn_values`.

        Raises:
            LearningFailure: something was not finite; everything is as before.
            ConfigurationError: the window has no usable shape.
            Unsuitable: it holds actions that there are not.
        """
        way = self._way_to_update()
        report = learn_values(
            episode_data,
            way,
            self._memory,
            self._hyperparams.params,
            self._learning_rng,
            self._n_actions,
            self._obs_normalizer,
            self._check_window,
        )
        way.finish()
        self._weights_changed(self.policy_version + 1)
        return report

    def perturb_weights(self, noise_scale: float) -> None:
        """Multiply every weight by ``1 + noise_scale * N(0, 1)``; the target takes over the result."""
        super().perturb_weights(noise_scale)
        take_over(self._q_network, self._target_network)
