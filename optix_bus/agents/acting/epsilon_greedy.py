"""Acting with action values: the best action, or with probability epsilon any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from optix_bus.agents.acting.categorical import Logits, forbid
from optix_bus.interfaces import Acting


class EpsilonGreedyPolicy:
    """Action values from a forward pass; explores with a probability that falls with each step acted.

    Epsilon is ``max(floor, start * decay ** steps)``, where all environments together count, so that it falls
    within a window as it would if the window were shorter. `reseed`, with which a window begins, goes back to
    the start: whoever publishes a policy says where on the way it stands. Deterministic choices do not count.

    One uniform number is drawn for each row, in the order of the rows.

    Args:
        forward: action values ``[B, n_actions]`` of observations ``[B, *obs_shape]``.
        start: epsilon of the first step.
        floor: it falls no further.
        decay: factor of each step, at most 1.
        rng: source of all randomness, until `reseed`.
    """

    def __init__(
        self,
        forward: Logits,
        start: float,
        floor: float,
        decay: float,
        rng: np.random.Generator | None = None,
    ) -> None:
        self._forward = forward
        self._start, self._floor, self._decay = float(start), float(floor), float(decay)
        self._steps = 0
        self._rng = rng

    @property
    def epsilon(self) -> float:
        """Probability with which the next action is any."""
        return min(1.0, max(self._floor, self._start * self._decay**self._steps))

    def act_batch(
        self,
        observations: np.ndarray[Any, Any],
        *,
        deterministic: bool = False,
        action_masks: np.ndarray[Any, Any] | None = None,
    ) -> Acting:
        """Act for ``[B, *obs_shape]``: actions int64 ``[B]``, without log-probabilities.

        Where ``action_masks`` ``[B, n_actions]`` are False, an action is neither the best nor explored.
        """
        values, count = self._forward(np.asarray(observations))
        if action_masks is not None:
            forbid(values[:count], action_masks, -np.inf)
        actions = values[:count].argmax(axis=1)
        if deterministic:
            return Acting(actions)
        if self._rng is None:
            self._rng = np.random.default_rng()
        epsilon = self.epsilon
        draws = self._rng.random(count)
        self._steps += count
        explores = draws < epsilon
        if explores.any():
            # What is below epsilon is uniform there: the same number says which action.
            if action_masks is None:
                n = values.shape[1]
                actions[explores] = np.minimum(draws[explores] * (n / epsilon), n - 1).astype(np.int64)
            else:
                allowed = np.asarray(action_masks, bool)[explores]
                actions[explores] = _any_of(allowed, draws[explores] / epsilon)
        return Acting(actions)

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw all randomness of acting from this generator from now on, and explore as at first."""
        self._rng = rng
        self._steps = 0


def _any_of(allowed: npt.NDArray[np.bool_], draws: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """One of the allowed actions ``[rows, n]`` for each row, by uniform numbers ``[rows]`` below 1."""
    numbers = np.cumsum(allowed, axis=1)
    which = np.minimum((draws * numbers[:, -1]).astype(np.int64), numbers[:, -1] - 1)
    return np.asarray((numbers > which[:, None]).argmax(axis=1))


def make(
    forward: Logits, description: Mapping[str, Any], rng: np.random.Generator | None
) -> EpsilonGreedyPolicy:
    """For `optix_bus.agents.acting.load.HEADS`; the description says ``epsilon``, ``floor`` and ``decay``."""
    return EpsilonGreedyPolicy(
        forward, description["epsilon"], description["floor"], description["decay"], rng
    )
