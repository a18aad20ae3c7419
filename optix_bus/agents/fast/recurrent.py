"""A GRU over whole sequences in NumPy, and its gradients by hand.

Backpropagation through time, Werbos 1990, https://doi.org/10.1109/5.58337. For 16 sequences of 16 steps and
64 units, forth and back, this takes some 60 % of PyTorch's time, which goes into dispatching tiny operations.
Its LSTM is one operation and faster than one in NumPy, so there is none here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """Of one layer: ``[3 H, in]``, ``[3 H, H]``, ``[3 H]`` and ``[3 H]``; gates in the order r, z, n."""

    ih: Float32
    hh: Float32
    bias_ih: Float32
    bias_hh: Float32


@dataclass(frozen=True)
class Gradients:
    """Of a loss, with respect to inputs ``[L, M, in]`` and `Weights`."""

    inputs: Float32
    ih: Float32
    hh: Float32
    bias_ih: Float32
    bias_hh: Float32


class GRUSequence:
    """One layer over ``M`` sequences of ``L`` steps.

    Args:
        inputs: ``[L, M, in]``.
        hidden: ``[M, H]`` before the first step.
        weights: of the layer.

    Attributes:
        outputs: ``[L, M, H]``.
    """

    def __init__(self, inputs: Float32, hidden: Float32, weights: Weights) -> None:
        steps, rows, _ = inputs.shape
        size = hidden.shape[1]
        self._inputs, self._weights = inputs, weights
        # All of the input's part at once; of the memory's only what the step before has left.
        gates = _product(inputs, weights.ih, weights.bias_ih)
        weight = np.ascontiguousarray(weights.hh.T)
        self._states = np.empty((steps + 1, rows, size), np.float32)
        self._states[0] = hidden
        self._from_memory = np.empty((steps, rows, 3 * size), np.float32)
        for t in range(steps):
            h, gate, product = self._states[t], gates[t], self._from_memory[t]
            np.matmul(h, weight, out=product)
            product += weights.bias_hh
            both = gate[:, : 2 * size]
            both += product[:, : 2 * size]
            _sigmoid(both)
            new = gate[:, 2 * size :]
            new += both[:, :size] * product[:, 2 * size :]
            np.tanh(new, out=new)
            following = self._states[t + 1]
            np.subtract(h, new, out=following)
            following *= both[:, size:]
            following += new
        self._gates = gates
        self.outputs = self._states[1:]

    def gradients(self, outputs: Float32) -> Gradients:
        """Of a loss whose gradient with respect to the outputs is ``[L, M, H]``."""
        steps, rows, size = outputs.shape
        reset, update, new = (self._gates[..., k * size : (k + 1) * size] for k in range(3))
        before = self._states[:-1]
        # What does not depend on later steps, for all steps at once.
        by_new = (1.0 - update) * (1.0 - new * new)
        by_reset = self._from_memory[..., 2 * size :] * reset * (1.0 - reset)
        by_update = (before - new) * update * (1.0 - update)
        memory = np.empty((steps, rows, 3 * size), np.float32)
        inner = np.empty((steps, rows, size), np.float32)
        later = np.zeros((rows, size), np.float32)
        for t in range(steps - 1, -1, -1):
            later += outputs[t]
            step = memory[t]
            np.multiply(later, by_new[t], out=inner[t])
            np.multiply(inner[t], by_reset[t], out=step[:, :size])
            np.multiply(later, by_update[t], out=step[:, size : 2 * size])
            np.multiply(inner[t], reset[t], out=step[:, 2 * size :])
            later *= update[t]
            later += step @ self._weights.hh
        given = memory.copy()
        given[..., 2 * size :] = inner
        return _gradients(self._inputs, before, given, memory, self._weights)


def _product(inputs: Float32, weight: Float32, bias: Float32) -> Float32:
    flat = inputs.reshape(-1, inputs.shape[-1]) @ weight.T
    flat += bias
    return flat.reshape(*inputs.shape[:2], -1)


def _gradients(
    inputs: Float32, before: Float32, given: Float32, memory: Float32, weights: Weights
) -> Gradients:
    """From the gradients of what inputs and memory send to the gates, ``[L, M, 3 H]`` each."""
    from_inputs, from_memory = given.reshape(-1, given.shape[-1]), memory.reshape(-1, memory.shape[-1])
    return Gradients(
        inputs=(from_inputs @ weights.ih).reshape(inputs.shape),
        ih=from_inputs.T @ inputs.reshape(-1, inputs.shape[-1]),
        hh=from_memory.T @ before.reshape(-1, before.shape[-1]),
        bias_ih=from_inputs.sum(0),
        bias_hh=from_memory.sum(0),
    )


def _sigmoid(x: np.ndarray[Any, Any]) -> None:
    x *= 0.5
    np.tanh(x, out=x)
    x += 1.0
    x *= 0.5
