"""The PPO update by automatic differentiation, for any pair of networks on any device.

Schulman et al. 2017, https://arxiv.org/abs/1707.06347, equations 7 and 9.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optix_bus.agents.batch import STATISTICS, Batch, Float32
from optix_bus.agents.heads import Categorical, Head
from optix_bus.agents.torch.distributions import evaluate
from optix_bus.agents.torch.networks import floating_type

Array = np.ndarray[Any, Any]

# Rows of one forward pass outside the update: bounds the memory that a long window of images takes.
_CHUNK = 16384
_CATEGORICAL = Categorical()


class AutogradPPO:
    """`optix_bus.agents.batch.PPOUpdate` in PyTorch."""

    takes_masks = True

    def __init__(
        self,
        actor: nn.Module,
        critic: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        head: Head = _CATEGORICAL,
    ) -> None:
        self._head = head
        self._actor = actor
        self._critic = critic
        self._optimizer = optimizer
        self._device = device

    def values(self, observations: Float32) -> Float32:
        """V of ``[N, *obs_shape]``, as ``[N]``."""
        with torch.no_grad():
            parts = [self._critic(x).reshape(-1) for x in torch.split(self._inputs(observations), _CHUNK)]
        return _numpy(parts) if parts else np.zeros(0, np.float32)

    def log_probs(self, observations: Float32, actions: Array, masks: Array | None = None) -> Float32:
        """Log-probabilities ``[N]`` of actions ``[N, ...]`` among those that masks ``[N, entries]`` allow."""
        with torch.no_grad():
            x, *rest = self._inputs(observations), *self._tensors(actions, masks)
            rows = zip(*(torch.split(each, _CHUNK) for each in (x, *rest)), strict=True)
            parts = [evaluate(self._head, self._actor(part), *others)[0] for part, *others in rows]
        return _numpy(parts)

    def update(self, batch: Batch, params: Mapping[str, Any], rng: np.random.Generator) -> dict[str, float]:
        """All epochs of one window; see `optix_bus.agents.batch.PPOUpdate.update`."""
        modules = self._modules
        before = [copy.deepcopy(module.state_dict()) for module in modules]
        moments = copy.deepcopy(self._optimizer.state_dict())
        report = self._epochs(batch, params, rng)
        if not all(math.isfinite(value) for value in report.values()) or not self._finite():
            for module, state in zip(modules, before, strict=True):
                module.load_state_dict(state)
            self._optimizer.load_state_dict(moments)
            report["loss"] = math.nan
        return report

    @property
    def _modules(self) -> tuple[nn.Module, ...]:
        return (self._actor, self._critic)

    def _epochs(self, batch: Batch, params: Mapping[str, Any], rng: np.random.Generator) -> dict[str, float]:
        numbers = self._tensors(
            batch.actions, batch.log_probs, batch.advantages, batch.returns, batch.values, batch.masks
        )
        tensors = (self._inputs(batch.observations), *numbers)
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        size, limit = params["minibatch_size"], params["target_kl"]
        initial: dict[str, float] = {}
        statistics: list[Tensor] = []
        norms: list[Tensor] = []
        updates, far = 0, False
        for _ in range(params["n_epochs"]):
            statistics, norms = [], []
            for part in self._minibatches(tensors, size, rng):
                exact = batch.on_policy and not initial
                loss, found, ratio = ppo_loss(
                    self._actor, self._critic, part, params, exact=exact, head=self._head
                )
                statistics.append(found)
                if not initial:
                    error = float((ratio - 1.0).abs().max())
                    initial = {"initial_kl": float(found[3]), "initial_ratio_error": error}
                far = limit is not None and float(found[3]) > 1.5 * limit
                if far:
                    break
                self._optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                norms.append(nn.utils.clip_grad_norm_(parameters, params["max_grad_norm"]).detach())
                self._optimizer.step()
                updates += 1
            if far:
                break
        means = torch.stack(statistics).mean(0).tolist()
        grad_norm = float(torch.stack(norms).mean()) if norms else 0.0
        report = dict(zip(STATISTICS, means, strict=True))
        return {**report, **initial, "grad_norm": grad_norm, "updates": float(updates)}

    def _minibatches(
        self, tensors: tuple[Tensor, ...], size: int, rng: np.random.Generator
    ) -> Iterator[tuple[Tensor, ...]]:
        """Shuffled parts of all rows; each is taken after the gradient step of the one before."""
        # One gather for each epoch: minibatches are then plain slices.
        rows = len(tensors[1])
        order = torch.from_numpy(rng.permutation(rows)).to(self._device)
        shuffled = tuple(tensor[order] for tensor in tensors)
        for start in range(0, rows, size):
            yield tuple(tensor[start : start + size] for tensor in shuffled)

    def _finite(self) -> bool:
        tensors = [p for module in self._modules for p in module.parameters()]
        return bool(torch.stack([torch.isfinite(p).all() for p in tensors]).all())

    def _inputs(self, observations: Float32) -> Tensor:
        return self._tensor(observations).to(floating_type(self._actor))

    def _tensors(self, *arrays: Array | None) -> tuple[Tensor, ...]:
        return tuple(self._tensor(array) for array in arrays if array is not None)

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def ppo_loss(
    actor: nn.Module,
    critic: nn.Module,
    part: tuple[Tensor, ...],
    params: Mapping[str, Any],
    *,
    exact: bool = False,
    head: Head = _CATEGORICAL,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, its `STATISTICS` and the ratios ``[n]`` of one minibatch.

    Args:
        actor: gives the outputs of the head.
        critic: gives values.
        part: observations, actions, log_probs, advantages, returns, values, as in `Batch`; perhaps masks.
        params: hyperparameters of the card.
        exact: the networks are still the ones that acted. Recomputed log-probabilities of another batch shape
            may round differently; this keeps the first ratio at exactly 1.
        head: what becomes of the actor's outputs.
    """
    observations, actions, old, advantages, returns, old_values, *masks = part
    log_probs, entropies = evaluate(head, actor(observations), actions, *masks)
    values = critic(observations).squeeze(-1)
    if exact:
        old = log_probs.detach()

    if params["normalize_advantage"] and len(advantages) > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    log_ratio = log_probs - old
    ratio = torch.exp(log_ratio)
    clip = params["clip_ratio"]
    limited = torch.clamp(ratio, 1.0 - clip, 1.0 + clip)
    policy_loss = -torch.min(ratio * advantages, limited * advantages).mean()

    errors = (values - returns) ** 2
    if params["clip_value"] is not None:
        near = old_values + torch.clamp(values - old_values, -params["clip_value"], params["clip_value"])
        errors = torch.max(errors, (near - returns) ** 2)
    value_loss = errors.mean()
    entropy = entropies.mean()
    loss = policy_loss + params["vf_coef"] * value_loss - params["entropy_coef"] * entropy
    with torch.no_grad():
        # Schulman 2020, http://joschu.net/blog/kl-approx.html, the estimator k3.
        kl = ((ratio - 1.0) - log_ratio).mean()
        clipped = ((ratio - 1.0).abs() > clip).to(kl.dtype).mean()
        numbers = torch.stack([policy_loss, value_loss, entropy, kl, clipped, loss])
    return loss, numbers, ratio.detach()


def _numpy(parts: list[Tensor]) -> Float32:
    return np.asarray(torch.cat(parts).float().cpu().numpy(), np.float32)
