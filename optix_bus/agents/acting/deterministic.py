"""Acting with a deterministic policy and added noise, in the units of the environment.

Lillicrap et al. 2016, Continuous control with deep reinforcement learning, https://arxiv.org/abs/1509.02971;
with the uncorrelated noise of Fujimoto et al. 2018, https://arxiv.org/abs/1802.09477, section 6.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from optix_bus.agents.acting.categorical import Logits
from optix_bus.agents.action_box import ActionBox
from optix_bus.interfaces import Acting

Array = np.ndarray[Any, Any]


class DeterministicPolicy:
    """The actor's output, scaled to the bounds of the actions; explores with normal noise, kept inside them.

    ``dim`` normal numbers are drawn for each row, in the order of the rows; none for a deterministic choice.

    Args:
        forward: ``[B, dim]`` of observations ``[B, *obs_shape]``.
        box: shape and bounds of the actions.
        noise: standard deviation of the noise, as a share of half the range of each number.
        squash: whether a tanh is still to be taken of the output; without it, it is in ``[-1, 1]`` already.
        random: draw uniformly instead, as agents do before they learn.
        rng: source of all randomness, until `reseed`.
    """

    def __init__(
        self,
        forward: Logits,
        box: ActionBox,
        noise: float,
        squash: bool = True,
        random: bool = False,
        rng: np.random.Generator | None = None,
    ) -> None:
        self._forward = forward
        self._box = box
        self._noise = np.float32(noise)
        self._squash = squash
        self._random = random
        self._rng = rng

    def act_batch(self, observations: np.ndarray[Any, Any], *, deterministic: bool = False) -> Acting:
        """Act for ``[B, *obs_shape]``: actions ``[B, *shape]``, no log-probabilities: there is no density."""
        box = self._box
        observed = np.asarray(observations)
        if self._random and not deterministic:
            return Acting(box.to_units(box.draw(self._source(), len(observed))))
        outputs, count = self._forward(observed)
        unit = outputs[:count, : box.dim]
        if self._squash:
            unit = np.tanh(unit)
        if not deterministic and self._noise > 0.0:
            noise = self._source().standard_normal((count, box.dim), np.float32)
            noise *= self._noise
            unit = unit + noise
        return Acting(box.to_units(unit))

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw all randomness of acting from this generator from now on."""
        self._rng = rng

    def _source(self) -> np.random.Generator:
        if self._rng is None:
            self._rng = np.random.default_rng()
        return self._rng


def make(
    forward: Logits, description: Mapping[str, Any], rng: np.random.Generator | None
) -> DeterministicPolicy:
    """For `optix_bus.agents.acting.load.HEADS`: the box's data, ``noise``, ``squash`` and ``random``."""
    return DeterministicPolicy(
        forward,
        ActionBox.from_description(description),
        float(description["noise"]),
        bool(description.get("squash", True)),
        bool(description.get("random")),
        rng,
    )
