"""TD3 for bounded continuous actions. The card is `optix_bus.agents.cards.td3`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from optix_bus.agents.cards.td3 import TD3
from optix_bus.agents.torch.critics import beside
from optix_bus.agents.torch.networks import describe
from optix_bus.agents.torch.off_policy import Minibatch, TorchOffPolicy, target_of
from optix_bus.rl import ObsNormalizer
from optix_bus.types import HyperparamSet


class TorchTD3Agent(TorchOffPolicy):
    """Twin delayed deep deterministic policy gradients, for your own networks.

    Args:
        actor: observations ``[B, *obs_shape]`` float32 to ``[B, action_dim]``. A tanh is taken of its
            outputs, unless its last layer is one.
        critic1: ``[observation | action]`` ``[B, obs + action_dim]`` to ``[B, 1]``; the actions that it sees
            are in ``[-1, 1]``, whatever the units of the environment. Where observations are no vectors it
            is called with two tensors, ``[B, *obs_shape]`` and ``[B, action_dim]``. The actor learns from
            this one.
        critic2: as ``critic1``, with weights of its own.
        action_dim: numbers in an action.
        actor_optimizer: over the actor's parameters; the learning rate in force is its own by default.
        critic_optimizer: over those of both critics.
        hyperparams: what differs from the card's defaults.
        device: ``auto``, or a torch device.
        spaces: the environment or its `SpaceSpec`: networks are checked against it, and actions scaled to its
            bounds. Without it they are in ``[-1, 1]`` until a pipeline shows its environment.
        obs_normalizer: scales observations. It learns from each window after the networks did.
        seed: of acting, learning and perturbing; None takes it from torch's generator.
        replay_path: folder for a replay in mapped files; without one it is in memory while it fits.
        squash: whether a tanh is taken of the actor's outputs; None looks at its last layer.

    Raises:
        Unsuitable: the networks do not fit the spaces, or the spaces not the algorithm.
    """

    card = TD3
    default_param_bounds: ClassVar[dict[str, tuple[float, float]]] = dict(TD3.bounds)
    default_log_params: ClassVar[Sequence[str]] = list(TD3.log_params)
    default_min_episodes_before_dormant: ClassVar[int] = TD3.min_episodes_before_dormant

    def __init__(
        self,
        actor: nn.Module,
        critic1: nn.Module,
        critic2: nn.Module,
        action_dim: int,
        actor_optimizer: torch.optim.Optimizer,
        critic_optimizer: torch.optim.Optimizer,
        hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
        device: str | torch.device = "auto",
        *,
        spaces: Any = None,
        obs_normalizer: ObsNormalizer | None = None,
        seed: int | None = None,
        replay_path: str | None = None,
        squash: bool | None = None,
    ) -> None:
        self._actor_optimizer = actor_optimizer
        self._critic_optimizer = critic_optimizer
        self._target_actor = target_of(actor)
        self._squash = not _ends_in_tanh(actor) if squash is None else squash
        super().__init__(
            actor,
            (critic1, critic2),
            action_dim,
            action_dim,
            hyperparams,
            device,
            obs_normalizer,
            seed,
            spaces,
            replay_path,
        )
        self._target_actor.to(self._device)

    @property
    def _modules(self) -> Mapping[str, nn.Module]:
        return {**super()._modules, "target_actor": self._target_actor}

    @property
    def _optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"actor_optimizer": self._actor_optimizer, "critic_optimizer": self._critic_optimizer}

    @property
    def _followed(self) -> Sequence[tuple[nn.Module, nn.Module]]:
        return [*super()._followed, (self._actor, self._target_actor)]

    def _head(self) -> Mapping[str, Any]:
        return {
            "head": "deterministic",
            **self._box.description(),
            "noise": self._hyperparams.params["exploration_noise"],
            "squash": self._squash,
            "random": self._memory.explores_at_random(self._hyperparams.params),
        }

    def _gradient_step(self, batch: Minibatch, params: Mapping[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
        critic_loss, q, errors = self._critic_loss(batch, params)
        self._critic_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(critic_loss)
        self._critic_optimizer.step()
        found = {"critic_loss": critic_loss.detach(), "q_mean": q.mean()}

        # Counted over all gradient steps: a window of one step must not delay the actor for ever.
        if (self._memory.gradient_steps + 1) % params["policy_delay"] == 0:
            actor_loss = self._actor_loss(batch)
            self._actor_optimizer.zero_grad(set_to_none=True)
            # Of the actor alone: the critic's own gradients here are nobody's.
            torch.autograd.backward(actor_loss, inputs=self._actor_weights)
            self._actor_optimizer.step()
            self._move_targets(params["tau"])
            found["actor_loss"] = actor_loss.detach()
        return found, errors

    def _critic_loss(self, batch: Minibatch, params: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Equations 9 and 14 over both critics; also Q of the first and the mean errors, ``[B]`` each."""
        with torch.no_grad():
            following = batch.next_observations
            clip = params["target_noise_clip"]
            # Actions are in [-1, 1]: a share of half the range of each, for each transition anew.
            noise = (batch.noise[0] * params["target_noise"]).clamp_(-clip, clip)
            next_actions = (self._acted(self._target_actor, following) + noise).clamp_(-1.0, 1.0)
            x = beside(following, next_actions)
            value = torch.minimum(self._targets[0](*x), self._targets[1](*x)).squeeze(-1)
            goal = torch.addcmul(batch.rewards, batch.discounts, value)
        x = beside(batch.observations, batch.actions)
        q1, q2 = self._critic1(*x).squeeze(-1), self._critic2(*x).squeeze(-1)
        first, second = q1 - goal, q2 - goal
        loss = torch.dot(batch.weights, first * first + second * second) / len(goal)
        return loss, q1.detach(), 0.5 * (first.detach().abs() + second.detach().abs())

    def _actor_loss(self, batch: Minibatch) -> Tensor:
        """What the first critic says of the actor's actions, with the sign that goes down."""
        actions = self._acted(self._actor, batch.observations)
        q: Tensor = self._critic1(*beside(batch.observations, actions))
        return -q.mean()

    def _acted(self, actor: nn.Module, observations: Tensor) -> Tensor:
        outputs: Tensor = actor(observations)
        return torch.tanh(outputs) if self._squash else outputs


def _ends_in_tanh(actor: nn.Module) -> bool:
    layers = describe(actor, "")
    if layers is not None:
        return bool(layers[-1]["op"] == "tanh")
    modules = list(actor.children())
    return bool(modules) and (isinstance(modules[-1], nn.Tanh) or _ends_in_tanh(modules[-1]))
