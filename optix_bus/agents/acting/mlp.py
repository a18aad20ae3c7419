"""The forward pass of a feed-forward policy in NumPy, float32, without allocating.

At batch 8 a framework spends ten times longer on dispatch than on arithmetic; NumPy does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from optix_bus.agents.acting.activations import NAMES, Activation, activation
from optix_bus.errors import ConfigurationError, Unsuitable

Array = np.ndarray[Any, Any]
Float32 = npt.NDArray[np.float32]

# BLAS picks other kernels, with other rounding, for one row and for a ragged edge of rows. With the batch
# rounded up, the numbers of a row do not depend on how many rows it came with: to the bit with the AVX-512
# kernels of OpenBLAS, to 1e-6 with its AVX2 kernels, which treat rows differently by position.
_ROWS = 8
_OTHERS = {"linear", "one_hot", "flatten", "append_constant"}


class Forward:
    """Layers of a description, compiled: observations ``[B, *obs_shape]`` in, outputs ``[B, out]``.

    Args:
        layers: one mapping for each layer, ``op`` being ``one_hot`` (``n``), ``flatten``, ``linear``
            (``weight``, ``bias``: names of arrays ``[out, in]`` and ``[out]``), an activation, or as the last
            one ``append_constant`` (``value``: name of an array ``[k]``), which widens the outputs.
        arrays: the weights by name. They are copied: later changes do not reach this object.
        normalizer: ``mean`` and ``var`` (names of arrays) and ``clip``; frozen statistics that scale
            observations first.

    Raises:
        ConfigurationError: the description names an unknown operation or a missing array.
    """

    def __init__(
        self,
        layers: Sequence[Mapping[str, Any]],
        arrays: Mapping[str, Array],
        normalizer: Mapping[str, Any] | None = None,
    ) -> None:
        self._one_hot = 0
        self._flatten = False
        self._steps: list[tuple[Float32, Float32 | None, list[Activation]]] = []
        self._tail: Float32 | None = None
        self._buffers: dict[int, tuple[Float32, list[Float32]]] = {}
        self._ends: dict[int, Float32] = {}
        for layer in layers:
            self._add(dict(layer), arrays)
        if not self._steps:
            raise ConfigurationError(
                "found a policy description without a linear layer, expected one or more"
            )
        self.inputs = int(self._steps[0][0].shape[0])
        self.outputs = int(self._steps[-1][0].shape[1]) + (0 if self._tail is None else len(self._tail))
        self._scale: tuple[Array, Array, float] | None = None
        if normalizer is not None:
            mean, var = (
                np.asarray(named_array(arrays, normalizer[key]), np.float64) for key in ("mean", "var")
            )
            self._scale = (mean, np.sqrt(var + 1e-8), float(normalizer["clip"]))

    def __call__(self, observations: Array) -> tuple[Float32, int]:
        """Outputs ``[rows, out]`` and B, the number of rows that mean something.

        The array is overwritten by the next call; ``rows`` is B rounded up.
        """
        count = len(observations)
        rows = -(-count // _ROWS) * _ROWS
        if rows not in self._buffers:
            self._buffers[rows] = (
                np.zeros((rows, self.inputs), np.float32),
                [np.empty((rows, weight.shape[1]), np.float32) for weight, _, _ in self._steps],
            )
        x, outputs = self._buffers[rows]
        self._enter(observations, x[:count])
        for (weight, bias, activations), out in zip(self._steps, outputs, strict=True):
            np.matmul(x, weight, out=out)
            if bias is not None:
                out += bias
            for apply in activations:
                apply(out)
            x = out
        return (x if self._tail is None else self._appended(x, self._tail)), count

    def _appended(self, x: Float32, tail: Float32) -> Float32:
        rows, width = x.shape
        if rows not in self._ends:
            self._ends[rows] = np.empty((rows, self.outputs), np.float32)
        end = self._ends[rows]
        end[:, :width] = x
        end[:, width:] = tail  # each time: whoever got the last outputs may have changed them
        return end

    def _enter(self, observations: Array, x: Float32) -> None:
        if self._one_hot:
            chosen = np.asarray(observations).reshape(len(x)).astype(np.int64)
            if chosen.size and not 0 <= int(chosen.min()) <= int(chosen.max()) < self._one_hot:
                raise Unsuitable(
                    f"found an observation outside 0..{self._one_hot - 1} in {chosen.tolist()[:8]}; "
                    "the policy was built for another space"
                )
            x[...] = 0.0
            x[np.arange(len(x)), chosen] = 1.0
            return
        if self._scale is not None:
            mean, std, clip = self._scale
            # In float64: a large mean would swallow what matters in float32.
            observations = np.clip((observations - mean) / std, -clip, clip)
        if self._flatten:
            observations = observations.reshape(len(x), -1)
        if observations.shape != x.shape:
            raise Unsuitable(
                f"found observations of shape {tuple(observations.shape[1:])}, "
                f"but the first layer of the policy takes {self.inputs} numbers"
            )
        x[...] = observations

    def _add(self, layer: dict[str, Any], arrays: Mapping[str, Array]) -> None:
        op = layer["op"]
        if self._tail is not None:
            raise ConfigurationError(f"found layer {op!r} behind append_constant, expected nothing")
        if op == "linear":
            # [in, out] in memory order: BLAS is faster on it, and rounds alike for any number of rows.
            weight = np.array(named_array(arrays, layer["weight"]).T, np.float32, order="C")
            name = layer.get("bias")
            bias = None if name is None else np.array(named_array(arrays, name), np.float32)
            self._steps.append((weight, bias, []))
        elif op in NAMES and self._steps:
            if op != "identity":
                self._steps[-1][2].append(activation(op, layer.get("parameter")))
        elif op == "append_constant" and self._steps:
            self._tail = np.array(named_array(arrays, layer["value"]), np.float32)
        elif op == "one_hot" and not self._steps:
            self._one_hot = int(layer["n"])
        elif op == "flatten" and not self._steps:
            self._flatten = True
        else:
            raise ConfigurationError(
                f"found layer {op!r} in a policy description, expected one of "
                f"{', '.join(sorted(NAMES | _OTHERS))}, one_hot and flatten only in front, "
                "append_constant only behind"
            )


def named_array(arrays: Mapping[str, Array], name: str) -> Array:
    """The array of that name; `ConfigurationError` says which there are where it is missing."""
    try:
        return arrays[name]
    except KeyError:
        raise ConfigurationError(
            f"the policy description names the array {name!r}, found only {', '.join(sorted(arrays))}"
        ) from None
