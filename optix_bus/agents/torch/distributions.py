"""Log-probabilities and entropies of the heads of `optix_bus.agents.heads`, differentiable."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from optix_bus.agents.heads import FORBIDDEN, Bernoulli, Categorical, Gaussian, Head, MultiCategorical

_LOG_2PI = math.log(2.0 * math.pi)


def evaluate(
    head: Head, outputs: Tensor, actions: Tensor, masks: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probabilities ``[n]`` of actions, and entropies ``[n]`` of the policy.

    Args:
        head: the kind of policy.
        outputs: of the actor, ``[n, outputs]``.
        actions: as `Head.read` gives them, ``[n, ...]``.
        masks: ``[n, outputs]`` bool; what is False has probability 0 and no gradient.
    """
    if masks is not None:
        outputs = outputs.masked_fill(~masks, FORBIDDEN)
    return _HOW[type(head)](head, outputs, actions)


def _categorical(head: Categorical, logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    log_all = torch.log_softmax(logits, dim=-1)
    entropy = -(log_all.exp() * log_all).sum(-1)
    return log_all.gather(1, actions[:, None]).squeeze(1), entropy


def _multi_categorical(head: MultiCategorical, logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    parts = torch.split(logits, list(head.nvec), dim=1)
    found = [_categorical(Categorical(), part, actions[:, k]) for k, part in enumerate(parts)]
    log_probs, entropies = zip(*found, strict=True)
    return torch.stack(log_probs).sum(0), torch.stack(entropies).sum(0)


def _bernoulli(head: Bernoulli, logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    yes, no = logsigmoid(logits), logsigmoid(-logits)
    p = torch.sigmoid(logits)
    taken = actions.to(logits)
    log_probs = taken * yes + (1.0 - taken) * no
    return log_probs.sum(-1), -(p * yes + (1.0 - p) * no).sum(-1)


def _gaussian(head: Gaussian, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    centre, reach = (torch.from_numpy(each).to(outputs) for each in (head.centre, head.reach))
    mean = outputs[:, : head.dim] * reach + centre
    log_std = outputs[:, head.dim :] + reach.log()
    z = (actions.to(mean) - mean) * torch.exp(-log_std)
    log_probs = -(0.5 * z * z + log_std).sum(-1) - 0.5 * head.dim * _LOG_2PI
    return log_probs, log_std.sum(-1) + 0.5 * head.dim * (1.0 + _LOG_2PI)


_HOW: dict[type, Callable[[Any, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    Bernoulli: _bernoulli,
    Categorical: _categorical,
    Gaussian: _gaussian,
    MultiCategorical: _multi_categorical,
}
