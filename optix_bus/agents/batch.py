"""What one PPO update learns from, and what it reports; the same for every way of computing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

STATISTICS = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "loss")


@dataclass(frozen=True)
class Batch:
    """The transitions of a window, flat.

    Attributes:
        observations: ``[N, *obs_shape]`` float32.
        actions: ``[N, ...]``, as `optix_bus.agents.heads.Head.read` gives them.
        log_probs: ``[N]`` float32, of the policy that acted.
        advantages, returns, values: ``[N]`` float32.
        on_policy: ``log_probs`` are those of the networks as they are now, recomputed.
        masks: ``[N, entries]`` bool of the actions that were allowed, None where all were.
    """

    observations: Float32
    actions: npt.NDArray[Any]
    log_probs: Float32
    advantages: Float32
    returns: Float32
    values: Float32
    on_policy: bool
    masks: npt.NDArray[np.bool_] | None = None


class PPOUpdate(Protocol):
    """One way of computing a PPO update. Networks change only in `update`, and only if all stays finite."""

    def values(self, observations: Float32) -> Float32:
        """V of ``[N, *obs_shape]``, as ``[N]``."""
        ...

    def log_probs(
        self, observations: Float32, actions: npt.NDArray[Any], masks: npt.NDArray[np.bool_] | None = None
    ) -> Float32:
        """Log-probabilities ``[N]`` of actions ``[N, ...]`` among those that masks ``[N, entries]`` allow."""
        ...

    def update(self, batch: Batch, params: Mapping[str, Any], rng: np.random.Generator) -> dict[str, float]:
        """All epochs of one window.

        Returns:
            The mean of each of `STATISTICS` and of ``grad_norm`` over the last epoch; ``initial_kl`` and
            ``initial_ratio_error`` (the largest ``|ratio - 1|``) of the first minibatch; the number of
            gradient ``updates``. Where one of them is not finite, the networks are as before.
        """
        ...
