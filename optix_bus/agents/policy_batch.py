"""What a policy-gradient loss of one's own is given, in whichever framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PolicyBatch:
    """A window for a loss, as tensors of the model's framework, where the model computes.

    Attributes:
        observations: ``[N, *obs_shape]``.
        actions: ``[N]`` int64 of discrete actions, otherwise ``[N, numbers]``.
        advantages: ``[N]``; without a critic the discounted return from each step on.
        returns: ``[N]``, targets of the values.
        log_probs: ``[N]``, of the actions now, differentiable.
        entropies: ``[N]``, of the policy now, differentiable.
        values: ``[N]``, differentiable, or None without a critic.
        hyperparams: those in force. In TensorFlow numbers are scalar tensors: the loss is traced once.
        masks: ``[N, entries]`` bool of the actions that were allowed, or None where all were; log_probs and
            entropies are those of the allowed ones.
    """

    observations: Any
    actions: Any
    advantages: Any
    returns: Any
    log_probs: Any
    entropies: Any
    values: Any | None
    hyperparams: Mapping[str, Any]
    masks: Any | None = None
