"""SAC for bounded continuous actions. The card is `optix_bus.agents.cards.sac`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from optix_bus.agents.cards.sac import SAC
from optix_bus.agents.torch.critics import beside
from optix_bus.agents.torch.off_policy import Minibatch, TorchOffPolicy
from optix_bus.errors import ConfigurationError
from optix_bus.rl import ObsNormalizer
from optix_bus.types import HyperparamSet

_LOG_2 = math.log(2.0)
_LOG_2PI = math.log(2.0 * math.pi)


class Temperature(nn.Module):
    """The logarithm of the temperature, one number, which the user's optimizer may hold already."""

    def __init__(self, log_alpha: Tensor) -> None:
        super().__init__()
        # A buffer keeps the very tensor, parameter or not; and it is no weight to be perturbed.
        self.register_buffer("log_alpha", log_alpha)
        self.log_alpha: Tensor


class TorchSACAgent(TorchOffPolicy):
    """Soft actor-critic with twin critics and a temperature that is learnt, for your own networks.

    Args:
        actor: observations ``[B, *obs_shape]`` float32 to ``[mean | log_std]``, ``[B, 2 action_dim]``.
        critic1: ``[observation | action]`` ``[B, obs + action_dim]`` to ``[B, 1]``; the actions that it sees
            are in ``[-1, 1]``, whatever the units of the environment. Where observations are no vectors it
            is called with two tensors, ``[B, *obs_shape]`` and ``[B, action_dim]``.
        critic2: as ``critic1``, with weights of its own.
        action_dim: numbers in an action.
        actor_optimizer: over the actor's parameters; the learning rate in force is its own by default.
        critic_optimizer: over those of both critics.
        alpha_optimizer: over one number, the logarithm of the temperature; or a function that makes it from
            such a parameter, e.g. ``lambda parameters: torch.optim.Adam(parameters, lr=3e-4)``.
        hyperparams: what differs from the card's defaults.
        device: ``auto``, or a torch device.
        spaces: the environment or its `SpaceSpec`: networks are checked against it, and actions scaled to its
            bounds. Without it they are in ``[-1, 1]`` until a pipeline shows its environment.
        obs_normalizer: scales observations. It learns from each window after the networks did.
        seed: of acting, learning and perturbing; None takes it from torch's generator.
        replay_path: folder for a replay in mapped files; without one it is in memory while it fits.

    Raises:
        Unsuitable: the networks do not fit the spaces, or the spaces not the algorithm.
        ConfigurationError: the alpha_optimizer holds something else than one number.
    """

    card = SAC
    LOG_STD_MIN: ClassVar[float] = -5.0
    LOG_STD_MAX: ClassVar[float] = 2.0
    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = dict(SAC.bounds)
    default_log_params: ClassVar[Sequence[str]] = list(SAC.log_params)
    default_min_episodes_before_dormant: ClassVar[int] = SAC.min_episodes_before_dormant

    def __init__(
        self,
        actor: nn.Module,
        critic1: nn.Module,
        critic2: nn.Module,
        action_dim: int,
        actor_optimizer: torch.optim.Optimizer,
        critic_optimizer: torch.optim.Optimizer,
        alpha_optimizer: torch.optim.Optimizer | Callable[[list[Tensor]], torch.optim.Optimizer],
        hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
        device: str | torch.device = "auto",
        *,
        spaces: Any = None,
        obs_normalizer: ObsNormalizer | None = None,
        seed: int | None = None,
        replay_path: str | None = None,
    ) -> None:
        if not isinstance(alpha_optimizer, torch.optim.Optimizer):
            alpha_optimizer = alpha_optimizer([nn.Parameter(torch.zeros(()))])
        self._temperature = Temperature(_only_number(alpha_optimizer))
        self._actor_optimizer = actor_optimizer
        self._critic_optimizer = critic_optimizer
        self._alpha_optimizer = alpha_optimizer
        super().__init__(
            actor,
            (critic1, critic2),
            action_dim,
            2 * action_dim,
            hyperparams,
            device,
            obs_normalizer,
            seed,
            spaces,
            replay_path,
        )
        log_alpha = self._temperature.log_alpha
        log_alpha.data = log_alpha.data.to(self._device)  # in place: the optimizer holds this very tensor
        params = hyperparams.params if isinstance(hyperparams, HyperparamSet) else hyperparams
        if params and "log_alpha_init" in params:
            log_alpha.data.fill_(self._hyperparams.params["log_alpha_init"])

    @property
    def _modules(self) -> Mapping[str, nn.Module]:
        return {**super()._modules, "temperature": self._temperature}

    @property
    def _optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {
            "actor_optimizer": self._actor_optimizer,
            "critic_optimizer": self._critic_optimizer,
            "alpha_optimizer": self._alpha_optimizer,
        }

    def _head(self) -> Mapping[str, Any]:
        return {
            "head": "squashed_gaussian",
            **self._box.description(),
            "log_std": [self.LOG_STD_MIN, self.LOG_STD_MAX],
            "random": self._memory.explores_at_random(self._hyperparams.params),
        }

    @property
    def temperature(self) -> float:
        """The weight of the entropy, alpha."""
        return float(self._temperature.log_alpha.detach().exp())

    def _gradient_step(self, batch: Minibatch, params: Mapping[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
        log_alpha = self._temperature.log_alpha
        alpha = log_alpha.detach().exp()
        critic_loss, q, errors = self._critic_loss(batch, alpha)
        self._critic_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(critic_loss)
        self._critic_optimizer.step()

        actor_loss, log_probs = self._actor_loss(batch, alpha)
        self._actor_optimizer.zero_grad(set_to_none=True)
        # Of the actor alone: the critics' own gradients here are nobody's.
        torch.autograd.backward(actor_loss, inputs=self._actor_weights)
        self._actor_optimizer.step()

        # The gradient of -log_alpha (log pi + target entropy), by hand.
        target = params["target_entropy"]
        surplus = log_probs.mean() + (-float(self._box.dim) if target is None else target)
        log_alpha.grad = -surplus.reshape(log_alpha.shape).to(log_alpha.dtype)
        self._alpha_optimizer.step()
        self._move_targets(params["tau"])
        return {
            "critic_loss": critic_loss.detach(),
            "actor_loss": actor_loss.detach(),
            "alpha_loss": -(log_alpha.detach() * surplus).reshape(()),
            "alpha": alpha.reshape(()),
            "entropy": -log_probs.mean(),
            "q_mean": q.mean(),
        }, errors

    def _critic_loss(self, batch: Minibatch, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Equation 5 over both critics; also Q of the first and the mean errors, ``[B]`` each."""
        with torch.no_grad():
            following = batch.next_observations
            next_actions, next_log_probs = self._sampled(self._actor(following), batch.noise[0])
            x = beside(following, next_actions)
            value = torch.minimum(self._targets[0](*x), self._targets[1](*x)).squeeze(-1)
            value -= alpha * next_log_probs
            goal = torch.addcmul(batch.rewards, batch.discounts, value)
        x = beside(batch.observations, batch.actions)
        q1, q2 = self._critic1(*x).squeeze(-1), self._critic2(*x).squeeze(-1)
        first, second = q1 - goal, q2 - goal
        loss = 0.5 * torch.dot(batch.weights, first * first + second * second) / len(goal)
        return loss, q1.detach(), 0.5 * (first.detach().abs() + second.detach().abs())

    def _actor_loss(self, batch: Minibatch, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Equation 9 with the lesser of both critics, and log-probabilities ``[B]``."""
        actions, log_probs = self._sampled(self._actor(batch.observations), batch.noise[1])
        x = beside(batch.observations, actions)
        q = torch.minimum(self._critic1(*x), self._critic2(*x)).squeeze(-1)
        return (alpha * log_probs - q).mean(), log_probs.detach()

    def _sampled(self, outputs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions ``[B, dim]`` and their log-densities ``[B]`` on the cube."""
        return squashed_sample(outputs, noise, self.LOG_STD_MIN, self.LOG_STD_MAX)


def squashed_sample(
    outputs: Tensor, noise: Tensor, log_std_min: float, log_std_max: float
) -> tuple[Tensor, Tensor]:
    """``tanh(mean + std noise)`` ``[B, dim]`` and its log-density ``[B]`` on ``[-1, 1]^dim``.

    As in `optix_bus.agents.acting.squashed_gaussian`: finite for every u, and so are the gradients.

    Args:
        outputs: ``[mean | log_std]``, ``[B, 2 dim]``.
        noise: standard normal, ``[B, dim]``.
        log_std_min: lower bound of the logarithm of the standard deviation.
        log_std_max: its upper bound.
    """
    mean, log_std = outputs.chunk(2, -1)
    log_std = log_std.clamp(log_std_min, log_std_max)
    u = torch.addcmul(mean, log_std.exp(), noise)
    terms = 2.0 * (u + nn.functional.softplus(-2.0 * u)) - log_std - 0.5 * (noise * noise)
    constant = noise.shape[-1] * (2.0 * _LOG_2 + 0.5 * _LOG_2PI)
    return torch.tanh(u), terms.sum(-1) - constant


def _only_number(optimizer: torch.optim.Optimizer) -> Tensor:
    tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    if len(tensors) != 1 or tensors[0].numel() != 1:
        raise ConfigurationError(
            f"the alpha_optimizer holds {[list(tensor.shape) for tensor in tensors]}, expected one number, "
            "the logarithm of the temperature: Adam([torch.zeros(1, requires_grad=True)], lr=3e-4)"
        )
    found: Tensor = tensors[0]
    return found
