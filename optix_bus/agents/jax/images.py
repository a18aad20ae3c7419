"""The network for images of Mnih et al. 2015 in Flax, whose convolutions have channels behind."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from optix_bus.agents.images import CONVOLUTIONS, UNITS, channels_last
from optix_bus.agents.kernels import image_kernels


class ImageInput(nn.Module):
    """Bytes as numbers from 0 to 1, channels behind: ``[B, *shape]`` to ``[B, height, width, channels]``.

    Attributes:
        channels_last: whether the last axis holds the channels.
    """

    channels_last: bool

    def __call__(self, images: jax.Array) -> jax.Array:
        """Images of two axes have one channel."""
        x = images / 255.0
        if x.ndim == 3:
            return x[..., None]
        return x if self.channels_last else x.transpose(0, 2, 3, 1)


class ImageFlatten(nn.Module):
    """``[B, height, width, channels]`` as ``[B, n]``, one channel behind the other."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Channels go in front, as they lie in PyTorch."""
        return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


def convolve(
    images: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any, **options: Any
) -> jax.Array:
    """What `jax.lax.conv_general_dilated` computes without padding and dilation, on a CPU as products.

    Inside of a loop, where all updates run, XLA's own convolutions take ten times as long on a CPU
    (https://github.com/jax-ml/jax/issues/12868).

    Args:
        images: ``[B, height, width, channels]``.
        kernel: ``[size, size, channels, filters]``.
        strides: the same for both axes.
        padding: none.
        options: for `jax.lax.conv_general_dilated`.
    """
    own = functools.partial(jax.lax.conv_general_dilated, window_strides=strides, padding=padding, **options)
    result: jax.Array = jax.lax.platform_dependent(
        images, kernel, cpu=functools.partial(_products, stride=int(strides[0])), default=own
    )
    return result


def _products(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A product for each place of the kernel, added up; what a stride passes over becomes channels first."""
    count, height, width, channels = images.shape
    size, _, _, filters = kernel.shape
    rows, columns = (height - size) // stride + 1, (width - size) // stride + 1
    if stride > 1 and size % stride == 0:
        size //= stride
        down, right, wide = rows + size - 1, columns + size - 1, stride * stride * channels
        blocks = images[:, : down * stride, : right * stride].reshape(
            count, down, stride, right, stride, channels
        )
        images = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(count, down, right, wide)
        places = kernel.reshape(size, stride, size, stride, channels, filters)
        kernel = places.transpose(0, 2, 1, 3, 4, 5).reshape(size, size, wide, filters)
        stride = 1
    total = jnp.zeros((count, rows, columns, filters), images.dtype)
    for i in range(size):
        for j in range(size):
            seen = images[:, i : i + stride * rows : stride, j : j + stride * columns : stride]
            total += seen @ kernel[i, j]
    return total


def build_cnn(outputs: int, *, shape: tuple[int, ...]) -> nn.Sequential:
    """Three convolutions and 512 units, rectified, for images of this shape, at least 36 x 36."""
    layers: list[Any] = [ImageInput(channels_last(shape))]
    for filters, size, stride in CONVOLUTIONS:
        convolution = nn.Conv(
            filters, (size, size), (stride, stride), padding="VALID", conv_general_dilated=convolve
        )
        layers += [convolution, jax.nn.relu]
    return nn.Sequential([*layers, ImageFlatten(), nn.Dense(UNITS), jax.nn.relu, nn.Dense(outputs)])


def image_weights(
    shape: tuple[int, ...], outputs: int, output_gain: float, rng: np.random.Generator
) -> dict[str, Any]:
    """Weights for `build_cnn`: orthogonal, gain sqrt 2 and ``output_gain`` at last, zero biases."""
    # An activation behind each layer but the last, `ImageInput` in front and `ImageFlatten` in the middle.
    places = (1, 3, 5, 8, 10)
    kernels = image_kernels(shape, outputs, output_gain, rng)
    return {
        f"layers_{place}": {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(kernel.shape[-1], jnp.float32)}
        for place, kernel in zip(places, kernels, strict=True)
    }
