"""A network, its target and its optimizer: what every update of action values does with them alike."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class TargetedUpdate:
    """Remembering, taking over and descending.

    Args:
        network: learns.
        target: of the same shape, stands still in between.
        optimizer: over the parameters of the network.
        device: of both.
    """

    def __init__(
        self, network: nn.Module, target: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
    ) -> None:
        self._network = network
        self._target = target
        self._optimizer = optimizer
        self._device = device
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def synchronise(self) -> None:
        """Give the target the weights and buffers of the network."""
        take_over(self._network, self._target)

    def remember(self) -> Callable[[], None]:
        """Remember weights and moments; the function that comes back restores them."""
        modules = (self._network, self._target)
        before = [copy.deepcopy(module.state_dict()) for module in modules]
        moments = copy.deepcopy(self._optimizer.state_dict())

        def restore() -> None:
            for module, state in zip(modules, before, strict=True):
                module.load_state_dict(state)
            self._optimizer.load_state_dict(moments)

        return restore

    def finish(self) -> None:
        """Nothing: weights and moments are where they belong."""

    def is_finite(self) -> bool:
        """Whether all weights are."""
        return bool(torch.stack([torch.isfinite(p).all() for p in self._network.parameters()]).all())

    def _descend(self, loss: Tensor, max_grad_norm: float) -> Tensor:
        """One step of the optimizer; the norm of the gradients before they were cut."""
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self._parameters, max_grad_norm)
        self._optimizer.step()
        return norm.detach()

    def _tensor(self, array: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def take_over(network: nn.Module, target: nn.Module) -> None:
    """Copy weights and buffers in place."""
    with torch.no_grad():
        own = target.state_dict()
        for name, tensor in network.state_dict().items():
            own[name].copy_(tensor)


def frozen_copy(network: nn.Module) -> nn.Module:
    """A copy without gradients."""
    target = copy.deepcopy(network)
    for parameter in target.parameters():
        parameter.requires_grad_(False)
    return target
