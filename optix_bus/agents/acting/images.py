"""The forward pass of a network for images in NumPy, float32.

A convolution is one matrix product: Chellapilla et al. 2006, "High Performance Convolutional Neural Networks
for Document Processing", https://inria.hal.science/inria-00112631, section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from optix_bus.agents.acting.activations import NAMES, Activation, activation
from optix_bus.agents.acting.mlp import Forward, named_array
from optix_bus.errors import ConfigurationError, Unsuitable

Array = np.ndarray[Any, Any]
Float32 = npt.NDArray[np.float32]


class Convolution:
    """Weights ``[filters, channels, height, width]`` over images ``[B, channels, height, width]``."""

    def __init__(self, weight: Array, bias: Array | None, stride: Sequence[int]) -> None:
        self.size = weight.shape[2], weight.shape[3]
        self.channels = int(weight.shape[1])
        self._weight = np.array(weight.reshape(len(weight), -1).T, np.float32, order="C")
        self._bias = None if bias is None else np.array(bias, np.float32)
        self._down, self._right = int(stride[0]), int(stride[1])

    def __call__(self, x: Float32) -> Float32:
        """``[B, filters, rows, columns]``."""
        patches = sliding_window_view(x, self.size, axis=(2, 3))[:, :, :: self._down, :: self._right]
        rows, _, down, right = patches.shape[:4]
        columns = patches.transpose(0, 2, 3, 1, 4, 5).reshape(rows * down * right, -1)
        out = columns @ self._weight
        if self._bias is not None:
            out += self._bias
        return np.ascontiguousarray(out.reshape(rows, down, right, -1).transpose(0, 3, 1, 2))

    def shape_behind(self, channels: int, height: int, width: int) -> tuple[int, int, int] | None:
        """Shape of what it makes of such an image; None where it cannot."""
        if channels != self.channels or height < self.size[0] or width < self.size[1]:
            return None
        down, right = (height - self.size[0]) // self._down + 1, (width - self.size[1]) // self._right + 1
        return self._weight.shape[1], down, right


class ImageForward:
    """Layers of a description with ``conv`` in it: images ``[B, *shape]`` in, outputs ``[B, out]``.

    Args:
        layers: perhaps ``image`` (``channels_last``: bytes become numbers from 0 to 1, channels go in front),
            ``conv`` (``weight``, ``bias``, ``stride``) and activations, ``flatten``, then those of `Forward`.
        arrays: the weights by name; they are copied.
        normalizer: as for `Forward`.
        features: numbers that ``flatten`` has to leave of an image where it is the last one; what comes out
            is then these. Without them a layer of `Forward` has to follow.

    Raises:
        ConfigurationError: the description names an unknown operation or a missing array.
    """

    def __init__(
        self,
        layers: Sequence[Mapping[str, Any]],
        arrays: Mapping[str, Array],
        normalizer: Mapping[str, Any] | None = None,
        features: int | None = None,
    ) -> None:
        ops = [layer["op"] for layer in layers]
        cut = ops.index("flatten") if "flatten" in ops else len(ops)
        behind = layers[cut + 1 :]
        self._behind = None if features is not None and not behind else Forward(behind, arrays)
        self._features = features if self._behind is None else self._behind.inputs
        self._channels_last: bool | None = None
        self._front: list[Convolution | Activation] = []
        self._known: set[tuple[int, ...]] = set()
        for layer in layers[:cut]:
            self._add(layer, arrays)
        self._scale: tuple[Array, Array, float] | None = None
        if normalizer is not None:
            mean, var = (
                np.asarray(named_array(arrays, normalizer[key]), np.float64) for key in ("mean", "var")
            )
            self._scale = (mean, np.sqrt(var + 1e-8), float(normalizer["clip"]))

    def __call__(self, observations: Array) -> tuple[Float32, int]:
        """Outputs ``[rows, out]`` and B, as `Forward` gives them.

        Raises:
            Unsuitable: the images have another shape than the network takes.
        """
        if observations.shape[1:] not in self._known:
            self._check(observations.shape[1:])
        x: Any = observations
        if self._scale is not None:
            mean, std, clip = self._scale
            x = np.clip((x - mean) / std, -clip, clip)
        x = np.array(x, np.float32)
        if self._channels_last is not None:
            x /= np.float32(255.0)
            if x.ndim == 3:
                x = x[:, None]
            elif self._channels_last:
                x = x.transpose(0, 3, 1, 2)
        for step in self._front:
            if isinstance(step, Convolution):
                x = step(x)
            else:
                step(x)
        flat = x.reshape(len(x), -1)
        return (flat, len(flat)) if self._behind is None else self._behind(flat)

    def _check(self, shape: tuple[int, ...]) -> None:
        convolutions = [step for step in self._front if isinstance(step, Convolution)]
        size = shape
        if self._channels_last is not None and len(shape) == 2:
            size = (1, *shape)
        elif self._channels_last and len(shape) == 3:
            size = (shape[2], shape[0], shape[1])
        behind: tuple[int, ...] | None = size if len(size) == 3 else None
        for step in convolutions:
            behind = None if behind is None else step.shape_behind(*behind)
        if behind is None or math.prod(behind) != self._features:
            order = "[height, width, channels]" if self._channels_last else "[channels, height, width]"
            raise Unsuitable(
                f"found observations of shape {list(shape)}, but the policy takes images {order} of "
                f"{convolutions[0].channels} channels, of the height and width that it was built for"
            )
        self._known.add(shape)

    def _add(self, layer: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        op = layer["op"]
        if op == "image" and not self._front:
            self._channels_last = bool(layer["channels_last"])
        elif op == "conv":
            bias = None if layer.get("bias") is None else named_array(arrays, layer["bias"])
            self._front.append(Convolution(named_array(arrays, layer["weight"]), bias, layer["stride"]))
        elif op in NAMES:
            if op != "identity":
                self._front.append(activation(op, layer.get("parameter")))
        else:
            raise ConfigurationError(
                f"found layer {op!r} before flatten in a policy description for images, expected conv, an "
                "activation, or image as the first"
            )


def forward_of(
    layers: Sequence[Mapping[str, Any]],
    arrays: Mapping[str, Array],
    normalizer: Mapping[str, Any] | None = None,
    features: int | None = None,
) -> Forward | ImageForward:
    """`ImageForward` where there is a convolution among the layers, `Forward` where there is none."""
    if any(layer["op"] == "conv" for layer in layers):
        return ImageForward(layers, arrays, normalizer, features)
    return Forward(layers, arrays, normalizer)
