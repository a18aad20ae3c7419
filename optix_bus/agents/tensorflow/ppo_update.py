"""The PPO update in one TensorFlow graph: all epochs and minibatches of a window in a single call.

Schulman et al. 2017, https://arxiv.org/abs/1707.06347, equations 7 and 9.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from optix_bus.agents.batch import STATISTICS, Batch, Float32
from optix_bus.agents.heads import Head
from optix_bus.agents.tensorflow.adam import apply_gradients
from optix_bus.agents.tensorflow.base import trainable
from optix_bus.agents.tensorflow.distributions import evaluate
from optix_bus.agents.tensorflow.graphs import chunks, rows_of
from optix_bus.agents.tensorflow.networks import graph
from optix_bus.agents.tensorflow.parts import snapshot

Array = np.ndarray[Any, Any]

_NUMBERS = ("clip_ratio", "vf_coef", "entropy_coef", "max_grad_norm", "clip_value", "target_kl")


class GraphPPO:
    """`optix_bus.agents.batch.PPOUpdate` in TensorFlow.

    Attributes:
        traces: how often the update was traced. Numbers may change from window to window, and so may their
            rows; only another shape of observations, and switching ``normalize_advantage``, ``clip_value`` or
            ``target_kl`` on or off, or masks, need another graph.
    """

    takes_masks = True

    def __init__(self, actor: Any, critic: Any, optimizer: Any, head: Head) -> None:
        self._actor = actor
        self._critic = critic
        self._optimizer = optimizer
        self._head = head
        self._variables = trainable(actor, critic)
        self._functions: dict[Any, Any] = {}
        self.traces = 0

    def is_for(self, actor: Any, critic: Any, optimizer: Any) -> bool:
        """Whether it updates these networks, with these of their variables, by this optimizer."""
        same = self._actor is actor and self._critic is critic and self._optimizer is optimizer
        return same and [id(v) for v in trainable(actor, critic)] == [id(v) for v in self._variables]

    def values(self, observations: Float32) -> Float32:
        """V of ``[N, *obs_shape]``, as ``[N]``."""
        run = self._function(_value, [rows_of(observations)])
        parts = [run(tf.constant(x)) for x in chunks(observations)]
        return np.concatenate([np.asarray(part) for part in parts]) if parts else np.zeros(0, np.float32)

    def log_probs(self, observations: Float32, actions: Array, masks: Array | None = None) -> Float32:
        """Log-probabilities ``[N]`` of actions ``[N, ...]`` among those that masks ``[N, entries]`` allow."""
        arrays = [each for each in (observations, actions, masks) if each is not None]
        run = self._function(_log_prob, [rows_of(each) for each in arrays])
        parts = zip(*(chunks(each) for each in arrays), strict=True)
        return np.concatenate([np.asarray(run(*(tf.constant(each) for each in part))) for part in parts])

    def update(self, batch: Batch, params: Mapping[str, Any], rng: np.random.Generator) -> dict[str, float]:
        """All epochs of one window; see `optix_bus.agents.batch.PPOUpdate.update`."""
        rows = len(batch.actions)
        columns = np.stack([batch.log_probs, batch.advantages, batch.returns, batch.values], axis=1)
        orders = np.stack([rng.permutation(rows) for _ in range(params["n_epochs"])]).astype(np.int32)
        numbers = [math.inf if params[name] is None else params[name] for name in _NUMBERS]
        body = _epochs_of(
            bool(params["normalize_advantage"]),
            params["clip_value"] is not None,
            params["target_kl"] is not None,
        )
        rest = [] if batch.masks is None else [batch.masks]
        arrays = [batch.observations, batch.actions, columns, *rest]
        numbers_specs = [
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([], tf.bool),
            tf.TensorSpec([len(_NUMBERS)], tf.float32),
        ]
        run = self._function(body, numbers_specs + [rows_of(each) for each in arrays])
        restore = snapshot([*self._actor.variables, *self._critic.variables, *self._optimizer.variables])
        statistics, finite = run(
            tf.constant(orders),
            tf.constant(params["minibatch_size"], tf.int32),
            tf.constant(batch.on_policy),
            tf.constant(numbers, tf.float32),
            *(tf.constant(array) for array in arrays),
        )
        names = (*STATISTICS, "initial_kl", "initial_ratio_error", "grad_norm", "updates")
        report = dict(zip(names, np.asarray(statistics).tolist(), strict=True))
        if not bool(finite) or not all(math.isfinite(value) for value in report.values()):
            restore()
            report["loss"] = math.nan
        return report

    def _function(self, body: Any, specs: list[Any]) -> Any:
        """The graph of a body for tensors of these kinds."""
        key = (body, *specs)
        if key not in self._functions:

            def traced(*tensors: Any) -> Any:
                self.traces += body not in (_value, _log_prob)
                return body(self, *tensors)

            self._functions[key] = graph(traced, specs, self._actor, self._critic)
        return self._functions[key]


def _value(way: GraphPPO, x: Any) -> Any:
    return tf.reshape(way._critic(x, training=False), [-1])


def _log_prob(way: GraphPPO, x: Any, actions: Any, *masks: Any) -> Any:
    return evaluate(way._head, way._actor(x, training=False), actions, *masks)[0]


@functools.cache
def _epochs_of(normalise: bool, clip_value: bool, target_kl: bool) -> Any:
    """The same object for the same answers: it stands for a graph."""
    return functools.partial(_epochs, normalise=normalise, clip_value=clip_value, target_kl=target_kl)


def _epochs(
    way: GraphPPO,
    orders: Any,
    size: Any,
    on_policy: Any,
    numbers: Any,
    *arrays: Any,
    normalise: bool,
    clip_value: bool,
    target_kl: bool,
) -> tuple[Any, Any]:
    """Statistics ``[10]`` and whether all weights are finite."""
    params = dict(zip(_NUMBERS, tf.unstack(numbers), strict=True))
    rows = tf.shape(orders)[1]
    per_epoch = (rows + size - 1) // size
    total = per_epoch * tf.shape(orders)[0]

    def step(number: Any, updates: Any, far: Any, initial: Any, sums: Any, norms: Any) -> tuple[Any, ...]:
        epoch, place = number // per_epoch, number % per_epoch
        index = orders[epoch, place * size : tf.minimum((place + 1) * size, rows)]
        part = tuple(tf.gather(each, index) for each in arrays)
        first = tf.equal(number, 0)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([v.value for v in way._variables])
            loss, found, ratio = ppo_loss(
                way._actor,
                way._critic,
                part,
                params,
                way._head,
                exact=tf.logical_and(first, on_policy),
                normalise=normalise,
                clip_value=clip_value,
            )
        begin = tf.equal(place, 0)
        sums = tf.where(begin, tf.zeros_like(sums), sums) + tf.concat([found, [1.0]], 0)
        norms = tf.where(begin, tf.zeros_like(norms), norms)
        error = tf.reduce_max(tf.abs(ratio - 1.0))
        initial = tf.where(first, tf.stack([found[3], error]), initial)

        def move() -> Any:
            gradients = tape.gradient(loss, [v.value for v in way._variables])
            gradients, norm = clip_by_norm(gradients, params["max_grad_norm"])
            apply_gradients(way._optimizer, gradients, way._variables)
            return tf.stack([norm, 1.0])

        if target_kl:
            far = found[3] > 1.5 * params["target_kl"]
            moved = tf.cond(far, lambda: tf.zeros(2), move)
        else:
            moved = move()
        return number + 1, updates + moved[1], far, initial, sums, norms + moved

    start = (0, 0.0, False, tf.zeros(2), tf.zeros(len(STATISTICS) + 1), tf.zeros(2))
    _, updates, _, initial, sums, norms = tf.while_loop(
        lambda number, updates, far, *_: tf.logical_and(number < total, tf.logical_not(far)),
        step,
        [tf.convert_to_tensor(each) for each in start],
        parallel_iterations=1,
    )
    norm = tf.math.divide_no_nan(norms[0], norms[1])
    with tf.control_dependencies([updates]):
        finite = [tf.reduce_all(tf.math.is_finite(v.value)) for v in way._variables]
    statistics = tf.concat([sums[:-1] / sums[-1], initial, [norm, updates]], 0)
    return statistics, tf.reduce_all(tf.stack(finite))


def ppo_loss(
    actor: Any,
    critic: Any,
    part: tuple[Any, ...],
    params: Mapping[str, Any],
    head: Head,
    *,
    exact: Any = False,
    normalise: bool = True,
    clip_value: bool = False,
) -> tuple[Any, Any, Any]:
    """Loss, its `STATISTICS` ``[6]`` and the ratios ``[n]`` of one minibatch.

    Args:
        actor: gives the outputs of the head.
        critic: gives values.
        part: observations, actions, and ``[n, 4]``: log_probs, advantages, returns, values, as in `Batch`;
            perhaps masks.
        params: hyperparameters of the card, numbers or tensors.
        head: what becomes of the actor's outputs.
        exact: the networks are still the ones that acted. Recomputed log-probabilities of another batch shape
            may round differently; this keeps the first ratio at exactly 1.
        normalise: scale the advantages of the minibatch.
        clip_value: limit how far values may leave the old ones before they stop paying.
    """
    observations, actions, columns, *masks = part
    old, advantages, returns, old_values = tf.unstack(columns, axis=1)
    log_probs, entropies = evaluate(head, actor(observations, training=True), actions, *masks)
    values = tf.reshape(critic(observations, training=True), [-1])
    old = tf.where(exact, tf.stop_gradient(log_probs), old)

    if normalise:
        advantages = normalised(advantages)
    log_ratio = log_probs - old
    ratio = tf.exp(log_ratio)
    clip = params["clip_ratio"]
    limited = tf.clip_by_value(ratio, 1.0 - clip, 1.0 + clip)
    policy_loss = -tf.reduce_mean(tf.minimum(ratio * advantages, limited * advantages))

    errors = tf.square(values - returns)
    if clip_value:
        near = old_values + tf.clip_by_value(values - old_values, -params["clip_value"], params["clip_value"])
        errors = tf.maximum(errors, tf.square(near - returns))
    value_loss = tf.reduce_mean(errors)
    entropy = tf.reduce_mean(entropies)
    loss = policy_loss + params["vf_coef"] * value_loss - params["entropy_coef"] * entropy
    # Schulman 2020, http://joschu.net/blog/kl-approx.html, the estimator k3.
    kl = tf.reduce_mean((ratio - 1.0) - log_ratio)
    clipped = tf.reduce_mean(tf.cast(tf.abs(ratio - 1.0) > clip, ratio.dtype))
    return loss, tf.stop_gradient(tf.stack([policy_loss, value_loss, entropy, kl, clipped, loss])), ratio


def normalised(advantages: Any) -> Any:
    """Mean 0 and variance 1 over ``[n]``; a single one stays as it is."""
    count = tf.cast(tf.shape(advantages)[0], advantages.dtype)
    centred = advantages - tf.reduce_mean(advantages)
    deviation = tf.sqrt(tf.reduce_sum(centred * centred) / tf.maximum(count - 1.0, 1.0))
    return tf.where(count > 1.0, centred / (deviation + 1e-8), advantages)


def clip_by_norm(gradients: list[Any], limit: Any) -> tuple[list[Any], Any]:
    """Scale gradients to at most this norm over all of them; also returns the norm before.

    As PyTorch does it: ``limit / (norm + 1e-6)``, and no scaling below the limit.
    """
    there = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    norm = tf.sqrt(tf.add_n([tf.reduce_sum(g * g) for g in there]))
    scale = tf.minimum(limit / (norm + 1e-6), 1.0)
    return [None if g is None else g * scale for g in gradients], norm
