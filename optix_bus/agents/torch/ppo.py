"""PPO for discrete actions, and what it shares with PPO for continuous ones. The card is `PPO`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from optix_bus.agents.batch import PPOUpdate
from optix_bus.agents.cards.card import Card
from optix_bus.agents.cards.ppo import PPO
from optix_bus.agents.experience import Experience
from optix_bus.agents.first_window import check_policy
from optix_bus.agents.heads import Categorical, Head, head_for
from optix_bus.agents.masked_acting import ProbableActing
from optix_bus.agents.policy_learner import PolicyLearner
from optix_bus.agents.torch.base import TorchLearner
from optix_bus.agents.torch.device import resolve_device
from optix_bus.agents.torch.fast_ppo import FastPPO, why_not_fast
from optix_bus.agents.torch.networks import check_networks, describe, output_size, shape_of
from optix_bus.agents.torch.ppo_update import AutogradPPO
from optix_bus.errors import Unsuitable
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import HyperparamSet, SpaceSpec


class PPOLearner(PolicyLearner, TorchLearner):
    """PPO with the clipped objective and GAE, for any head.

    Nothing is kept between acting and learning: a window learns alike whoever acted it. Where the window says
    that it was acted by this very version of the policy (``metadata["policy_version"]``), or holds no
    log-probabilities at all, the old log-probabilities are recomputed; otherwise the recorded ones count.

    Args:
        actor: observations ``[B, *obs_shape]`` float32 to the outputs of the head.
        critic: observations to values ``[B, 1]``.
        optimizer: over the parameters of both.
        hyperparams: what differs from the card's defaults; the learning rate defaults to the optimizer's.
        device: ``auto``, or a torch device.
        reward_normalizer: scales rewards before advantages are computed.
        obs_normalizer: scales observations. It learns from each window after the networks did, so that a
            window is acted and learnt with the same statistics.
        fast: compute the update by hand in NumPy, several times faster than automatic differentiation and
            the same to rounding: ``auto`` where networks and optimizer allow it, True insists, False never.
        seed: of acting, shuffling and perturbing; None takes it from torch's generator, so that
            ``torch.manual_seed`` covers it.
        spaces: checked against the networks when given.
        head: what becomes of the actor's outputs; without one, the spaces say it, and without spaces they are
            logits of discrete actions.
    """

    def __init__(
        self,
        actor: nn.Module,
        critic: nn.Module,
        optimizer: torch.optim.Optimizer,
        hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
        device: str | torch.device = "auto",
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        *,
        fast: bool | Literal["auto"] = "auto",
        seed: int | None = None,
        spaces: SpaceSpec | None = None,
        head: Head | None = None,
    ) -> None:
        small = describe(actor, "actor") is not None and describe(critic, "critic") is not None
        where = resolve_device(device, small=small)
        self._actor = actor.to(where)
        self._critic = critic.to(where)
        self._optimizer = optimizer
        self._given_head = head_for(spaces.action) if head is None and spaces is not None else head
        if spaces is not None and self._given_head is not None:
            check_networks(self._actor, self._critic, spaces, self._given_head.outputs)
            self._known_shape = spaces.observation.shape
        super().__init__(hyperparams, where, obs_normalizer, reward_normalizer, seed)
        self._fast = fast
        if fast is True:
            self._way_to_update()

    @property
    def _modules(self) -> Mapping[str, nn.Module]:
        return {"actor": self._actor, "critic": self._critic}

    @property
    def _optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"optimizer": self._optimizer}

    def _actions(self) -> Head:
        return self._given_head or Categorical(output_size(self._actor))

    def _check_sizes(self, experience: Experience) -> None:
        actor, critic = (partial(shape_of, each, self._device) for each in (self._actor, self._critic))
        check_policy(experience, self._actions(), "actor", actor, critic)

    def _way_to_update(self) -> PPOUpdate:
        # Asked for each window: users freeze layers, change the optimizer or replace networks in between.
        reason = "fast=False" if self._fast is False else ""
        head = self._actions()
        reason = reason or why_not_fast(self._actor, self._critic, self._optimizer, self._device, head)
        if not reason:
            return FastPPO(self._actor, self._critic, self._optimizer, head)
        if self._fast is True:
            raise Unsuitable(
                f"fast=True, but the update cannot be computed by hand: {reason}; try fast='auto'"
            )
        return AutogradPPO(self._actor, self._critic, self._optimizer, self._device, head)


class TorchPPOAgent(ProbableActing, PPOLearner):
    """PPO for discrete actions, with your own actor and critic; the arguments are those of `PPOLearner`.

    The actor gives logits: ``[B, n_actions]``, or with ``spaces`` that say so those of several choices side
    by side (MultiDiscrete), or one for each yes or no (MultiBinary). Actions that ``info["action_mask"]``
    forbids are never chosen and have no part in the update.
    """

    card: ClassVar[Card] = PPO
    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = dict(PPO.bounds)
    default_log_params: ClassVar[Sequence[str]] = list(PPO.log_params)
    default_min_episodes_before_dormant: ClassVar[int] = PPO.min_episodes_before_dormant
