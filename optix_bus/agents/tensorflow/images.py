"""The network for images of Mnih et al. 2015 in Keras.

TensorFlow convolves on the CPU with channels behind only. So images are turned on their way in, and what the
convolutions make of them is turned back: what stands behind has the weights that it has in PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from optix_bus.agents.images import CONVOLUTIONS, UNITS, channels_last
from optix_bus.agents.kernels import image_kernels


class ImageInput(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Bytes as numbers from 0 to 1, channels behind: ``[B, *shape]`` to ``[B, height, width, channels]``.

    Args:
        channels_last: whether the last axis holds the channels.
        options: of any Keras layer.
    """

    def __init__(self, channels_last: bool, **options: Any) -> None:
        super().__init__(**options)
        self.channels_last = channels_last

    def call(self, images: Any) -> Any:
        """Images of two axes have one channel."""
        x = images / 255.0
        if len(x.shape) == 3:
            return tf.expand_dims(x, -1)
        return x if self.channels_last else tf.transpose(x, [0, 2, 3, 1])

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """``[B, height, width, channels]``."""
        if len(input_shape) == 3:
            return (*input_shape, 1)
        rows, first, *rest = input_shape
        return (rows, first, *rest) if self.channels_last else (rows, *rest, first)

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        return {**super().get_config(), "channels_last": self.channels_last}


class ImageFlatten(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """``[B, height, width, channels]`` as ``[B, n]``, one channel behind the other."""

    def call(self, x: Any) -> Any:
        """Channels go in front, as they lie in PyTorch."""
        return tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [-1, int(np.prod(x.shape[1:]))])

    def compute_output_shape(self, input_shape: Sequence[int]) -> tuple[int | None, int]:
        """``[B, n]``."""
        return (input_shape[0], int(np.prod(input_shape[1:])))


def build_cnn(
    shape: tuple[int, ...],
    outputs: int,
    *,
    output_gain: float,
    rng: np.random.Generator,
    behind: Sequence[Any] = (),
) -> Any:
    """Three convolutions and 512 units, rectified; orthogonal weights, zero biases.

    Args:
        shape: of one image, at least 36 x 36; see `optix_bus.agents.images`.
        outputs: numbers that the last, linear layer puts out.
        output_gain: of the weights of that layer; of the others it is sqrt 2.
        rng: draws all weights.
        behind: layers to stand behind it.
    """
    # Zeros: other initialisers would draw from the generator of Keras.
    trained = [
        keras.layers.Conv2D(
            filters, size, stride, "valid", "channels_last", activation="relu", kernel_initializer="zeros"
        )
        for filters, size, stride in CONVOLUTIONS
    ]
    dense = [
        keras.layers.Dense(UNITS, "relu", kernel_initializer="zeros"),
        keras.layers.Dense(outputs, kernel_initializer="zeros"),
    ]
    front = [keras.Input(shape=shape), ImageInput(channels_last(shape))]
    network = keras.Sequential([*front, *trained, ImageFlatten(), *dense, *behind])
    kernels = image_kernels(shape, outputs, output_gain, rng)
    for layer, kernel in zip([*trained, *dense], kernels, strict=True):
        layer.kernel.assign(kernel)
    return network
