"""One policy-gradient step from a window, with or without a value function.

Williams 1992, https://doi.org/10.1007/BF00992696; Mnih et al. 2016, https://arxiv.org/abs/1602.01783.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optix_bus.agents.batch import Batch, Float32
from optix_bus.agents.heads import Head
from optix_bus.agents.policy_batch import PolicyBatch
from optix_bus.agents.torch.distributions import evaluate
from optix_bus.agents.torch.networks import floating_type

# Rows of one forward pass outside the update.
_CHUNK = 16384


#: The model and a `PolicyBatch` to the loss, a single number.
Loss = Callable[[nn.Module, PolicyBatch], Tensor]


class PolicyGradient:
    """`optix_bus.agents.batch.PPOUpdate` of one step.

    Args:
        model: observations to the outputs of the head, or to a pair of those and values ``[n, 1]``.
        critic: to values ``[n, 1]``, or None.
        optimizer: over the parameters of both.
        device: where they live.
        head: what becomes of the outputs.
        loss: instead of that of A2C.
    """

    takes_masks = True

    def __init__(
        self,
        model: nn.Module,
        critic: nn.Module | None,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        head: Head,
        loss: Loss | None = None,
    ) -> None:
        self._model = model
        self._critic = critic
        self._optimizer = optimizer
        self._device = device
        self._head = head
        self._loss = loss

    def values(self, observations: Float32) -> Float32:
        """V of ``[N, *obs_shape]``, as ``[N]``; 0 without a critic."""
        found = np.zeros(len(observations), np.float32)
        with torch.no_grad():
            for start in range(0, len(observations), _CHUNK):
                _, values = self._evaluate(self._inputs(observations[start : start + _CHUNK]))
                if values is not None:
                    found[start : start + _CHUNK] = values.float().cpu().numpy()
        return found

    def log_probs(self, observations: Float32, actions: np.ndarray[Any, Any], masks: Any = None) -> Float32:
        """Nothing of the step depends on what they were: zeros ``[N]``."""
        return np.zeros(len(observations), np.float32)

    def update(self, batch: Batch, params: Mapping[str, Any], rng: np.random.Generator) -> dict[str, float]:
        """One gradient step. Where anything is not finite, networks and moments are as before.

        Returns:
            policy_loss, value_loss (0 without a critic), entropy, loss, grad_norm and updates.
        """
        modules = [module for module in (self._model, self._critic) if module is not None]
        before = [copy.deepcopy(module.state_dict()) for module in modules]
        moments = copy.deepcopy(self._optimizer.state_dict())
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        loss, report = self._losses(batch, params)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(parameters, params["max_grad_norm"])
        report |= {"loss": float(loss.detach()), "grad_norm": float(norm.detach()), "updates": 1.0}
        self._optimizer.step()
        if not all(math.isfinite(value) for value in report.values()) or not _finite(modules):
            for module, state in zip(modules, before, strict=True):
                module.load_state_dict(state)
            self._optimizer.load_state_dict(moments)
            report["loss"] = math.nan
        return report

    def _losses(self, batch: Batch, params: Mapping[str, Any]) -> tuple[Tensor, dict[str, float]]:
        observations = self._inputs(batch.observations)
        outputs, values = self._evaluate(observations)
        actions, advantages, returns = (
            torch.from_numpy(np.ascontiguousarray(each)).to(self._device)
            for each in (batch.actions, batch.advantages, batch.returns)
        )
        if params["normalize_advantage"] and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        masks = None if batch.masks is None else torch.from_numpy(batch.masks).to(self._device)
        log_probs, entropies = evaluate(self._head, outputs, actions, masks)
        policy_loss = -(log_probs * advantages).mean()
        value_loss = torch.zeros(()) if values is None else ((values - returns) ** 2).mean()
        entropy = entropies.mean()
        if self._loss is None:
            loss = policy_loss - params["entropy_coef"] * entropy
            loss = loss if values is None else loss + params["vf_coef"] * value_loss
        else:
            numbers = (observations, actions, advantages, returns, log_probs, entropies, values)
            loss = self._loss(self._model, PolicyBatch(*numbers, dict(params), masks))
        found = {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
        return loss, {name: float(each.detach()) for name, each in found.items()}

    def _evaluate(self, observations: Tensor) -> tuple[Tensor, Tensor | None]:
        found = self._model(observations)
        outputs, values = found if isinstance(found, tuple) else (found, None)
        if self._critic is not None:
            values = self._critic(observations)
        return outputs, None if values is None else values.reshape(-1)

    def _inputs(self, observations: Float32) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(observations)).to(self._device)
        return x.to(floating_type(self._model))


def _finite(modules: Sequence[nn.Module]) -> bool:
    tensors = [p for module in modules for p in module.parameters()]
    return bool(torch.stack([torch.isfinite(p).all() for p in tensors]).all())
