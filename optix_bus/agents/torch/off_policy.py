"""What off-policy agents for bounded actions do alike in PyTorch: windows in, gradient steps out."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optix_bus.agents.action_box import ActionBox
from optix_bus.agents.bounded_learner import BoundedReplayLearner
from optix_bus.agents.off_policy import OffPolicyMemory
from optix_bus.agents.spaces import space_spec
from optix_bus.agents.torch.base import TorchLearner
from optix_bus.agents.torch.critics import JoinedCritic, beside
from optix_bus.agents.torch.device import resolve_device
from optix_bus.agents.torch.networks import describe, floating_type, output_size, shape_of
from optix_bus.errors import Unsuitable
from optix_bus.rl import ObsNormalizer
from optix_bus.types import HyperparamSet

# Gradient steps whose transitions and noise are drawn at once, where draws do not depend on each other.
_TOGETHER = 16


@dataclass(frozen=True)
class Minibatch:
    """Transitions ``[B]`` on the device; see `optix_bus.rl.replay.Batch`. Actions are in ``[-1, 1]``.

    ``noise`` is ``[2, B, dim]`` standard normal, for the actions after and at the observations.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    discounts: Tensor
    weights: Tensor
    noise: Tensor


class TorchOffPolicy(BoundedReplayLearner, TorchLearner):
    """An actor with twin critics and their targets, learning from a replay.

    A subclass answers `_gradient_step` and what `TorchLearner` asks for.

    Args:
        actor: observations ``[B, *obs_shape]`` float32 to ``[B, outputs]``.
        critics: two, ``[observation | action]`` ``[B, obs + dim]`` to ``[B, 1]``; actions in ``[-1, 1]``.
            Where observations are no vectors, of both apart.
        action_dim: numbers in an action.
        outputs: numbers that the actor puts out.
        spaces: a `SpaceSpec` or an environment. Without it actions are in ``[-1, 1]`` until a pipeline
            shows its environment, see `adopt_spaces`.
    """

    def __init__(
        self,
        actor: nn.Module,
        critics: tuple[nn.Module, nn.Module],
        action_dim: int,
        outputs: int,
        hyperparams: HyperparamSet | Mapping[str, Any] | None,
        device: str | torch.device,
        obs_normalizer: ObsNormalizer | None,
        seed: int | None,
        spaces: Any,
        replay_path: str | None,
    ) -> None:
        dense = [each.value if isinstance(each, JoinedCritic) else each for each in critics]
        small = all(describe(module, "") is not None for module in (actor, *dense))
        where = resolve_device(device, small=small)
        self._actor = actor.to(where)
        self._critic1, self._critic2 = (critic.to(where) for critic in critics)
        self._targets = tuple(target_of(critic) for critic in (self._critic1, self._critic2))
        self._memory = OffPolicyMemory(replay_path)
        self._outputs = outputs
        spec = None if spaces is None else space_spec(spaces)
        self._box = ActionBox.cube(action_dim) if spec is None else ActionBox.of(spec.action)
        if spec is not None and self._box.dim != action_dim:
            raise Unsuitable(
                f"action_dim is {action_dim}, but those of {spec.environment} have {self._box.dim}"
            )
        self._bounds_known = spec is not None
        found = output_size(actor)
        if found not in (None, outputs):
            raise Unsuitable(f"the actor gives {found} numbers, expected {outputs} for {action_dim} actions")
        super().__init__(hyperparams, where, obs_normalizer, None, seed)
        if spec is not None:
            self._check(spec.observation.shape, spec.environment)
            self._known_shape = spec.observation.shape

    @property
    def _modules(self) -> Mapping[str, nn.Module]:
        return {
            "actor": self._actor,
            "critic1": self._critic1,
            "critic2": self._critic2,
            "target_critic1": self._targets[0],
            "target_critic2": self._targets[1],
        }

    @property
    def _followed(self) -> Sequence[tuple[nn.Module, nn.Module]]:
        """Networks, each with the target that follows it."""
        return list(zip((self._critic1, self._critic2), self._targets, strict=True))

    @abstractmethod
    def _gradient_step(self, batch: Minibatch, params: Mapping[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
        """One gradient step: statistics by name, and errors ``[B]`` for priorities."""

    def _remember(self) -> Callable[[], None]:
        before = self._parts.arrays()
        return lambda: self._parts.load(*before)

    def _gradient_steps(self, due: int, params: Mapping[str, Any]) -> dict[str, float]:
        generator = torch.Generator(self._device).manual_seed(int(self._learning_rng.integers(2**63)))
        size, prioritized = params["batch_size"], params["per_alpha"] > 0.0
        together = 1 if prioritized else _TOGETHER
        found: dict[str, list[Tensor]] = {}
        self._gather()
        for start in range(0, due, together):
            count = min(together, due - start)
            drawn = self._memory.sample(size * count, self._learning_rng, params)
            noise = torch.randn(
                (count, 2, size, self._box.dim),
                generator=generator,
                device=self._device,
                dtype=floating_type(self._critic1),
            )
            columns = [
                torch.split(torch.from_numpy(np.ascontiguousarray(array)), size)
                for array in (
                    self._normalized(drawn.observations),
                    drawn.actions,
                    drawn.rewards,
                    self._normalized(drawn.next_observations),
                    drawn.discounts,
                    drawn.weights,
                )
            ]
            for parts in zip(*columns, noise, strict=True):
                # One step at a time: images are bytes until then.
                batch = Minibatch(*(part.to(self._device, noise.dtype) for part in parts))
                numbers, errors = self._gradient_step(batch, params)
                for name, value in numbers.items():
                    found.setdefault(name, []).append(value)
                self._memory.gradient_steps += 1
                if prioritized:
                    assert self._memory.replay is not None
                    self._memory.replay.update_priorities(drawn.indices, errors.cpu().numpy())
        report = {name: float(torch.stack(values).mean()) for name, values in found.items()}
        report["grad_norm"] = _norm([p.grad for p in (*self._actor_weights, *self._critic_weights)])
        if not math.isfinite(_norm([*self._actor_weights, *self._critic_weights, *self._following])):
            report["loss"] = math.nan
        return report

    def _gather(self) -> None:
        # Once for each window: users freeze layers or replace networks in between.
        pairs = self._followed
        self._actor_weights: list[Tensor] = [p for p in self._actor.parameters() if p.requires_grad]
        self._critic_weights: list[Tensor] = [
            p for critic in (self._critic1, self._critic2) for p in critic.parameters()
        ]
        self._leading: list[Tensor] = [p for source, _ in pairs for p in source.parameters()]
        self._following: list[Tensor] = [p for _, target in pairs for p in target.parameters()]
        self._buffers = [
            both for source, target in pairs for both in zip(source.buffers(), target.buffers(), strict=True)
        ]

    def _move_targets(self, tau: float) -> None:
        """``target <- target + tau (source - target)``; buffers, which are no averages, are copied."""
        with torch.no_grad():
            torch._foreach_lerp_(self._following, self._leading, tau)
            for buffer, target in self._buffers:
                target.copy_(buffer)

    def _check(self, observation_shape: tuple[int, ...], where: str) -> None:
        seen, acted = np.zeros((2, *observation_shape), np.float32), np.zeros((2, self._box.dim), np.float32)
        both = [each.numpy() for each in beside(torch.from_numpy(seen), torch.from_numpy(acted))]
        wanted = {
            "actor": (self._actor, [seen], self._outputs),
            "critic1": (self._critic1, both, 1),
            "critic2": (self._critic2, both, 1),
        }
        for name, (module, inputs, outputs) in wanted.items():
            said = " and ".join(_said(each.shape[1:]) for each in inputs)
            try:
                found = list(shape_of(module, self._device, *inputs))
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                reason = str(error).splitlines()[0]
                raise Unsuitable(f"{name} does not take {said} of {where}: {reason}") from error
            if found != [2, outputs]:
                raise Unsuitable(f"{name} gives {found} for 2 rows of {said}, expected [2, {outputs}]")


def target_of(module: nn.Module) -> nn.Module:
    """A copy that gradients do not reach."""
    return copy.deepcopy(module).requires_grad_(False)


def _said(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} numbers" if len(shape) == 1 else f"observations of shape {list(shape)}"


def _norm(tensors: Sequence[Tensor | None]) -> float:
    there = [tensor.detach() for tensor in tensors if tensor is not None]
    return float(torch.stack(torch._foreach_norm(there)).norm()) if there else 0.0
