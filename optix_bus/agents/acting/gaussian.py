"""Acting with independent normal numbers from ``[mean | log_std]``, in the units of the environment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from optix_bus.agents.acting.categorical import Logits
from optix_bus.agents.heads import Gaussian, bounds_of
from optix_bus.interfaces import Acting

Array = np.ndarray[Any, Any]
_LOG_2PI = math.log(2.0 * math.pi)


class GaussianPolicy:
    """Means and standard deviations from a forward pass; samples, or takes the mean.

    ``dim`` normal numbers are drawn for each row, in the order of the rows. A sample is not clipped: its
    log-probability is that of the number as it is answered, and pipelines clip what the environment sees. A
    deterministic choice is the mean inside the bounds.

    Args:
        forward: ``[mean | log_std]`` ``[B, 2 dim]`` of observations ``[B, *obs_shape]``.
        head: shape and bounds of the actions.
        rng: source of all randomness, until `reseed`.
    """

    def __init__(self, forward: Logits, head: Gaussian, rng: np.random.Generator | None = None) -> None:
        self._forward = forward
        self._rng = rng
        self._shape, self._dim = head.shape, head.dim
        self._centre, self._reach = head.centre, head.reach
        self._log_reach = np.log(head.reach)
        self._low, self._high = bounds_of(head)

    def act_batch(self, observations: np.ndarray[Any, Any], *, deterministic: bool = False) -> Acting:
        """Act for ``[B, *obs_shape]``: actions float32 ``[B, *shape]``, log-probabilities float32 ``[B]``."""
        outputs, count = self._forward(np.asarray(observations))
        mean = outputs[:count, : self._dim] * self._reach
        mean += self._centre
        if deterministic:
            return Acting(np.clip(mean, self._low, self._high).reshape(count, *self._shape))
        log_std = outputs[:count, self._dim :] + self._log_reach
        std = np.exp(log_std)
        if self._rng is None:
            self._rng = np.random.default_rng()
        actions = self._rng.standard_normal((count, self._dim), np.float32)
        actions *= std
        actions += mean
        # From the action as it is stored, so that whoever learns from it computes the same number.
        z = (actions - mean) / std
        log_probs = -np.add.reduce(0.5 * z * z + log_std, axis=1) - np.float32(0.5 * self._dim * _LOG_2PI)
        return Acting(actions.reshape(count, *self._shape), log_probs)

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw all randomness of acting from this generator from now on."""
        self._rng = rng


def make(forward: Logits, description: Mapping[str, Any], rng: np.random.Generator | None) -> GaussianPolicy:
    """For `optix_bus.agents.acting.load.HEADS`; the description says ``shape``, ``low`` and ``high``."""
    shape, low, high = (tuple(description[key]) for key in ("shape", "low", "high"))
    return GaussianPolicy(forward, Gaussian(shape, low, high), rng)
