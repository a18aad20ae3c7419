"""Acting with a normal number behind a tanh, from ``[mean | log_std]``, in the units of the environment.

Haarnoja et al. 2018, Soft Actor-Critic Algorithms and Applications, https://arxiv.org/abs/1812.05905,
appendix C. The log-density of ``tanh(u)`` is that of u without ``log(1 - tanh(u)^2)``, computed as
``2 (log 2 - u - softplus(-2u))``, which is finite for every u.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from optix_bus.agents.acting.categorical import Logits
from optix_bus.agents.action_box import ActionBox
from optix_bus.interfaces import Acting

Array = np.ndarray[Any, Any]
_LOG_2 = math.log(2.0)
_LOG_2PI = math.log(2.0 * math.pi)


def log_density(mean: Array, log_std: Array, noise: Array) -> Array:
    """Log-density ``[N]`` on the cube of ``tanh(mean + exp(log_std) * noise)``, all ``[N, dim]``."""
    u = mean + np.exp(log_std) * noise
    normal = -0.5 * noise * noise - log_std - 0.5 * _LOG_2PI
    squashing = 2.0 * (_LOG_2 - u - np.logaddexp(0.0, -2.0 * u))
    return np.asarray(np.add.reduce(normal - squashing, axis=-1))


class SquashedGaussianPolicy:
    """Samples ``tanh(mean + std * noise)``, or takes ``tanh(mean)``, scaled to the bounds of the actions.

    ``dim`` normal numbers are drawn for each row, in the order of the rows.

    Args:
        forward: ``[mean | log_std]`` ``[B, 2 dim]`` of observations ``[B, *obs_shape]``.
        box: shape and bounds of the actions.
        log_std: bounds of the logarithm of the standard deviation.
        random: draw uniformly instead, as agents do before they learn. Deterministic choices stay the mean.
        rng: source of all randomness, until `reseed`.
    """

    def __init__(
        self,
        forward: Logits,
        box: ActionBox,
        log_std: tuple[float, float],
        random: bool = False,
        rng: np.random.Generator | None = None,
    ) -> None:
        self._forward = forward
        self._box = box
        self._log_std = log_std
        self._random = random
        self._rng = rng

    def act_batch(self, observations: np.ndarray[Any, Any], *, deterministic: bool = False) -> Acting:
        """Act for ``[B, *obs_shape]``: actions ``[B, *shape]``, log-probabilities float32 ``[B]``.

        A deterministic choice has no log-probability; the others are densities in the actions' own units.
        """
        box = self._box
        observed = np.asarray(observations)
        if self._random and not deterministic:
            drawn = box.draw(self._source(), len(observed))
            constant = -box.dim * _LOG_2 - box.log_volume
            return Acting(box.to_units(drawn), np.full(len(observed), constant, np.float32))
        outputs, count = self._forward(observed)
        mean = outputs[:count, : box.dim]
        if deterministic:
            return Acting(box.to_units(np.tanh(mean)))
        log_std = np.clip(outputs[:count, box.dim :], *self._log_std)
        noise = self._source().standard_normal((count, box.dim), np.float32)
        log_probs = log_density(mean, log_std, noise) - box.log_volume
        unit = np.tanh(mean + np.exp(log_std) * noise)
        return Acting(box.to_units(unit), log_probs.astype(np.float32, copy=False))

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw all randomness of acting from this generator from now on."""
        self._rng = rng

    def _source(self) -> np.random.Generator:
        if self._rng is None:
            self._rng = np.random.default_rng()
        return self._rng


def make(
    forward: Logits, description: Mapping[str, Any], rng: np.random.Generator | None
) -> SquashedGaussianPolicy:
    """For `optix_bus.agents.acting.load.HEADS`: the box's data, ``log_std`` bounds and ``random``."""
    low, high = description["log_std"]
    box = ActionBox.from_description(description)
    return SquashedGaussianPolicy(forward, box, (low, high), bool(description.get("random")), rng)
