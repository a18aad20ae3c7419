"""Log-probabilities and entropies of the heads of `optix_bus.agents.heads`, differentiable."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optix_bus.agents.heads import Categorical, Gaussian, Head

_LOG_2PI = math.log(2.0 * math.pi)


def evaluate(head: Head, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities ``[n]`` of actions, and entropies ``[n]`` of the policy.

    Args:
        head: the kind of policy.
        outputs: of the actor, ``[n, outputs]``.
        actions: as `Head.read` gives them, ``[n, ...]``.
    """
    return _HOW[type(head)](head, outputs, actions)


def _categorical(head: Categorical, logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    log_all = torch.log_softmax(logits, dim=-1)
    entropy = -(log_all.exp() * log_all).sum(-1)
    return log_all.gather(1, actions[:, None]).squeeze(1), entropy


def _gaussian(head: Gaussian, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    centre, reach = (torch.from_numpy(each).to(outputs) for each in (head.centre, head.reach))
    mean = outputs[:, : head.dim] * reach + centre
    log_std = outputs[:, head.dim :] + reach.log()
    z = (actions.to(mean) - mean) * torch.exp(-log_std)
    log_probs = -(0.5 * z * z + log_std).sum(-1) - 0.5 * head.dim * _LOG_2PI
    return log_probs, log_std.sum(-1) + 0.5 * head.dim * (1.0 + _LOG_2PI)


_HOW: dict[type, Callable[[Any, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    Categorical: _categorical,
    Gaussian: _gaussian,
}
