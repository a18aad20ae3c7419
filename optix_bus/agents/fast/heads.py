"""Densities with their gradients derived by hand, rows last: outputs are ``[outputs, n]``.

With ``p`` the probabilities of one row, ``a`` the action and ``H`` the entropy of the row:

    categorical   d log p(a) / d logits = onehot(a) - p       d H / d logits = -p (log p + H)
    Gaussian      d log p(a) / d mean   = z / std             d H / d log_std = 1
                  d log p(a) / d log_std = z^2 - 1            with z = (a - mean) / std
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from optix_bus.agents.fast.mlp import Float32
from optix_bus.agents.heads import Categorical, Gaussian, Head

Array = np.ndarray[Any, Any]
_LOG_2PI = math.log(2.0 * math.pi)


class HandmadeHead(Protocol):
    """A density that knows its own gradient; `backward` belongs to the last `evaluate`."""

    def columns(self, actions: Array) -> Array:
        """Actions ``[n, ...]`` with the rows last."""
        ...

    def evaluate(self, outputs: Float32, actions: Array) -> tuple[Float32, Float32]:
        """Log-probabilities ``[n]`` of actions with rows last, and entropies ``[n]``; may change outputs."""
        ...

    def backward(self, pull: Float32, entropy_weight: float) -> Float32:
        """dL/doutputs ``[outputs, n]`` of ``L = sum(pull * log_probs) - entropy_weight * sum(entropies)``."""
        ...


class HandmadeCategorical:
    """Logits ``[n_actions, n]``; actions ``[n]``."""

    def columns(self, actions: Array) -> Array:
        """One number a row needs no turning."""
        return actions

    def evaluate(self, outputs: Float32, actions: Array) -> tuple[Float32, Float32]:
        """See `HandmadeHead`."""
        self._log_all, self._p = _log_softmax(outputs)
        self._index, self._actions = np.arange(outputs.shape[1]), actions
        self._weighted = self._p * self._log_all
        self._entropy = -self._weighted.sum(axis=0)
        return self._log_all[actions, self._index], self._entropy

    def backward(self, pull: Float32, entropy_weight: float) -> Float32:
        """See `HandmadeHead`."""
        d: Float32 = self._p * -pull
        d[self._actions, self._index] += pull
        if entropy_weight != 0.0:
            weighted = self._weighted
            weighted += self._p * self._entropy
            weighted *= entropy_weight
            d += weighted
        return d


class HandmadeGaussian:
    """``[mean | log_std]`` ``[2 dim, n]``; actions ``[dim, n]``."""

    def __init__(self, head: Gaussian) -> None:
        self._dim = head.dim
        self._centre, self._reach = head.centre[:, None], head.reach[:, None]
        self._log_reach = np.log(self._reach)

    def columns(self, actions: Array) -> Array:
        """``[dim, n]``."""
        return np.ascontiguousarray(actions.T)

    def evaluate(self, outputs: Float32, actions: Array) -> tuple[Float32, Float32]:
        """See `HandmadeHead`."""
        log_std = outputs[self._dim :]
        log_std += self._log_reach
        self._precision = np.exp(-log_std)
        z = outputs[: self._dim]
        z *= -self._reach
        z -= self._centre
        z += actions
        z *= self._precision
        self._z = z
        total = np.add.reduce(log_std, axis=0)
        log_probs = -0.5 * np.add.reduce(z * z, axis=0) - total - np.float32(0.5 * self._dim * _LOG_2PI)
        return log_probs, total + np.float32(0.5 * self._dim * (1.0 + _LOG_2PI))

    def backward(self, pull: Float32, entropy_weight: float) -> Float32:
        """See `HandmadeHead`."""
        d = np.empty((2 * self._dim, len(pull)), np.float32)
        np.multiply(self._z, self._precision * self._reach, out=d[: self._dim])
        np.multiply(self._z, self._z, out=d[self._dim :])
        d[self._dim :] -= 1.0
        d *= pull
        d[self._dim :] -= entropy_weight
        return d


def handmade(head: Head) -> HandmadeHead | None:
    """The head with its gradient, None where nobody has derived it."""
    if isinstance(head, Categorical):
        return HandmadeCategorical()
    return HandmadeGaussian(head) if isinstance(head, Gaussian) else None


def _log_softmax(logits: Float32) -> tuple[Float32, Float32]:
    """Log-probabilities and probabilities ``[A, n]``; the logits are overwritten."""
    logits -= np.maximum.reduce(logits, axis=0)
    p = np.exp(logits)
    total = np.add.reduce(p, axis=0)
    p /= total
    logits -= np.log(total)
    return logits, p
