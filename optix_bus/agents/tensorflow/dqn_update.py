"""Gradient steps of deep Q-learning in one TensorFlow graph, for any Keras model.

Mnih et al. 2015, https://doi.org/10.1038/nature14236, algorithm 1; the choice of the next action as in
van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461, equation 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from optix_bus.agents.q_learning import Outcome
from optix_bus.agents.tensorflow.adam import apply_gradients
from optix_bus.agents.tensorflow.base import trainable
from optix_bus.agents.tensorflow.graphs import rows_of
from optix_bus.agents.tensorflow.networks import graph
from optix_bus.agents.tensorflow.parts import snapshot
from optix_bus.agents.tensorflow.ppo_update import clip_by_norm
from optix_bus.agents.tensorflow.target import all_finite, take_over
from optix_bus.rl import Transitions


class GraphDQN:
    """`optix_bus.agents.q_learning.QUpdate` in TensorFlow: many gradient steps are one call.

    Args:
        network: learns.
        target: of the same shape, stands still in between.
        optimizer: of Keras, built for the network.

    Attributes:
        traces: how often the update was traced; only another shape of observations, switching ``double``, and
            masks need another graph.
    """

    def __init__(self, network: Any, target: Any, optimizer: Any) -> None:
        self._network = network
        self._target = target
        self._optimizer = optimizer
        self._variables = trainable(network)
        self._functions: dict[Any, Any] = {}
        self.traces = 0

    def is_for(self, network: Any, target: Any, optimizer: Any) -> bool:
        """Whether it updates these models, with these of their variables, by this optimizer."""
        same = self._network is network and self._target is target and self._optimizer is optimizer
        return same and [id(v) for v in trainable(network)] == [id(v) for v in self._variables]

    def update(self, batch: Transitions, steps: int, params: Mapping[str, Any]) -> Outcome:
        """See `optix_bus.agents.q_learning.QUpdate.update`."""
        columns = np.stack([batch.rewards, batch.discounts, batch.weights], axis=1).astype(np.float32)
        arrays = (
            np.asarray(batch.observations, np.float32),
            np.asarray(batch.next_observations, np.float32),
            np.asarray(batch.actions, np.int32),
            columns,
            *(() if batch.next_masks is None else (batch.next_masks,)),
        )
        run = self._function(bool(params["double"]), arrays)
        errors, reports = run(
            tf.constant(steps, tf.int32),
            tf.constant(params["max_grad_norm"], tf.float32),
            *(tf.constant(array) for array in arrays),
        )
        return Outcome(np.asarray(errors, np.float64), *np.asarray(reports, np.float64).T)

    def synchronise(self) -> None:
        """Give the target the weights of the network."""
        take_over(self._network, self._target)

    def remember(self) -> Callable[[], None]:
        """Remember weights and moments; the function that comes back restores them."""
        return snapshot([*self._network.variables, *self._target.variables, *self._optimizer.variables])

    def is_finite(self) -> bool:
        """Whether all weights are."""
        return all_finite(self._network.weights)

    def _function(self, double: bool, arrays: Sequence[Any]) -> Any:
        specs = [rows_of(array) for array in arrays]
        key = (double, *specs)
        if key not in self._functions:

            def steps_of(*tensors: Any) -> tuple[Any, Any]:
                self.traces += 1
                return self._steps(*tensors, double=double)

            numbers = [tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float32)]
            self._functions[key] = graph(steps_of, [*numbers, *specs], self._network)
        return self._functions[key]

    def _steps(
        self,
        steps: Any,
        max_norm: Any,
        observations: Any,
        following: Any,
        actions: Any,
        columns: Any,
        *masks: Any,
        double: bool,
    ) -> tuple[Any, Any]:
        """Errors ``[rows]`` and loss, q_mean and grad_norm ``[steps, 3]``."""
        size = tf.shape(actions)[0] // steps

        def step(number: Any, errors: Any, reports: Any) -> tuple[Any, Any, Any]:
            rows = slice(number * size, (number + 1) * size)
            rewards, discounts, weights = tf.unstack(columns[rows], axis=1)
            allowed = [each[rows] for each in masks]
            ahead = among(self._target(following[rows], training=False), *allowed)
            if double:
                choice = among(self._network(following[rows], training=False), *allowed)
                chosen = tf.argmax(choice, axis=1)
                values = tf.gather(ahead, chosen, axis=1, batch_dims=1)
            else:
                values = tf.reduce_max(ahead, axis=1)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([v.value for v in self._variables])
                loss, found, q_mean = q_loss(
                    self._network, observations[rows], actions[rows], rewards + discounts * values, weights
                )
            gradients = tape.gradient(loss, [v.value for v in self._variables])
            gradients, norm = clip_by_norm(gradients, max_norm)
            apply_gradients(self._optimizer, gradients, self._variables)
            numbers = tf.stack([loss, q_mean, norm])
            return number + 1, errors.write(number, found), reports.write(number, numbers)

        start = (tf.constant(0), *(tf.TensorArray(tf.float32, size=steps) for _ in range(2)))
        _, errors, reports = tf.while_loop(
            lambda number, *_: number < steps, step, start, parallel_iterations=1
        )
        return errors.concat(), reports.stack()


def among(values: Any, allowed: Any = None) -> Any:
    """Action values ``[n, n_actions]`` with those that masks of that shape forbid at minus infinity."""
    return values if allowed is None else tf.where(allowed, values, tf.constant(-np.inf, values.dtype))


def q_loss(network: Any, observations: Any, actions: Any, targets: Any, weights: Any) -> tuple[Any, Any, Any]:
    """Weighted mean of the Huber loss (1 from the middle on), the errors ``[n]`` and the mean value.

    Args:
        network: action values ``[n, n_actions]`` of observations ``[n, *obs_shape]``.
        observations: ``[n, *obs_shape]``.
        actions: ``[n]`` int32.
        targets: ``[n]``; no gradient flows through them.
        weights: ``[n]``.
    """
    values = network(observations, training=True)
    taken = tf.reduce_sum(values * tf.one_hot(actions, tf.shape(values)[1], dtype=values.dtype), axis=1)
    errors = taken - tf.stop_gradient(targets)
    size = tf.abs(errors)
    losses = tf.where(size < 1.0, 0.5 * errors * errors, size - 0.5)
    return tf.reduce_mean(weights * losses), tf.stop_gradient(errors), tf.reduce_mean(taken)
