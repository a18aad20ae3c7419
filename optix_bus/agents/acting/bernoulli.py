"""Acting with independent yes-or-no numbers, one logit each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from optix_bus.agents.acting.categorical import Logits
from optix_bus.agents.heads import Bernoulli
from optix_bus.interfaces import Acting

Array = np.ndarray[Any, Any]


class BernoulliPolicy:
    """Each number is 1 with the probability that its logit says.

    One uniform number is drawn for each number of each row, in the order of the rows.

    Args:
        forward: logits ``[B, numbers]`` of observations ``[B, *obs_shape]``.
        head: shape of the actions.
        rng: source of all randomness, until `reseed`.
    """

    def __init__(self, forward: Logits, head: Bernoulli, rng: np.random.Generator | None = None) -> None:
        self._forward = forward
        self._shape = head.shape
        self._rng = rng

    def act_batch(self, observations: Array, *, deterministic: bool = False) -> Acting:
        """Act for ``[B, *obs_shape]``: actions int8 ``[B, *shape]``, log-probabilities float32 ``[B]``."""
        outputs, count = self._forward(np.asarray(observations))
        logits = outputs[:count]
        if deterministic:
            return Acting((logits > 0.0).astype(np.int8).reshape(count, *self._shape))
        if self._rng is None:
            self._rng = np.random.default_rng()
        taken = self._rng.random(logits.shape, np.float32) < _sigmoid(logits)
        # log sigmoid(l) where it was taken, log sigmoid(-l) where not.
        log_probs = -np.add.reduce(np.logaddexp(np.float32(0.0), np.where(taken, -logits, logits)), axis=1)
        return Acting(taken.astype(np.int8).reshape(count, *self._shape), log_probs)

    def action_probs(self, observations: Array) -> npt.NDArray[np.float32]:
        """Probability of each number to be 1, ``[B, numbers]`` float32."""
        outputs, count = self._forward(np.asarray(observations))
        return _sigmoid(outputs[:count])

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw all randomness of acting from this generator from now on."""
        self._rng = rng


def make(forward: Logits, description: Mapping[str, Any], rng: np.random.Generator | None) -> BernoulliPolicy:
    """For `optix_bus.agents.acting.load.HEADS`; the description says ``shape``."""
    return BernoulliPolicy(forward, Bernoulli(tuple(description["shape"])), rng)


def _sigmoid(logits: Array) -> npt.NDArray[np.float32]:
    return np.asarray(0.5 * (np.tanh(0.5 * logits) + 1.0), np.float32)
