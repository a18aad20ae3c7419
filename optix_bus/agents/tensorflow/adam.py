"""Adam as its paper writes it, and a shorter way for Keras to take a step of Adam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


class PaperAdam(keras.optimizers.Adam):  # type: ignore[misc]  # Keras has no types
    """Adam with epsilon beside the corrected second moment, as in algorithm 1 of the paper and in PyTorch.

    Keras adds epsilon to the uncorrected moment ("epsilon hat"), which damps the first steps: with 1e-5, as
    the PPO benchmarks use it, the first step thirty times more.

    Kingma and Ba 2015, https://arxiv.org/abs/1412.6980.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step of one variable."""
        index = self._get_variable_index(variable)
        steps = tf.cast(self.iterations + 1, tf.float32)
        powers = (tf.pow(self.beta_1, steps), tf.pow(self.beta_2, steps))
        _apply(self, variable, index, gradient, learning_rate, powers)


def is_plain_adam(optimizer: Any, variables: Sequence[Any]) -> bool:
    """Whether a step is Adam's and nothing else, on dense float32 variables."""
    settings = ("clipnorm", "clipvalue", "global_clipnorm", "weight_decay", "loss_scale_factor")
    return (
        type(optimizer) in (keras.optimizers.Adam, PaperAdam)
        and not any(getattr(optimizer, name) for name in settings)
        and not (optimizer.use_ema or optimizer.amsgrad or optimizer.gradient_accumulation_steps)
        and all(v.constraint is None and v.dtype == "float32" for v in variables)
    )


def apply_gradients(optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
    """One step, as ``optimizer.apply``; for plain Adam one operation a variable instead of twenty."""
    if not is_plain_adam(optimizer, variables) or any(isinstance(g, tf.IndexedSlices) for g in gradients):
        optimizer.apply(gradients, variables)
        return
    steps = tf.cast(optimizer.iterations + 1, tf.float32)
    powers = (tf.pow(optimizer.beta_1, steps), tf.pow(optimizer.beta_2, steps))
    rate = tf.convert_to_tensor(optimizer.learning_rate)
    for variable, gradient in zip(variables, gradients, strict=True):
        if gradient is not None:
            index = optimizer._get_variable_index(variable)
            _apply(optimizer, variable, index, gradient, rate, powers)
    optimizer.iterations.assign_add(1)


def _apply(
    optimizer: Any, variable: Any, index: int, gradient: Any, rate: Any, powers: tuple[Any, Any]
) -> None:
    epsilon = tf.constant(optimizer.epsilon, tf.float32)
    if isinstance(optimizer, PaperAdam):
        epsilon *= tf.sqrt(1.0 - powers[1])
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,  # Keras hands over its own variable or that of TensorFlow
        m=optimizer._momentums[index].value.handle,
        v=optimizer._velocities[index].value.handle,
        beta1_power=powers[0],
        beta2_power=powers[1],
        lr=tf.convert_to_tensor(rate, tf.float32),
        beta1=optimizer.beta_1,
        beta2=optimizer.beta_2,
        epsilon=epsilon,
        grad=gradient,
    )
