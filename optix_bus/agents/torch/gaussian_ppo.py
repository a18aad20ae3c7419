"""PPO for continuous actions. The card is in `optix_bus.agents.cards.gaussian_ppo`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from optix_bus.agents.cards.card import Card
from optix_bus.agents.cards.gaussian_ppo import GAUSSIAN_PPO
from optix_bus.agents.heads import gaussian_head
from optix_bus.agents.torch.networks import output_size
from optix_bus.agents.torch.ppo import PPOLearner
from optix_bus.errors import Unsuitable
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import HyperparamSet, SpaceSpec


class TorchGaussianPPOAgent(PPOLearner):
    """PPO for continuous actions: independent normal numbers around what the actor answers.

    The actor's outputs are ``[mean | log_std]``. With ``spaces`` that are bounded, means of -1 to 1 span the
    bounds; without, outputs are in the units of the environment. A sampled action is not clipped, because its
    log-probability is that of the sample: pipelines clip what the environment sees and keep the sample in the
    window. Where you step an environment yourself, clip what you send, not what you learn from.

    Args:
        actor: observations ``[B, *obs_shape]`` to ``[B, 2 action_dim]``. The standard deviation may depend on
            the observation or, with `optix_bus.agents.torch.networks.AppendConstant` as last layer, not.
        critic, optimizer, hyperparams, device, reward_normalizer, obs_normalizer, fast, seed: as for
            `PPOLearner`.
        action_dim: numbers in one action.
        spaces: checked against the networks when given; gives shape and bounds of the actions.

    Raises:
        Unsuitable: the actor gives another number of outputs, or the space is another one.
    """

    card: ClassVar[Card] = GAUSSIAN_PPO
    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = dict(GAUSSIAN_PPO.bounds)
    default_log_params: ClassVar[Sequence[str]] = list(GAUSSIAN_PPO.log_params)
    default_min_episodes_before_dormant: ClassVar[int] = GAUSSIAN_PPO.min_episodes_before_dormant

    def __init__(
        self,
        actor: nn.Module,
        critic: nn.Module,
        optimizer: torch.optim.Optimizer,
        action_dim: int,
        hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
        device: str | torch.device = "auto",
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        *,
        fast: bool | Literal["auto"] = "auto",
        seed: int | None = None,
        spaces: SpaceSpec | None = None,
    ) -> None:
        head = gaussian_head(action_dim, spaces)
        outputs = output_size(actor)
        if outputs not in (None, head.outputs):
            raise Unsuitable(
                f"the actor gives {outputs} numbers, expected {head.outputs}: [mean | log_std] of "
                f"{action_dim} actions; a log_std that depends on no observation is one more layer, "
                "optix_bus.agents.torch.networks.AppendConstant"
            )
        super().__init__(
            actor,
            critic,
            optimizer,
            hyperparams,
            device,
            reward_normalizer,
            obs_normalizer,
            fast=fast,
            seed=seed,
            spaces=spaces,
            head=head,
        )
