"""Weights as arrays, whichever way round a framework keeps them.

In states and files they lie as in PyTorch: ``[out, in]`` and ``[filters, channels, height, width]``. What
Keras and Flax keep is called a kernel here: ``[in, out]`` and ``[height, width, channels, filters]``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from optix_bus.agents.images import weight_shapes

Array = np.ndarray[Any, Any]

_STORED = {2: (1, 0), 4: (3, 2, 0, 1)}
_KERNEL = {2: (1, 0), 4: (2, 3, 1, 0)}


def stored_weights(kernel: Array) -> Array:
    """A kernel as it is stored."""
    return np.ascontiguousarray(kernel.transpose(_STORED[kernel.ndim]))


def stored_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape in which a kernel of this shape is stored."""
    return tuple(shape[axis] for axis in _STORED[len(shape)])


def kernel_of(weights: Array) -> Array:
    """A kernel from what was stored of it; what never was a kernel comes back as it is."""
    return weights.transpose(_KERNEL[weights.ndim]) if weights.ndim in _KERNEL else weights


def orthogonal(fan_in: int, fan_out: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """``[fan_in, fan_out]`` with orthonormal rows or columns, uniform over all of them.

    Saxe et al. 2014, https://arxiv.org/abs/1312.6120; the signs make the draw uniform (Mezzadri 2007).
    """
    tall = rng.standard_normal((max(fan_in, fan_out), min(fan_in, fan_out)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diag(r))
    return q if fan_in >= fan_out else q.T


def image_kernels(
    shape: Sequence[int], outputs: int, output_gain: float, rng: np.random.Generator
) -> list[npt.NDArray[np.float32]]:
    """Orthogonal kernels of the network for images, see `optix_bus.agents.images.weight_shapes`.

    The gain is sqrt 2, that of the last layer ``output_gain``.
    """
    kernels = []
    shapes = weight_shapes(shape, outputs)
    for number, each in enumerate(shapes, start=1):
        gain = output_gain if number == len(shapes) else math.sqrt(2.0)
        weights = gain * orthogonal(math.prod(each[1:]), each[0], rng).T
        kernels.append(kernel_of(weights.reshape(each)).astype(np.float32))
    return kernels
