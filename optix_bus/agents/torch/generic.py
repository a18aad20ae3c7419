"""A policy-gradient agent around any network: REINFORCE, or A2C with values. The card is `cards.a2c`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from optix_bus.agents.cards.a2c import A2C
from optix_bus.agents.experience import Experience
from optix_bus.agents.first_window import check_policy
from optix_bus.agents.heads import Categorical, Gaussian, Head, head_for
from optix_bus.agents.masked_acting import MaskedActing
from optix_bus.agents.policy_learner import PolicyLearner
from optix_bus.agents.torch.a2c_update import Loss, PolicyGradient
from optix_bus.agents.torch.acting import TorchActing
from optix_bus.agents.torch.base import TorchLearner
from optix_bus.agents.torch.device import resolve_device
from optix_bus.agents.torch.images import describe_images
from optix_bus.agents.torch.networks import check_networks, describe, output_size, shape_of
from optix_bus.rl import ObsNormalizer, RewardNormalizer
from optix_bus.types import HyperparamSet, SpaceSpec


class FirstOutput(nn.Module):
    """What a network that gives ``(outputs, values)`` acts with; other outputs pass as they are."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, observations: Tensor) -> Tensor:
        """Outputs of the head, ``[B, outputs]``."""
        found = self.model(observations)
        outputs: Tensor = found[0] if isinstance(found, tuple) else found
        return outputs


class _NoValues(nn.Module):
    """Stands where a critic is checked and there is none."""

    def forward(self, observations: Tensor) -> Tensor:
        return observations.new_zeros(len(observations), 1)


class TorchAgent(MaskedActing, PolicyLearner, TorchLearner):
    """One policy-gradient step for each window, for any network of yours.

    Without values this is REINFORCE: the return from each step to the end of its episode, where what comes
    after a truncation or after the window counts as 0. With values, from a ``critic`` or as the model's
    second output, it is A2C: cut episodes go on with the value of what followed, and the advantage is what
    was earned beyond the value.

    Args:
        model: observations ``[B, *obs_shape]`` float32 to logits ``[B, n_actions]``, to ``[mean | log_std]``
            ``[B, 2 action_dim]`` of continuous actions, or to a pair of those and values ``[B, 1]``.
        optimizer: over the parameters of the model and the critic.
        hyperparams: what differs from the card's defaults; the learning rate defaults to the optimizer's.
        compute_loss_fn: ``(model, PolicyBatch) -> loss``, instead of the loss of A2C; see
            `optix_bus.agents.policy_batch.PolicyBatch`.
        device: ``auto``, or a torch device.
        critic: observations to values ``[B, 1]``.
        action_dim: numbers in a continuous action, in the units of the environment; None for discrete ones.
        obs_normalizer: scales observations; learns from each window after the networks did.
        reward_normalizer: scales rewards before advantages are computed.
        seed: of acting and perturbing; None takes it from torch's generator.
        spaces: checked against the networks when given, and says what the actions are.

    Raises:
        Unsuitable: the networks do not fit the spaces.
    """

    card = A2C
    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = dict(A2C.bounds)
    default_log_params: ClassVar[Sequence[str]] = list(A2C.log_params)
    default_min_episodes_before_dormant: ClassVar[int] = A2C.min_episodes_before_dormant

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
        compute_loss_fn: Loss | None = None,
        device: str | torch.device = "auto",
        *,
        critic: nn.Module | None = None,
        action_dim: int | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        reward_normalizer: RewardNormalizer | None = None,
        seed: int | None = None,
        spaces: SpaceSpec | None = None,
    ) -> None:
        where = resolve_device(device, small=describe(model, "model") is not None)
        #: The network that acts; replace it only together with the optimizer.
        self.model = model.to(where)
        self._critic = None if critic is None else critic.to(where)
        self._optimizer = optimizer
        self._compute_loss_fn = compute_loss_fn
        self._given_head: Head | None = None
        if spaces is not None:
            self._given_head = head_for(spaces.action)
            values = _NoValues() if self._critic is None else self._critic
            check_networks(FirstOutput(self.model), values, spaces, self._given_head.outputs)
            if self._critic is not None:  # values of the model itself are looked at in the first window
                self._known_shape = spaces.observation.shape
        elif action_dim is not None:
            self._given_head = Gaussian((action_dim,))
        super().__init__(hyperparams, where, obs_normalizer, reward_normalizer, seed)

    @property
    def _modules(self) -> Mapping[str, nn.Module]:
        return {"model": self.model, **({} if self._critic is None else {"critic": self._critic})}

    @property
    def _optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"optimizer": self._optimizer}

    @property
    def _actor_name(self) -> str:
        return "model"

    def _actions(self) -> Head:
        return self._given_head or Categorical(output_size(self.model))

    def _make_acting(self, rng: np.random.Generator) -> TorchActing:
        return TorchActing(self._actor(), self._obs_normalizer, self._device, rng, self._head, "model")

    def reset_cache(self) -> None:
        """See `TorchLearner.reset_cache`."""
        self._acting.forget(self._actor(), self._device)

    def _actor(self) -> nn.Module:
        known = describe(self.model, "model") or describe_images(self.model, "model")
        return FirstOutput(self.model) if known is None else self.model

    def _check_sizes(self, experience: Experience) -> None:
        outputs = partial(shape_of, self.model, self._device)
        values = partial(outputs, place=1)
        if self._critic is not None:
            values = partial(shape_of, self._critic, self._device)
        check_policy(experience, self._actions(), "model", outputs, values)

    def _way_to_update(self) -> PolicyGradient:
        return PolicyGradient(
            self.model, self._critic, self._optimizer, self._device, self._actions(), self._compute_loss_fn
        )
