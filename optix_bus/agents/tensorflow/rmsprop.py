"""RMSProp with epsilon beside the root, as PyTorch has it."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class PlainRMSprop(keras.optimizers.RMSprop):  # type: ignore[misc]  # Keras has no types
    """RMSProp, uncentred and without momentum, with epsilon beside the root of the mean square.

    Keras adds epsilon under the root, which damps small gradients: with 1e-5, those below 3e-3.

    Tieleman and Hinton 2012, https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step of one variable."""
        square = self._velocities[self._get_variable_index(variable)]
        mean = self.rho * square.value + (1.0 - self.rho) * tf.square(gradient)
        square.assign(mean)
        variable.assign_sub(
            tf.cast(learning_rate, gradient.dtype) * gradient / (tf.sqrt(mean) + self.epsilon)
        )
