"""What off-policy agents for bounded actions do alike in PyTorch: windows in, gradient steps out."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optix_bus.agents.action_box import ActionBox
from optix_bus.agents.experience import Experience, read_experience
from optix_bus.agents.off_policy import OffPolicyMemory
from optix_bus.agents.spaces import space_spec
from optix_bus.agents.torch.base import TorchLearner
from optix_bus.agents.torch.device import resolve_device
from optix_bus.agents.torch.networks import describe, floating_type, output_size
from optix_bus.errors import LearningFailure, Unsuitable
from optix_bus.rl import ObsNormalizer
from optix_bus.types import EpisodeData, HyperparamSet, NamedArrays

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


class TorchOffPolicy(TorchLearner):
    """An actor with twin critics and their targets, learning from a replay.

    A subclass answers `_gradient_step` and what `TorchLearner` asks for.

    Args:
        actor: observations ``[B, *obs_shape]`` float32 to ``[B, outputs]``.
        critics: two, ``[observation | action]`` ``[B, obs + dim]`` to ``[B, 1]``; actions in ``[-1, 1]``.
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
        small = all(describe(module, "") is not None for module in (actor, *critics))
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
        self._checked = False
        self._bounds_known = spec is not None
        found = output_size(actor)
        if found not in (None, outputs):
            raise Unsuitable(f"the actor gives {found} numbers, expected {outputs} for {action_dim} actions")
        super().__init__(hyperparams, where, obs_normalizer, None, seed)
        if spec is not None:
            self._check(spec.observation.shape)

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

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Store a window ``[T]`` or ``[T, B]``, and make the gradient steps that are due.

        Returns:
            The algorithm's statistics as means over these steps; grad_norm of the last one; updates, samples,
            replay_size, environment_steps, gradient_steps and steps_without_successor.

        Raises:
            LearningFailure: something was not finite; weights, moments, clocks and replay are as before.
            ConfigurationError: the window has no usable shape.
            Unsuitable: it holds actions or observations that the networks are not made for.
        """
        experience = self._scaled(read_experience(episode_data))
        if not self._checked:
            self._check(experience.observations.shape[2:])
        params = self._hyperparams.params
        due, undo = self._memory.take(experience, params)
        report: dict[str, float] = {}
        if due:
            before = self._parts.arrays()
            report = self._gradient_steps(due, params)
            if not all(math.isfinite(value) for value in report.values()):
                self._parts.load(*before)
                undo()
                raise _failure(self.card.algorithm, episode_data.episode_id, experience, report)
        if self._obs_normalizer is not None:
            self._obs_normalizer.update(experience.observations[experience.valid])
        self._weights_changed(self.policy_version + 1)
        memory = self._memory
        return {
            **report,
            "updates": float(due),
            "samples": float(experience.valid.sum()),
            "replay_size": float(0 if memory.replay is None else len(memory.replay)),
            **{name: float(value) for name, value in memory.clocks().items()},
            "steps_without_successor": float(experience.without_successor),
        }

    def adopt_spaces(self, environment: Any) -> None:
        """Take the bounds of actions from an environment, where none were given and nothing was learnt yet.

        Pipelines call it before the first action of an agent, so that one that was built without ``spaces``
        acts in the units of its environment all the same.

        Args:
            environment: anything with ``observation_space`` and ``action_space``, or a `SpaceSpec`.
        """
        if self._bounds_known or self._memory.replay is not None:
            return
        action = space_spec(environment).action
        if action.kind == "box" and action.low and math.prod(action.shape) == self._box.dim:
            self._box = ActionBox.of(action)
            self._bounds_known = True

    def state(self) -> NamedArrays:
        """As `TorchLearner.state`, with the clocks. The replay is not part of it: see `replay_state`."""
        state = super().state()
        return NamedArrays(state.arrays, {**state.metadata, "memory": self._memory.clocks()})

    def load_state(self, state: NamedArrays) -> None:
        """As `TorchLearner.load_state`; the replay stays as it is."""
        super().load_state(state)
        description = state.metadata.get("policy", {})
        if not self._bounds_known and description.get("shape") == list(self._box.shape):
            # Whatever units the replay was collected in.
            self._box = ActionBox.from_description(description)
            self._bounds_known = self._box != ActionBox.cube(self._box.dim)
        self._memory.load_clocks(state.metadata.get("memory", {}))

    def replay_state(self) -> NamedArrays:
        """The replay: what a learner that goes on to the bit needs beside `state`."""
        return self._memory.state()

    def load_replay_state(self, state: NamedArrays) -> None:
        """Go on with what `replay_state` returned.

        Raises:
            CheckpointError: it belongs to another agent; nothing has changed then.
        """
        self._memory.load_state(state, self._hyperparams.params)

    def save_weights(self, path: str) -> None:
        """Write `state` to ``path``, a ``.safetensors`` file or a folder, and the replay beside it."""
        super().save_weights(path)
        self._memory.save(path)

    def load_weights(self, path: str) -> None:
        """Read what `save_weights` wrote; hyperparameters in force stay, and a replay if none was saved."""
        super().load_weights(path)
        self._memory.load(path, self._hyperparams.params)

    def _scaled(self, experience: Experience) -> Experience:
        """The same with actions ``[T, B, dim]`` in ``[-1, 1]``."""
        rows = experience.valid.reshape(-1)
        given = experience.actions.reshape(len(rows), -1)
        unit = np.zeros((len(rows), self._box.dim), np.float32)
        unit[rows] = self._box.to_unit(given[rows])
        return replace(experience, actions=unit.reshape(*experience.valid.shape, self._box.dim))

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
                torch.split(self._tensor(array), size)
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
                numbers, errors = self._gradient_step(Minibatch(*parts), params)
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

    def _normalized(self, observations: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return observations if self._obs_normalizer is None else self._obs_normalizer.normalize(observations)

    def _tensor(self, array: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device, floating_type(self._critic1))

    def _check(self, observation_shape: tuple[int, ...]) -> None:
        """Raise `Unsuitable` unless the networks take what they will be given."""
        if len(observation_shape) != 1:
            raise Unsuitable(
                f"found observations of shape {list(observation_shape)}, expected a vector [n], because "
                "critics take [observation | action]; gymnasium.wrappers.FlattenObservation makes vectors"
            )
        size = observation_shape[0]
        wanted = {
            "actor": (self._actor, size, self._outputs),
            "critic1": (self._critic1, size + self._box.dim, 1),
            "critic2": (self._critic2, size + self._box.dim, 1),
        }
        for name, (module, inputs, outputs) in wanted.items():
            example = torch.zeros((2, inputs), device=self._device, dtype=floating_type(module))
            try:
                with torch.no_grad():
                    found = list(module(example).shape)
            except (RuntimeError, ValueError, IndexError) as error:
                reason = str(error).splitlines()[0]
                raise Unsuitable(f"{name} does not take {inputs} numbers: {reason}") from error
            if found != [2, outputs]:
                raise Unsuitable(
                    f"{name} gives {found} for 2 rows of {inputs} numbers, expected [2, {outputs}]"
                )
        self._checked = True


def target_of(module: nn.Module) -> nn.Module:
    """A copy that gradients do not reach."""
    return copy.deepcopy(module).requires_grad_(False)


def _norm(tensors: Sequence[Tensor | None]) -> float:
    there = [tensor.detach() for tensor in tensors if tensor is not None]
    return float(torch.stack(torch._foreach_norm(there)).norm()) if there else 0.0


def _failure(
    algorithm: str, window: int, experience: Experience, report: Mapping[str, float]
) -> LearningFailure:
    ranges = {
        "rewards": experience.rewards[experience.valid],
        "observations": experience.observations[experience.valid],
        "actions": experience.actions[experience.valid],
    }
    found = ", ".join(f"{name} {array.min():.4g} to {array.max():.4g}" for name, array in ranges.items())
    bad = ", ".join(f"{name} {value}" for name, value in report.items() if not math.isfinite(value))
    return LearningFailure(
        f"window {window}: the {algorithm} update is not finite ({bad}); weights and replay are as before. "
        f"The window holds {found}. Try a lower learning_rate, or normalise observations and rewards"
    )
