"""Acting with several independent choices at once: their logits stand side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from optix_bus.agents.acting.categorical import Logits, forbid, only_allowed
from optix_bus.agents.heads import MultiCategorical
from optix_bus.interfaces import Acting

Array = np.ndarray[Any, Any]


class MultiCategoricalPolicy:
    """Each number of an action is drawn for itself, by the inverse of its distribution function.

    One uniform number is drawn for each number of each row, in the order of the rows.

    Args:
        forward: logits ``[B, sum(nvec)]`` of observations ``[B, *obs_shape]``.
        head: shape of the actions and numbers of choices.
        rng: source of all randomness, until `reseed`.
    """

    def __init__(
        self, forward: Logits, head: MultiCategorical, rng: np.random.Generator | None = None
    ) -> None:
        self._forward = forward
        self._shape = head.shape
        self._cuts = np.cumsum(head.nvec)[:-1].tolist()
        self._numbers = len(head.nvec)
        self._rng = rng

    def act_batch(
        self, observations: Array, *, deterministic: bool = False, action_masks: Array | None = None
    ) -> Acting:
        """Act for ``[B, *obs_shape]``: actions int64 ``[B, *shape]``, log-probabilities float32 ``[B]``.

        ``action_masks`` ``[B, sum(nvec)]`` are False where something is never chosen.
        """
        parts, masks = self._parts(observations, action_masks)
        count = len(parts[0])
        if deterministic:
            best = np.stack([part.argmax(axis=1) for part in parts], axis=1)
            return Acting(best.reshape(count, *self._shape))
        if self._rng is None:
            self._rng = np.random.default_rng()
        draws = self._rng.random((count, self._numbers), np.float32)
        rows = np.arange(count)
        actions = np.empty((count, self._numbers), np.int64)
        log_probs = np.zeros(count, np.float32)
        for k, part in enumerate(parts):
            log_all = _log_softmax(part)
            cumulated = np.add.accumulate(np.exp(log_all), axis=1)
            threshold = draws[:, k : k + 1] * cumulated[:, -1:]
            # Only the inner sums are compared, so that rounding can never choose what does not exist.
            actions[:, k] = np.add.reduce(cumulated[:, :-1] <= threshold, axis=1, dtype=np.int64)
            if masks is not None:
                only_allowed(actions[:, k], masks[k])
            log_probs += log_all[rows, actions[:, k]]
        return Acting(actions.reshape(count, *self._shape), log_probs)

    def action_probs(self, observations: Array, action_masks: Array | None = None) -> npt.NDArray[np.float32]:
        """Probability of each choice of each number, side by side: ``[B, sum(nvec)]`` float32."""
        parts, _ = self._parts(observations, action_masks)
        return np.concatenate([np.exp(_log_softmax(part)) for part in parts], axis=1)

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw all randomness of acting from this generator from now on."""
        self._rng = rng

    def _parts(self, observations: Array, masks: Array | None) -> tuple[list[Array], list[Array] | None]:
        logits, count = self._forward(np.asarray(observations))
        if masks is not None:
            forbid(logits[:count], masks)
        parts = np.split(logits[:count], self._cuts, axis=1)
        return parts, None if masks is None else np.split(np.asarray(masks, bool), self._cuts, axis=1)


def make(
    forward: Logits, description: Mapping[str, Any], rng: np.random.Generator | None
) -> MultiCategoricalPolicy:
    """For `optix_bus.agents.acting.load.HEADS`; the description says ``shape`` and ``nvec``."""
    head = MultiCategorical(tuple(description["shape"]), tuple(description["nvec"]))
    return MultiCategoricalPolicy(forward, head, rng)


def _log_softmax(logits: Array) -> Array:
    centred = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
    return np.asarray(centred - np.log(np.add.reduce(np.exp(centred), axis=1, keepdims=True)))
