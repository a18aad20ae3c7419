"""Gradient steps of Rainbow by automatic differentiation.

Hessel et al. 2018, https://arxiv.org/abs/1710.02298, section 3: the distribution of an n-step target, moved
and put back onto the atoms, is what the distribution of the action taken is drawn to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optix_bus.agents.q_learning import Outcome
from optix_bus.agents.torch.networks import floating_type
from optix_bus.agents.torch.noisy import draw_noise, noisy_layers
from optix_bus.agents.torch.target import TargetedUpdate
from optix_bus.rl import Transitions
from optix_bus.rl.c51 import atoms, project


class RainbowUpdate(TargetedUpdate):
    """`optix_bus.agents.q_learning.QUpdate` in PyTorch.

    The network that learns, its target and the choice of the next action have noise of their own, drawn anew
    for each gradient step (Fortunato et al. 2018, https://arxiv.org/abs/1706.10295, section 3.1).

    Args:
        generator: of the noise, on the device of the networks.
    """

    def __init__(
        self,
        network: nn.Module,
        target: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        n_actions: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__(network, target, optimizer, device)
        self._n_actions = n_actions
        self._generator = generator
        self._noisy, self._target_noisy = noisy_layers(network), noisy_layers(target)

    def update(self, batch: Transitions, steps: int, params: Mapping[str, Any]) -> Outcome:
        """See `optix_bus.agents.q_learning.QUpdate.update`; errors are the divergences from the targets."""
        support = atoms(params["v_min"], params["v_max"], params["n_atoms"])
        dtype = floating_type(self._network)
        values = torch.from_numpy(support).to(self._device, dtype)
        size = len(batch.actions) // steps
        errors, numbers = [], []
        for start in range(0, len(batch.actions), size):
            rows = slice(start, start + size)
            observations, following = (
                self._tensor(array[rows]).to(dtype) for array in (batch.observations, batch.next_observations)
            )
            masks = None if batch.next_masks is None else self._tensor(batch.next_masks[rows])
            ahead = self._ahead(following, values, masks)
            target = project(ahead, batch.rewards[rows], batch.discounts[rows], support)
            draw_noise(self._noisy, self._generator)
            loss, found, q_mean = c51_loss(
                self._logits(self._network, observations),
                self._tensor(batch.actions[rows]).long(),
                self._tensor(target).to(dtype),
                self._tensor(batch.weights[rows]).to(dtype),
                values,
            )
            norm = self._descend(loss, params["max_grad_norm"])
            errors.append(found)
            numbers.append(torch.stack((loss.detach(), q_mean, norm)))
        reports = torch.stack(numbers).T.double().cpu().numpy()
        return Outcome(torch.cat(errors).double().cpu().numpy(), *np.asarray(reports))

    def _ahead(self, following: Tensor, values: Tensor, masks: Tensor | None) -> np.ndarray[Any, Any]:
        """Distributions ``[n, n_atoms]`` of the target for the actions that the learning network chooses
        among those that masks ``[n, n_actions]`` allow."""
        draw_noise(self._noisy, self._generator)
        draw_noise(self._target_noisy, self._generator)
        with torch.no_grad():
            choice = torch.softmax(self._logits(self._network, following), 2) @ values
            chosen = (choice if masks is None else choice.masked_fill(~masks, -torch.inf)).argmax(1)
            rows = torch.arange(len(chosen), device=chosen.device)
            mass = torch.softmax(self._logits(self._target, following)[rows, chosen], 1)
        found: np.ndarray[Any, Any] = mass.double().cpu().numpy()
        return found

    def _logits(self, network: nn.Module, observations: Tensor) -> Tensor:
        logits: Tensor = network(observations)
        return logits.reshape(len(observations), self._n_actions, -1)


def c51_loss(
    logits: Tensor, actions: Tensor, targets: Tensor, weights: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted mean of the cross-entropies, the divergences ``[n]`` and the mean value of the actions taken.

    Args:
        logits: ``[n, n_actions, n_atoms]``.
        actions: ``[n]`` int64.
        targets: ``[n, n_atoms]`` probabilities.
        weights: ``[n]``.
        values: ``[n_atoms]``.
    """
    taken = torch.log_softmax(logits[torch.arange(len(actions), device=actions.device), actions], dim=1)
    losses = -(targets * taken).sum(1)
    with torch.no_grad():
        # What remains of the loss at best is the entropy of the target: priorities are about the rest.
        errors = losses + torch.xlogy(targets, targets).sum(1)
        q_mean = (taken.exp() @ values).mean()
    return (weights * losses).mean(), errors, q_mean
