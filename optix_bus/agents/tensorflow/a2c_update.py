"""One policy-gradient step from a window in one TensorFlow graph, with or without a value function.

Williams 1992, https://doi.org/10.1007/BF00992696; Mnih et al. 2016, https://arxiv.org/abs/1602.01783.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from optix_bus.agents.batch import Batch, Float32
from optix_bus.agents.heads import Head
from optix_bus.agents.policy_batch import PolicyBatch
from optix_bus.agents.tensorflow.adam import apply_gradients
from optix_bus.agents.tensorflow.base import trainable
from optix_bus.agents.tensorflow.distributions import evaluate
from optix_bus.agents.tensorflow.graphs import chunks, rows_of
from optix_bus.agents.tensorflow.networks import graph
from optix_bus.agents.tensorflow.parts import snapshot
from optix_bus.agents.tensorflow.ppo_update import clip_by_norm, normalised

#: The model and a `PolicyBatch` to the loss, a single number.
Loss = Callable[[Any, PolicyBatch], Any]
_REPORTED = ("policy_loss", "value_loss", "entropy", "loss", "grad_norm")


class GraphPolicyGradient:
    """`optix_bus.agents.batch.PPOUpdate` of one step.

    Args:
        model: a Keras model from observations to the outputs of the head, or to a pair of those and values
            ``[n, 1]``.
        critic: to values ``[n, 1]``, or None.
        optimizer: of Keras, built for the variables of both.
        head: what becomes of the outputs.
        loss: instead of that of A2C; called while the graph is traced.

    Attributes:
        traces: how often the step was traced. Numbers and rows may change from window to window; only another
            shape of observations, switching ``normalize_advantage``, and masks need another graph.
    """

    takes_masks = True

    def __init__(
        self, model: Any, critic: Any | None, optimizer: Any, head: Head, loss: Loss | None = None
    ) -> None:
        self._model = model
        self._critic = critic
        self._optimizer = optimizer
        self._head = head
        self._loss = loss
        self._models = [each for each in (model, critic) if each is not None]
        self._variables = trainable(*self._models)
        self._functions: dict[Any, Any] = {}
        self.traces = 0

    def is_for(self, model: Any, critic: Any | None, optimizer: Any, loss: Loss | None) -> bool:
        """Whether it updates these networks, with these of their variables, by this optimizer and loss."""
        same = self._model is model and self._critic is critic and self._optimizer is optimizer
        models = [each for each in (model, critic) if each is not None]
        known = [id(v) for v in self._variables]
        return same and self._loss is loss and [id(v) for v in trainable(*models)] == known

    def values(self, observations: Float32) -> Float32:
        """V of ``[N, *obs_shape]``, as ``[N]``; 0 without a critic."""
        key = ("values", rows_of(observations))
        if key not in self._functions:
            self._functions[key] = graph(self._values, [rows_of(observations)], *self._models)
        parts = [np.asarray(self._functions[key](tf.constant(x))) for x in chunks(observations)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def log_probs(self, observations: Float32, actions: np.ndarray[Any, Any], masks: Any = None) -> Float32:
        """Nothing of the step depends on what they were: zeros ``[N]``."""
        return np.zeros(len(observations), np.float32)

    def update(self, batch: Batch, params: Mapping[str, Any], rng: np.random.Generator) -> dict[str, float]:
        """One gradient step. Where anything is not finite, networks and moments are as before.

        Returns:
            policy_loss, value_loss (0 without a critic), entropy, loss, grad_norm and updates.
        """
        numbers = {name: value for name, value in params.items() if not isinstance(value, bool)}
        columns = np.stack([batch.advantages, batch.returns], axis=1)
        rest = [] if batch.masks is None else [batch.masks]
        arrays = [batch.observations, batch.actions, columns, *rest]
        run = self._step_for(arrays, tuple(numbers), bool(params["normalize_advantage"]))
        variables = [v for model in self._models for v in model.variables]
        restore = snapshot([*variables, *self._optimizer.variables])
        found, finite = run(
            tf.constant(list(numbers.values()), tf.float32), *(tf.constant(array) for array in arrays)
        )
        report = dict(zip(_REPORTED, np.asarray(found).tolist(), strict=True)) | {"updates": 1.0}
        if not bool(finite) or not all(math.isfinite(value) for value in report.values()):
            restore()
            report["loss"] = math.nan
        return report

    def _step_for(self, arrays: list[Any], names: tuple[str, ...], normalise: bool) -> Any:
        """The graph of a step for arrays of these kinds."""
        specs = [rows_of(each) for each in arrays]
        key = (names, normalise, *specs)
        if key not in self._functions:

            def traced(numbers: Any, *tensors: Any) -> Any:
                self.traces += 1
                params = dict(zip(names, tf.unstack(numbers), strict=True))
                return self._step({**params, "normalize_advantage": normalise}, *tensors)

            signature = [tf.TensorSpec([len(names)], tf.float32), *specs]
            own = self._loss is not None
            self._functions[key] = graph(traced, signature, *self._models, translate=own)
        return self._functions[key]

    def _step(
        self, params: Mapping[str, Any], observations: Any, actions: Any, columns: Any, *masks: Any
    ) -> tuple[Any, Any]:
        """The `_REPORTED` numbers and whether all weights are finite."""
        advantages, returns = tf.unstack(columns, axis=1)
        if params["normalize_advantage"]:
            advantages = normalised(advantages)
        handles = [v.value for v in self._variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(handles)
            outputs, values = self._evaluate(observations, training=True)
            log_probs, entropies = evaluate(self._head, outputs, actions, *masks)
            policy_loss = -tf.reduce_mean(log_probs * advantages)
            entropy = tf.reduce_mean(entropies)
            value_loss = tf.constant(0.0)
            if values is not None:
                value_loss = tf.reduce_mean(tf.square(values - returns))
            if self._loss is None:
                loss = policy_loss - params["entropy_coef"] * entropy + params["vf_coef"] * value_loss
            else:
                tensors = (observations, actions, advantages, returns, log_probs, entropies, values)
                loss = self._loss(self._model, PolicyBatch(*tensors, params, *masks))
        gradients, norm = clip_by_norm(tape.gradient(loss, handles), params["max_grad_norm"])
        apply_gradients(self._optimizer, gradients, self._variables)
        finite = [tf.reduce_all(tf.math.is_finite(v.value)) for v in self._variables]
        return tf.stack([policy_loss, value_loss, entropy, loss, norm]), tf.reduce_all(tf.stack(finite))

    def _values(self, observations: Any) -> Any:
        if self._critic is not None:
            return tf.reshape(self._critic(observations, training=False), [-1])
        _, values = self._evaluate(observations, training=False)
        return tf.zeros(tf.shape(observations)[0]) if values is None else values

    def _evaluate(self, observations: Any, training: bool) -> tuple[Any, Any | None]:
        found = self._model(observations, training=training)
        outputs, values = found if isinstance(found, tuple | list) else (found, None)
        if self._critic is not None:
            values = self._critic(observations, training=training)
        return outputs, None if values is None else tf.reshape(values, [-1])
