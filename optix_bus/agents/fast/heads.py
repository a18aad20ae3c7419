"""Densities with their gradients derived by hand, rows last: outputs are ``[outputs, n]``.

With ``p`` the probabilities of one row, ``a`` the action and ``H`` the entropy of the row:

    categorical   d log p(a) / d logits = onehot(a) - p       d H / d logits = -p (log p + H)
    Bernoulli     d log p(a) / d logits = a - p               d H / d logits = -p (1 - p) logits
    Gaussian      d log p(a) / d mean   = z / std             d H / d log_std = 1
                  d log p(a) / d log_std = z^2 - 1            with z = (a - mean) / std
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from optix_bus.agents.fast.mlp import Float32
from optix_bus.agents.heads import FORBIDDEN, Bernoulli, Categorical, Gaussian, Head, MultiCategorical

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


class HandmadeMultiCategorical:
    """Logits of several choices side by side, ``[sum(nvec), n]``; actions ``[numbers, n]``."""

    def __init__(self, head: MultiCategorical) -> None:
        ends = np.cumsum(head.nvec).tolist()
        self._parts = [slice(end - size, end) for end, size in zip(ends, head.nvec, strict=True)]
        self._choices = [HandmadeCategorical() for _ in head.nvec]

    def columns(self, actions: Array) -> Array:
        """``[numbers, n]``."""
        return np.ascontiguousarray(actions.T)

    def evaluate(self, outputs: Float32, actions: Array) -> tuple[Float32, Float32]:
        """See `HandmadeHead`."""
        found = [
            choice.evaluate(outputs[part], actions[k])
            for k, (choice, part) in enumerate(zip(self._choices, self._parts, strict=True))
        ]
        log_probs, entropies = zip(*found, strict=True)
        return np.add.reduce(log_probs), np.add.reduce(entropies)

    def backward(self, pull: Float32, entropy_weight: float) -> Float32:
        """See `HandmadeHead`."""
        return np.concatenate([choice.backward(pull, entropy_weight) for choice in self._choices])


class HandmadeBernoulli:
    """Logits ``[numbers, n]``; actions ``[numbers, n]`` of 0 and 1."""

    def columns(self, actions: Array) -> Array:
        """``[numbers, n]``."""
        return np.ascontiguousarray(actions.T)

    def evaluate(self, outputs: Float32, actions: Array) -> tuple[Float32, Float32]:
        """See `HandmadeHead`."""
        self._logits, self._actions = outputs, actions
        self._p = 0.5 * (np.tanh(0.5 * outputs) + 1.0)
        softplus = np.logaddexp(np.float32(0.0), outputs)
        log_probs = np.add.reduce(actions * outputs - softplus, axis=0)
        return log_probs, np.add.reduce(softplus - self._p * outputs, axis=0)

    def backward(self, pull: Float32, entropy_weight: float) -> Float32:
        """See `HandmadeHead`."""
        d = (self._actions - self._p) * pull
        d += (entropy_weight * self._logits) * self._p * (1.0 - self._p)
        return np.asarray(d, np.float32)


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
    if isinstance(head, MultiCategorical):
        return HandmadeMultiCategorical(head)
    if isinstance(head, Bernoulli):
        return HandmadeBernoulli()
    return HandmadeGaussian(head) if isinstance(head, Gaussian) else None


def forbid(outputs: Float32, masks: Array | None) -> Float32:
    """Outputs ``[outputs, n]`` without what masks of that shape forbid, changed in place.

    Probabilities of 0 have gradients of 0, so that `HandmadeHead.backward` needs to know nothing of masks.
    """
    if masks is not None:
        np.copyto(outputs, np.float32(FORBIDDEN), where=~masks)
    return outputs


def _log_softmax(logits: Float32) -> tuple[Float32, Float32]:
    """Log-probabilities and probabilities ``[A, n]``; the logits are overwritten."""
    logits -= np.maximum.reduce(logits, axis=0)
    p = np.exp(logits)
    total = np.add.reduce(p, axis=0)
    p /= total
    logits -= np.log(total)
    return logits, p
