"""Acting with a categorical policy: one of ``n`` actions from logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from optix_bus.agents.heads import FORBIDDEN
from optix_bus.errors import Unsuitable
from optix_bus.interfaces import Acting

Array = np.ndarray[Any, Any]


class Logits(Protocol):
    """A forward pass: observations ``[B, *obs_shape]`` to logits ``[rows, n_actions]`` float32 and B.

    Rows beyond B mean nothing. The array may be changed by whoever gets it, and belongs to the next call.
    """

    def __call__(self, observations: Array) -> tuple[Array, int]:
        """Logits and the number of rows that mean something."""
        ...


class CategoricalPolicy:
    """Logits from a forward pass; samples by the inverse of the distribution function, or takes the mode.

    One uniform number is drawn for each row, in the order of the rows. The same generator, weights and
    observations give the same actions to the bit.

    Args:
        forward: logits ``[B, n_actions]`` of observations ``[B, *obs_shape]``.
        rng: source of all randomness, until `reseed`.
    """

    def __init__(self, forward: Logits, rng: np.random.Generator | None = None) -> None:
        self._forward = forward
        self._rng = rng
        self._scratch: dict[int, tuple[Array, ...]] = {}

    def act_batch(
        self,
        observations: np.ndarray[Any, Any],
        *,
        deterministic: bool = False,
        action_masks: np.ndarray[Any, Any] | None = None,
    ) -> Acting:
        """Act for ``[B, *obs_shape]``: actions int64 ``[B]``, log-probabilities float32 ``[B]``.

        A deterministic choice is the most probable action and has no log-probability. Where ``action_masks``
        ``[B, n_actions]`` are False, an action is never chosen, and the others have all the probability.
        """
        logits, count = self._forward(np.asarray(observations))
        if action_masks is not None:
            forbid(logits[:count], action_masks)
        if deterministic:
            return Acting(logits[:count].argmax(axis=1))
        rows, n = logits.shape
        if rows not in self._scratch:
            self._scratch[rows] = _scratch(rows, n)
        peak, weights, cumulated, draws, threshold, passed, index = self._scratch[rows]
        np.maximum.reduce(logits, axis=1, keepdims=True, out=peak)
        logits -= peak
        np.exp(logits, out=weights)
        np.add.accumulate(weights, axis=1, out=cumulated)
        total = cumulated[:, -1:]
        if self._rng is None:
            self._rng = np.random.default_rng()
        self._rng.random(dtype=np.float32, out=draws[:count, 0])
        np.multiply(draws, total, out=threshold)
        # Action k is chosen where the sum up to k is the first above the threshold. Only the n - 1 inner
        # sums are compared, so that rounding can never choose an action that does not exist.
        np.less_equal(cumulated[:, :-1], threshold, out=passed)
        actions = np.add.reduce(passed, axis=1, dtype=np.int64)
        if action_masks is not None:
            only_allowed(actions[:count], action_masks)
        log_probs = logits[index, actions]
        log_probs -= np.log(total[:, 0])
        return Acting(actions[:count], log_probs[:count])

    def action_probs(
        self, observations: np.ndarray[Any, Any], action_masks: np.ndarray[Any, Any] | None = None
    ) -> npt.NDArray[np.float32]:
        """Probability of each action, ``[B, n_actions]`` float32."""
        logits, count = self._forward(np.asarray(observations))
        if action_masks is not None:
            forbid(logits[:count], action_masks)
        weights = np.exp(logits[:count] - logits[:count].max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw all randomness of acting from this generator from now on."""
        self._rng = rng


def forbid(logits: Array, masks: Array, stand_in: float = FORBIDDEN) -> None:
    """Put ``stand_in`` in the place of logits ``[B, n]`` of what masks of that shape forbid, in place.

    By itself that is the logit of what has no probability.

    Raises:
        Unsuitable: the masks are for another number of actions, or forbid all of them.
    """
    allowed = np.asarray(masks, bool)
    if allowed.shape != logits.shape:
        raise Unsuitable(
            f"found action masks of shape {list(allowed.shape)}, expected {list(logits.shape)}: one entry "
            "for each output of the policy"
        )
    if not allowed.any(axis=1).all():
        row = int(allowed.any(axis=1).argmin())
        raise Unsuitable(f"found an action mask that allows nothing, in row {row}")
    np.copyto(logits, np.float32(stand_in), where=~allowed)


def only_allowed(actions: Array, masks: Array) -> None:
    """Where rounding has led behind the last allowed action, take that one, in place."""
    allowed = np.asarray(masks, bool)
    beyond = ~allowed[np.arange(len(actions)), actions]
    if beyond.any():
        actions[beyond] = allowed.shape[1] - 1 - allowed[beyond][:, ::-1].argmax(axis=1)


def make(
    forward: Logits, description: Mapping[str, Any], rng: np.random.Generator | None
) -> CategoricalPolicy:
    """For `optix_bus.agents.acting.load.HEADS`; the description says nothing more."""
    return CategoricalPolicy(forward, rng)


def _scratch(rows: int, n: int) -> tuple[Array, ...]:
    return (
        np.empty((rows, 1), np.float32),
        np.empty((rows, n), np.float32),
        np.empty((rows, n), np.float32),
        np.zeros((rows, 1), np.float32),
        np.empty((rows, 1), np.float32),
        np.empty((rows, n - 1), bool),
        np.arange(rows),
    )
