"""Gradient steps of deep Q-learning by automatic differentiation, for any network on any device.

Mnih et al. 2015, https://doi.org/10.1038/nature14236, algorithm 1; the choice of the next action as in
van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461, equation 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optix_bus.agents.q_learning import Outcome
from optix_bus.agents.torch.networks import floating_type
from optix_bus.agents.torch.target import TargetedUpdate
from optix_bus.rl import Transitions

# Rows of one forward pass of the target network: bounds the memory that many steps of images take.
_CHUNK = 16384


class DQNUpdate(TargetedUpdate):
    """`optix_bus.agents.q_learning.QUpdate` in PyTorch."""

    def update(self, batch: Transitions, steps: int, params: Mapping[str, Any]) -> Outcome:
        """See `optix_bus.agents.q_learning.QUpdate.update`."""
        dtype = floating_type(self._network)
        observations, following = (
            self._tensor(array).to(dtype) for array in (batch.observations, batch.next_observations)
        )
        actions = self._tensor(batch.actions).long()[:, None]
        rewards, discounts, weights = (
            self._tensor(array).to(dtype) for array in (batch.rewards, batch.discounts, batch.weights)
        )
        forbidden = None if batch.next_masks is None else ~self._tensor(batch.next_masks)
        with torch.no_grad():
            ahead = torch.cat([self._target(part) for part in torch.split(following, _CHUNK)])
            if forbidden is not None:
                ahead = ahead.masked_fill(forbidden, -torch.inf)
            best = None if params["double"] else ahead.max(dim=1).values
        size = len(actions) // steps
        errors, numbers = [], []
        for start in range(0, len(actions), size):
            rows = slice(start, start + size)
            with torch.no_grad():
                if best is None:
                    choice = self._network(following[rows])
                    if forbidden is not None:
                        choice = choice.masked_fill(forbidden[rows], -torch.inf)
                    chosen = choice.argmax(dim=1, keepdim=True)
                    values = ahead[rows].gather(1, chosen).squeeze(1)
                else:
                    values = best[rows]
                targets = torch.addcmul(rewards[rows], discounts[rows], values)
            loss, found, q_mean = q_loss(
                self._network, observations[rows], actions[rows], targets, weights[rows]
            )
            norm = self._descend(loss, params["max_grad_norm"])
            errors.append(found)
            numbers.append(torch.stack((loss.detach(), q_mean, norm)))
        reports = torch.stack(numbers).T.double().cpu().numpy()
        return Outcome(torch.cat(errors).double().cpu().numpy(), *np.asarray(reports))


def q_loss(
    network: nn.Module, observations: Tensor, actions: Tensor, targets: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted mean of the Huber loss (1 from the middle on), the errors ``[n]`` and the mean value.

    Args:
        network: action values ``[n, n_actions]`` of observations ``[n, *obs_shape]``.
        observations: ``[n, *obs_shape]``.
        actions: ``[n, 1]`` int64.
        targets: ``[n]``.
        weights: ``[n]``.
    """
    values = network(observations).gather(1, actions).squeeze(1)
    losses = nn.functional.smooth_l1_loss(values, targets, reduction="none")
    seen = values.detach()
    return (weights * losses).mean(), seen - targets, seen.mean()
