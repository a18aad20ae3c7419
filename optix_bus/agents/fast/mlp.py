"""A feed-forward network with its backward pass, features first: activations are ``[units, n]``.

A layer is one matrix ``[out, in + 1]``; its last column is the bias, and every input carries a last row of
ones. So weights and biases, and their gradients, each come from a single matrix product.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Apply = Callable[[Float32], object]
Chain = Callable[[Float32, Float32, Float32], object]


def _tanh_chain(d: Float32, y: Float32, scratch: Float32) -> None:
    np.multiply(y, y, out=scratch)
    scratch *= d
    d -= scratch


def _relu_chain(d: Float32, y: Float32, scratch: Float32) -> None:
    np.sign(y, out=scratch)
    d *= scratch


def _sigmoid(x: Float32) -> None:
    x *= 0.5
    np.tanh(x, out=x)
    x += 1.0
    x *= 0.5


def _sigmoid_chain(d: Float32, y: Float32, scratch: Float32) -> None:
    np.subtract(1.0, y, out=scratch)
    scratch *= y
    d *= scratch


#: Activation in place, and ``chain(d, y, scratch)`` that turns dL/dy into dL/dx in place. All of them can be
#: undone from their output alone, so that inputs need not be kept.
ACTIVATIONS: dict[str, tuple[Apply, Chain]] = {
    "tanh": (lambda x: np.tanh(x, out=x), _tanh_chain),
    "relu": (lambda x: np.maximum(x, 0.0, out=x), _relu_chain),
    "sigmoid": (_sigmoid, _sigmoid_chain),
    "identity": (lambda x: None, lambda d, y, scratch: None),
}


class FlatMLP:
    """Layers over one flat vector of parameters.

    Args:
        sizes: units of input, hidden layers and output.
        activations: one name of `ACTIVATIONS` for each hidden layer; the output is linear.
        constants: parameters ``[constants, 1]`` that stand below the outputs, the same for every input.
    """

    def __init__(self, sizes: Sequence[int], activations: Sequence[str], constants: int = 0) -> None:
        self.sizes = tuple(sizes)
        self.constants = constants
        self.shapes = [(out, fan_in + 1) for fan_in, out in itertools.pairwise(sizes)]
        if constants:
            self.shapes.append((constants, 1))
        self.count = sum(rows * columns for rows, columns in self.shapes)
        self._activations = [ACTIVATIONS[name] for name in activations]
        self._buffers: dict[int, tuple[list[Float32], list[Float32], list[Float32]]] = {}
        self._inputs: list[Float32] = []

    def split(self, flat: Float32) -> list[Float32]:
        """Views ``[out, in + 1]`` of a flat vector ``[count]``."""
        views, start = [], 0
        for rows, columns in self.shapes:
            views.append(flat[start : start + rows * columns].reshape(rows, columns))
            start += rows * columns
        return views

    def forward(self, layers: Sequence[Float32], x: Float32) -> Float32:
        """Outputs ``[out + constants, n]`` of inputs ``[in + 1, n]`` whose last row is ones.

        The array is overwritten by the next call.
        """
        outputs, _, _ = self._buffer(x.shape[1])
        self._inputs = [x, *outputs[:-1]]
        last = len(self._activations)
        for weights, inputs, out, (apply, _) in zip(
            layers[:last], self._inputs[:-1], outputs[:-1], self._activations, strict=True
        ):
            np.matmul(weights, inputs, out=out[:-1])
            apply(out[:-1])
        np.matmul(layers[last], self._inputs[-1], out=outputs[-1][: self.sizes[-1]])
        if self.constants:
            outputs[-1][self.sizes[-1] :] = layers[-1]
        return outputs[-1]

    def backward(self, layers: Sequence[Float32], gradients: Sequence[Float32], d: Float32) -> None:
        """Write dL/dlayer into ``gradients``, from dL/doutput at the inputs of `forward`."""
        _, deltas, scratch = self._buffer(d.shape[1])
        if self.constants:
            np.add.reduce(d[self.sizes[-1] :], axis=1, keepdims=True, out=gradients[-1])
            d = d[: self.sizes[-1]]
        for number in range(len(self._activations), -1, -1):
            np.matmul(d, self._inputs[number].T, out=gradients[number])
            if number > 0:
                before = deltas[number - 1]
                np.matmul(layers[number][:, :-1].T, d, out=before)
                self._activations[number - 1][1](before, self._inputs[number][:-1], scratch[number - 1])
                d = before

    def _buffer(self, n: int) -> tuple[list[Float32], list[Float32], list[Float32]]:
        if n not in self._buffers:
            hidden, out = self.sizes[1:-1], self.sizes[-1]
            outputs = [np.ones((units + 1, n), np.float32) for units in hidden]
            deltas, scratch = ([np.empty((units, n), np.float32) for units in hidden] for _ in range(2))
            self._buffers[n] = ([*outputs, np.empty((out + self.constants, n), np.float32)], deltas, scratch)
        return self._buffers[n]


def with_ones(x: npt.NDArray[Any]) -> Float32:
    """Rows ``[n, in]`` as columns with a last row of ones, ``[in + 1, n]`` float32."""
    columns = np.ones((x.shape[1] + 1, x.shape[0]), np.float32)
    columns[:-1] = x.T
    return columns
