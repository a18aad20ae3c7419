"""Acting with action values of a noisy network: always the best action, under fresh noise at each step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from optix_bus.agents.acting.categorical import forbid
from optix_bus.interfaces import Acting

Array = np.ndarray[Any, Any]


class NoisyValues(Protocol):
    """A forward pass whose noise is given to it."""

    @property
    def noise_size(self) -> int:
        """Standard normal numbers that a row of noise takes."""
        ...

    def set_noise(self, noise: npt.NDArray[np.float32] | None) -> None:
        """Use this noise ``[B, noise_size]`` in the next pass, or none."""
        ...

    def __call__(self, observations: Array) -> tuple[Array, int]:
        """Action values ``[rows, n_actions]`` and the number of rows that mean something."""
        ...


class NoisyGreedyPolicy:
    """The best action under noise drawn for each row and step; under none where it is deterministic.

    Fortunato et al. 2018, https://arxiv.org/abs/1706.10295, section 3.1.

    Args:
        forward: action values.
        rng: source of all randomness, until `reseed`.
    """

    def __init__(self, forward: NoisyValues, rng: np.random.Generator | None = None) -> None:
        self._forward = forward
        self._rng = rng

    def act_batch(
        self,
        observations: np.ndarray[Any, Any],
        *,
        deterministic: bool = False,
        action_masks: np.ndarray[Any, Any] | None = None,
    ) -> Acting:
        """Act for ``[B, *obs_shape]``: actions int64 ``[B]``, without log-probabilities.

        Where ``action_masks`` ``[B, n_actions]`` are False, an action is never the best.
        """
        observed = np.asarray(observations)
        if deterministic:
            self._forward.set_noise(None)
        else:
            if self._rng is None:
                self._rng = np.random.default_rng()
            shape = (len(observed), self._forward.noise_size)
            self._forward.set_noise(self._rng.standard_normal(shape, np.float32))
        values, count = self._forward(observed)
        if action_masks is not None:
            forbid(values[:count], action_masks, -np.inf)
        return Acting(values[:count].argmax(axis=1))

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw all randomness of acting from this generator from now on."""
        self._rng = rng


def make(
    forward: NoisyValues, description: Mapping[str, Any], rng: np.random.Generator | None
) -> NoisyGreedyPolicy:
    """For `optix_bus.agents.acting.load.HEADS`; the description says nothing more."""
    return NoisyGreedyPolicy(forward, rng)
