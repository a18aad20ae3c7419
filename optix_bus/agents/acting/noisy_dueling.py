"""The forward pass of Rainbow's network in NumPy: a trunk, two streams of noisy layers, atoms, their mean.

Papers: see `optix_bus.agents.torch.rainbow_network`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from optix_bus.agents.acting.images import forward_of

Array = np.ndarray[Any, Any]
Float32 = npt.NDArray[np.float32]
_PARTS = ("weight_mu", "weight_sigma", "bias_mu", "bias_sigma")


class NoisyDuelingForward:
    """Action values ``[B, n_actions]``: means of the distributions of returns.

    Every row has noise of its own, so that environments side by side explore apart from each other.

    Args:
        description: ``layers`` of the trunk (see `optix_bus.agents.acting.images.forward_of`), ``streams``
            (names of the noisy layers of ``value`` and ``advantage``), ``n_actions``, ``n_atoms``, ``v_min``,
            ``v_max`` and ``normalizer``.
        arrays: the weights by name. They are copied.
    """

    def __init__(self, description: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        self._streams = [
            [
                _Layer(*(arrays[f"{layer}.{part}"] for part in _PARTS))
                for layer in description["streams"][name]
            ]
            for name in ("value", "advantage")
        ]
        inputs = self._streams[0][0].inputs
        self._trunk = forward_of(description["layers"], arrays, description.get("normalizer"), inputs)
        self._shape = (int(description["n_actions"]), int(description["n_atoms"]))
        self._support = np.linspace(
            description["v_min"], description["v_max"], self._shape[1], dtype=np.float32
        )
        #: Standard normal numbers that a row of noise takes.
        self.noise_size = sum(layer.noise_size for stream in self._streams for layer in stream)
        self._noise: Float32 | None = None

    def set_noise(self, noise: Float32 | None) -> None:
        """Use these standard normal numbers ``[B, noise_size]`` in the next pass, or none."""
        self._noise = None if noise is None else np.sign(noise) * np.sqrt(np.abs(noise))

    def __call__(self, observations: Array) -> tuple[Float32, int]:
        """Action values, a fresh array, and their number of rows."""
        features, count = self._trunk(observations)
        rows = features[:count] if self._noise is not None else features
        used, outputs = 0, []
        for stream in self._streams:
            x = rows
            for number, layer in enumerate(stream):
                noise = None if self._noise is None else self._noise[:, used : used + layer.noise_size]
                used += layer.noise_size
                x = layer(x, noise)
                if number < len(stream) - 1:
                    np.maximum(x, 0.0, out=x)
            outputs.append(x)
        actions, atoms = self._shape
        value, advantage = outputs[0].reshape(-1, 1, atoms), outputs[1].reshape(-1, actions, atoms)
        logits = value + advantage - advantage.mean(axis=1, keepdims=True)
        logits -= logits.max(axis=2, keepdims=True)
        mass = np.exp(logits)
        values = (mass @ self._support) / mass.sum(axis=2)
        return values[:count], count


class _Layer:
    """One noisy layer, see `optix_bus.agents.torch.noisy.NoisyLinear`."""

    def __init__(self, weight_mu: Array, weight_sigma: Array, bias_mu: Array, bias_sigma: Array) -> None:
        # [in, out] in memory order, as in `Forward`.
        self._weights = [np.array(each.T, np.float32, order="C") for each in (weight_mu, weight_sigma)]
        self._biases = [np.array(each, np.float32) for each in (bias_mu, bias_sigma)]
        self.inputs = self._weights[0].shape[0]
        self.noise_size = sum(self._weights[0].shape)

    def __call__(self, x: Float32, noise: Float32 | None) -> Float32:
        y: Float32 = x @ self._weights[0]
        y += self._biases[0]
        if noise is not None:
            # (sigma * (out in^T)) x is out * (sigma (in * x)): no matrix has to be made for each row.
            more = (x * noise[:, : self.inputs]) @ self._weights[1]
            more += self._biases[1]
            more *= noise[:, self.inputs :]
            y += more
        return y
