"""What off-policy agents for bounded actions do alike in TensorFlow: windows in, gradient steps out."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from optix_bus.agents.action_box import ActionBox
from optix_bus.agents.bounded_learner import BoundedReplayLearner
from optix_bus.agents.spaces import space_spec
from optix_bus.agents.tensorflow.base import trainable
from optix_bus.agents.tensorflow.critics import beside
from optix_bus.agents.tensorflow.networks import (
    check_built,
    check_call,
    check_outputs,
    graph,
    output_size,
)
from optix_bus.agents.tensorflow.parts import snapshot
from optix_bus.agents.tensorflow.replay_learner import TensorFlowReplayLearner
from optix_bus.agents.tensorflow.target import all_finite, target_of
from optix_bus.errors import Unsuitable
from optix_bus.rl import ObsNormalizer
from optix_bus.types import HyperparamSet

# Gradient steps that one call of the graph makes, where their draws do not depend on each other.
_TOGETHER = 16


@dataclass(frozen=True)
class Minibatch:
    """Transitions ``[B]`` as tensors; see `optix_bus.rl.replay.Transitions`. Actions are in ``[-1, 1]``.

    ``noise`` is ``[2, B, dim]`` standard normal, for the actions after and at the observations.
    """

    observations: Any
    actions: Any
    rewards: Any
    next_observations: Any
    discounts: Any
    weights: Any
    noise: Any


@dataclass(frozen=True)
class Step:
    """What one gradient step found.

    Attributes:
        statistics: by name, and whether it counts: what is computed only sometimes does not always.
        errors: ``[B]`` for priorities.
        norms: of the gradients of critics and actor; negative where there were none.
    """

    statistics: Mapping[str, tuple[Any, Any]]
    errors: Any
    norms: tuple[Any, Any]


class OffPolicyLearner(BoundedReplayLearner, TensorFlowReplayLearner):
    """An actor with twin critics and their targets, learning from a replay.

    A subclass answers `_gradient_step`, `_numbers` and what `TensorFlowLearner` asks for.

    Args:
        actor: observations ``[B, *obs_shape]`` float32 to ``[B, outputs]``.
        critics: two, ``[observation | action]`` ``[B, obs + dim]`` to ``[B, 1]``; actions in ``[-1, 1]``.
            Where observations are no vectors, of a list of both.
        action_dim: numbers in an action.
        outputs: numbers that the actor puts out.
        hyperparams: what differs from the card's defaults.
        obs_normalizer: scales observations; it learns from each window after the networks did.
        seed: of acting, learning and perturbing; None takes it from TensorFlow's generator.
        spaces: a `SpaceSpec` or an environment. Without it actions are in ``[-1, 1]`` until a pipeline
            shows its environment, see `adopt_spaces`.
        replay_path: folder for a replay in mapped files.
    """

    STATISTICS: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        actor: Any,
        critics: tuple[Any, Any],
        action_dim: int,
        outputs: int,
        hyperparams: HyperparamSet | Mapping[str, Any] | None,
        obs_normalizer: ObsNormalizer | None,
        seed: int | None,
        spaces: Any,
        replay_path: str | None,
    ) -> None:
        for name, model in (("actor", actor), ("critic1", critics[0]), ("critic2", critics[1])):
            check_built(name, model, None)
        self._actor = actor
        self._critic1, self._critic2 = critics
        self._targets = tuple(target_of(f"critic{n + 1}", critic) for n, critic in enumerate(critics))
        self._outputs = outputs
        self._graphs: dict[Any, Any] = {}
        #: How often the gradient steps were traced; only another number of observations needs it again.
        self.traces = 0
        spec = None if spaces is None else space_spec(spaces)
        self._box = ActionBox.cube(action_dim) if spec is None else ActionBox.of(spec.action)
        if spec is not None and self._box.dim != action_dim:
            raise Unsuitable(
                f"action_dim is {action_dim}, but those of {spec.environment} have {self._box.dim}"
            )
        found = output_size(actor)
        if found not in (None, outputs):
            raise Unsuitable(f"the actor gives {found} numbers, expected {outputs} for {action_dim} actions")
        self._bounds_known = spec is not None
        super().__init__(hyperparams, obs_normalizer, seed, replay_path)
        if spec is not None:
            self._check(spec.observation.shape, spec.environment)
            self._known_shape = spec.observation.shape

    @property
    def _models(self) -> Mapping[str, Any]:
        return {
            "actor": self._actor,
            "critic1": self._critic1,
            "critic2": self._critic2,
            "target_critic1": self._targets[0],
            "target_critic2": self._targets[1],
        }

    def _trained_by(self, optimizer: str) -> Sequence[Any]:
        return trainable(self._actor) if optimizer == "actor_optimizer" else self._critic_variables

    @property
    def _critic_variables(self) -> list[Any]:
        return trainable(self._critic1, self._critic2)

    @property
    def _followed(self) -> Sequence[tuple[Any, Any]]:
        """Models, each with the target that follows it."""
        return list(zip((self._critic1, self._critic2), self._targets, strict=True))

    @abstractmethod
    def _numbers(self, params: Mapping[str, Any]) -> dict[str, float]:
        """The hyperparameters that a gradient step reads: they may change without another graph."""

    @abstractmethod
    def _gradient_step(self, batch: Minibatch, params: Mapping[str, Any], number: Any) -> Step:
        """One gradient step in the graph, the ``number``-th of all from 0."""

    def _remember(self) -> Callable[[], None]:
        return snapshot(self._everything())

    def _everything(self) -> list[Any]:
        models = [v for model in self._models.values() for v in model.variables]
        moments = [v for optimizer in self._optimizers.values() for v in optimizer.variables]
        return [*models, *moments, *self._loose.values()]

    def _gradient_steps(self, due: int, params: Mapping[str, Any]) -> dict[str, float]:
        size, prioritized = params["batch_size"], params["per_alpha"] > 0.0
        together = 1 if prioritized else _TOGETHER
        numbers = np.array(list(self._numbers(params).values()), np.float32)
        k = len(self.STATISTICS)
        sums, counts, norms = np.zeros(k), np.zeros(k), np.zeros(2)
        for start in range(0, due, together):
            count = min(together, due - start)
            drawn = self._memory.sample(size * count, self._learning_rng, params)
            arrays = (
                self._normalized(drawn.observations),
                self._normalized(drawn.next_observations),
                drawn.actions,
                np.stack([drawn.rewards, drawn.discounts, drawn.weights], axis=1),
                self._learning_rng.standard_normal((count, 2, size, self._box.dim), np.float32),
            )
            # Images are bytes until their step.
            tensors = [
                tf.constant(each if each.dtype == np.uint8 else np.asarray(each, np.float32))
                for each in arrays
            ]
            first = tf.constant(self._memory.gradient_steps, tf.int32)
            found, errors = self._graph(tensors[0])(*tensors, tf.constant(numbers), first)
            more = np.asarray(found, np.float64)
            sums, counts = sums + more[:k], counts + more[k : 2 * k]
            # Not "where >= 0": what is not a number shall stay.
            norms = np.where(more[2 * k :] < 0.0, norms, more[2 * k :])
            self._memory.gradient_steps += count
            if prioritized:
                assert self._memory.replay is not None
                self._memory.replay.update_priorities(drawn.indices, np.asarray(errors))
        report = {
            name: float(total / times)
            for name, total, times in zip(self.STATISTICS, sums, counts, strict=True)
            if times > 0.0
        }
        report["grad_norm"] = float(np.hypot(*norms))
        if not all_finite([v for model in self._models.values() for v in model.weights]):
            report["loss"] = math.nan
        return report

    def _graph(self, observations: Any) -> Any:
        # Users freeze layers or replace networks between two windows; that makes another graph.
        learning = [v for model in self._models.values() for v in model.trainable_variables]
        seen = tf.TensorSpec([None, *observations.shape[1:]], observations.dtype)
        key = (seen, *(id(v) for v in learning))
        if key not in self._graphs:
            dim = self._box.dim
            shapes = [[None, dim], [None, 3], [None, 2, None, dim], [None]]
            numbers = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
            specs = [seen, seen, *numbers, tf.TensorSpec([], tf.int32)]
            self._graphs[key] = graph(self._steps, specs, self._actor, self._critic1, self._critic2)
        return self._graphs[key]

    def _steps(
        self,
        observations: Any,
        following: Any,
        actions: Any,
        columns: Any,
        noise: Any,
        numbers: Any,
        first: Any,
    ) -> tuple[Any, Any]:
        """Sums, counts ``[k]`` each and the last norms ``[2]`` in a row; errors ``[rows]``."""
        self.traces += 1
        names = list(self._numbers(self._hyperparams.params))
        params = {name: numbers[place] for place, name in enumerate(names)}
        steps, size = tf.shape(noise)[0], tf.shape(noise)[2]

        def step(number: Any, sums: Any, counts: Any, norms: Any, errors: Any) -> tuple[Any, ...]:
            rows = slice(number * size, (number + 1) * size)
            rewards, discounts, weights = tf.unstack(columns[rows], axis=1)
            before, after = (tf.cast(each[rows], tf.float32) for each in (observations, following))
            batch = Minibatch(before, actions[rows], rewards, after, discounts, weights, noise[number])
            found = self._gradient_step(batch, params, first + number)
            values, times = zip(*(found.statistics[name] for name in self.STATISTICS), strict=True)
            new = tf.stack([tf.cast(norm, tf.float32) for norm in found.norms])
            norms = tf.where(new < 0.0, norms, new)
            times = tf.stack([tf.cast(each, tf.float32) for each in times])
            errors = errors.write(number, found.errors)
            return number + 1, sums + tf.stack(values) * times, counts + times, norms, errors

        zeros = tf.zeros(len(self.STATISTICS))
        start = (tf.constant(0), zeros, zeros, -tf.ones(2), tf.TensorArray(tf.float32, size=steps))
        _, sums, counts, norms, errors = tf.while_loop(
            lambda number, *_: number < steps, step, start, parallel_iterations=1
        )
        return tf.concat([sums, counts, norms], 0), errors.concat()

    def _check(self, observation_shape: tuple[int, ...], where: str) -> None:
        """Raise `Unsuitable` unless the networks take what they will be given."""
        seen, acted = tf.zeros((2, *observation_shape)), tf.zeros((2, self._box.dim))
        check_outputs("actor", self._actor, observation_shape, self._outputs, where)
        both = beside(seen, acted)
        said: Any = [seen.shape[1:].as_list(), [self._box.dim]] if isinstance(both, list) else [both.shape[1]]
        for name, critic in (("critic1", self._critic1), ("critic2", self._critic2)):
            check_call(name, critic, both, said, 1, where)


def gradients_of(tape: Any, loss: Any, variables: Sequence[Any]) -> tuple[list[Any], Any]:
    """Gradients for variables, and their norm over all."""
    gradients = tape.gradient(loss, [v.value for v in variables])
    there = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    return gradients, tf.sqrt(tf.add_n([tf.reduce_sum(g * g) for g in there]))
