"""Rainbow in PyTorch, with the network and optimizer of your choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from optix_bus.agents.acting.order import is_feed_forward
from optix_bus.agents.cards.rainbow import RAINBOW
from optix_bus.agents.experience import Experience
from optix_bus.agents.torch.networks import shape_of
from optix_bus.agents.torch.q_agent import TorchQAgent, TorchQUpdate
from optix_bus.agents.torch.rainbow_acting import RainbowActing
from optix_bus.agents.torch.rainbow_network import describe_rainbow
from optix_bus.agents.torch.rainbow_update import RainbowUpdate
from optix_bus.agents.tunable import changed
from optix_bus.errors import ConfigurationError, Unsuitable
from optix_bus.rl import ObsNormalizer
from optix_bus.rl.c51 import atoms
from optix_bus.types import HyperparamSet, SpaceSpec


class TorchRainbowDQNAgent(TorchQAgent):
    """Distributions of returns from a prioritized replay, n steps, double, dueling, noisy layers.

    Exploring is up to the network's noise: fresh in every step acted and every gradient step, none in
    evaluation.

    Args:
        q_network: observations ``[B, *obs_shape]`` float32 to logits ``[B, n_actions, n_atoms]`` or
            ``[B, n_actions * n_atoms]``; `RainbowQNetwork` has them. Its `NoisyLinear` layers explore.
        n_actions: how many actions there are.
        obs_dim: numbers in an observation; checked against the network. None does not check.
        optimizer: over its parameters.
        hyperparams: what differs from the card's defaults; the learning rate defaults to the optimizer's.
        device: ``auto``, or a torch device.
        obs_normalizer: scales observations; it learns from each window after the network did.
        seed: of acting, drawing and noise; None takes it from torch's generator.
        spaces: checked against the network when given.
        replay_path: folder for the files of a mapped replay, see `optix_bus.rl.ReplayBuffer`.

    Raises:
        Unsuitable: the network gives something else.
        ConfigurationError: a hyperparameter is unknown or out of range.
    """

    card = RAINBOW
    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = dict(RAINBOW.bounds)
    default_log_params: ClassVar[Sequence[str]] = list(RAINBOW.log_params)
    default_min_episodes_before_dormant: ClassVar[int] = RAINBOW.min_episodes_before_dormant

    def __init__(
        self,
        q_network: nn.Module,
        n_actions: int,
        obs_dim: int | None,
        optimizer: torch.optim.Optimizer,
        hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
        device: str | torch.device = "auto",
        obs_normalizer: ObsNormalizer | None = None,
        *,
        seed: int | None = None,
        spaces: SpaceSpec | None = None,
        replay_path: str | None = None,
    ) -> None:
        known = describe_rainbow(q_network, "")
        if device == "auto" and known is not None and is_feed_forward(known["layers"]):
            device = "cpu"  # a small network learns faster there than a GPU can be fed
        super().__init__(
            q_network, n_actions, optimizer, hyperparams, device, obs_normalizer, seed, replay_path
        )
        self._check_support(self._hyperparams.params)
        if spaces is not None and (spaces.action.kind != "discrete" or spaces.action.n != n_actions):
            raise Unsuitable(
                f"{spaces.environment} has {spaces.action.n or ''} {spaces.action.kind} actions, "
                f"but n_actions is {n_actions}"
            )
        if spaces is not None:
            self._known_shape = spaces.observation.shape
        elif obs_dim is not None:
            self._known_shape = (obs_dim,)
        if self._known_shape is not None:
            self._check_network(self._known_shape)

    def set_hyperparams(self, hyperparams: HyperparamSet | Mapping[str, Any]) -> None:
        """Put the given hyperparameters into force; those not named stay.

        Raises:
            ConfigurationError: as ever; or another n_atoms than the network's, or v_max not above v_min.
        """
        given = changed(self.card, self._hyperparams, hyperparams).params
        self._check_support(given)
        before = self._hyperparams.params["n_atoms"]
        if given["n_atoms"] != before:
            raise ConfigurationError(
                f"n_atoms is {given['n_atoms']}, but the network has {before}: make a new agent for that"
            )
        super().set_hyperparams(hyperparams)

    def _check_sizes(self, experience: Experience) -> None:
        self._check_network(experience.observations.shape[2:])

    def _way_to_update(self) -> TorchQUpdate:
        seed = int(self._learning_rng.integers(2**63))
        generator = torch.Generator(self._device).manual_seed(seed)
        # Whatever a user has left: noise is on while it learns.
        self._q_network.train()
        self._target_network.train()
        return RainbowUpdate(
            self._q_network, self._target_network, self._optimizer, self._device, self._n_actions, generator
        )

    def _head(self) -> Mapping[str, Any]:
        params = self._hyperparams.params
        return {"head": "noisy_greedy", "v_min": params["v_min"], "v_max": params["v_max"]}

    def _support(self) -> npt.NDArray[np.float64]:
        params = self._hyperparams.params
        return atoms(params["v_min"], params["v_max"], params["n_atoms"])

    def _make_acting(self, rng: np.random.Generator) -> RainbowActing:
        return RainbowActing(
            self._q_network,
            self._obs_normalizer,
            self._device,
            rng,
            self._head,
            self._actor_name,
            self._support,
            self._n_actions,
        )

    def _check_support(self, params: Mapping[str, Any]) -> None:
        try:
            atoms(params["v_min"], params["v_max"], params["n_atoms"])
        except ValueError as error:
            raise ConfigurationError(str(error)) from None

    def _check_network(self, shape: tuple[int, ...]) -> None:
        wanted = self._n_actions * self._hyperparams.params["n_atoms"]
        try:
            found = list(shape_of(self._q_network, self._device, np.zeros((2, *shape), np.float32)))
        except (RuntimeError, ValueError, IndexError) as error:
            reason = str(error).splitlines()[0]
            raise Unsuitable(
                f"the q_network does not take observations of shape {list(shape)}: {reason}"
            ) from error
        if found[0] != 2 or int(np.prod(found[1:])) != wanted:
            raise Unsuitable(
                f"the q_network gives {found} for 2 observations, expected [2, {self._n_actions}, "
                f"{self._hyperparams.params['n_atoms']}]: n_actions and n_atoms"
            )
