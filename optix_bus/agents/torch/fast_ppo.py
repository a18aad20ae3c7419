"""The handmade PPO update for PyTorch networks: weights and moments go over, and come back if all went well.

The module's parameters and the optimizer's state stay the only truth between two windows, so that saving,
perturbing and switching to automatic differentiation need no special case.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from optix_bus.agents.batch import Batch, Float32
from optix_bus.agents.fast.adam import FlatAdam
from optix_bus.agents.fast.mlp import ACTIVATIONS, FlatMLP, with_ones
from optix_bus.agents.fast.ppo import HandmadePPO
from optix_bus.agents.torch.networks import OneHot, describe, linear_layers

# Larger layers keep BLAS busy by themselves; there PyTorch's threads win.
_WIDEST = 512
# Rows of one forward pass outside the update.
_CHUNK = 4096
_HOOKS = ("_backward_hooks", "_backward_pre_hooks", "_post_accumulate_grad_hooks")


def why_not_fast(
    actor: nn.Module, critic: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> str:
    """What stands against the handmade update; empty where nothing does."""
    if device.type != "cpu":
        return f"the networks are on {device}, it runs on the CPU"
    for name, module in (("actor", actor), ("critic", critic)):
        reason = _unfit(module)
        if reason:
            return f"the {name} {reason}"
    layers = [*linear_layers(actor), *linear_layers(critic)]
    own = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
    if len({id(p) for p in own}) != len(own):
        return "layers share parameters"
    if type(optimizer) is not torch.optim.Adam:
        return f"the optimizer is {type(optimizer).__name__}, it knows torch.optim.Adam"
    groups = optimizer.param_groups
    if {id(p) for group in groups for p in group["params"]} != {id(p) for p in own}:
        return "the optimizer does not hold exactly the parameters of actor and critic"
    settings = {(float(g["lr"]), tuple(map(float, g["betas"])), float(g["eps"])) for g in groups}
    if len(settings) != 1:
        return "the groups of the optimizer have different settings"
    if any(g["weight_decay"] or g["amsgrad"] or g["maximize"] or g.get("differentiable") for g in groups):
        return "the optimizer uses weight_decay, amsgrad, maximize or differentiable"
    if not all(p.requires_grad for p in own):
        return "some parameters are frozen"
    if any(getattr(part, hooks, None) for part in (*own, *layers) for hooks in _HOOKS):
        return "layers or parameters carry gradient hooks"
    if len({float(optimizer.state[p]["step"]) for p in own if optimizer.state.get(p)}) > 1:
        return "parameters have made different numbers of steps"
    return ""


class FastPPO:
    """`optix_bus.agents.batch.PPOUpdate` by hand, for networks and optimizers that `why_not_fast` passes."""

    def __init__(self, actor: nn.Module, critic: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._pairs = [
            (layer.weight, layer.bias) for module in (actor, critic) for layer in linear_layers(module)
        ]
        self._one_hot = next((layer.n for layer in actor.modules() if isinstance(layer, OneHot)), 0)
        self._minds = HandmadePPO(_flat(actor), _flat(critic))
        self._layers = [*self._minds.actor_layers, *self._minds.critic_layers]
        self._adam = FlatAdam(len(self._minds.parameters))

    def values(self, observations: Float32) -> Float32:
        """V of ``[N, *obs_shape]``, as ``[N]``."""
        self._fetch()
        parts = [self._minds.values(self._columns(part)) for part in _chunks(observations)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def log_probs(self, observations: Float32, actions: npt.NDArray[np.int64]) -> Float32:
        """Log-probabilities ``[N]`` of actions ``[N]``."""
        self._fetch()
        pairs = zip(_chunks(observations), _chunks(actions), strict=True)
        return np.concatenate([self._minds.log_probs(self._columns(part), index) for part, index in pairs])

    def update(self, batch: Batch, params: Mapping[str, Any], rng: np.random.Generator) -> dict[str, float]:
        """All epochs of one window; see `optix_bus.agents.batch.PPOUpdate.update`."""
        self._fetch()
        self._fetch_moments()
        with np.errstate(all="ignore"):  # what is not finite is found in the report
            report = self._minds.update(self._columns(batch.observations), batch, params, self._adam, rng)
        if (
            all(math.isfinite(value) for value in report.values())
            and np.isfinite(self._minds.parameters).all()
        ):
            self._bring_back()
        else:
            report["loss"] = math.nan
        return report

    def _columns(self, observations: Float32) -> Float32:
        rows = observations.reshape(len(observations), -1)
        if self._one_hot:
            return with_ones(np.eye(self._one_hot, dtype=np.float32)[rows[:, 0].astype(np.int64)])
        return with_ones(rows)

    def _fetch(self) -> None:
        for (weight, bias), layer in zip(self._pairs, self._layers, strict=True):
            layer[:, :-1] = weight.detach().numpy()
            layer[:, -1] = bias.detach().numpy()

    def _fetch_moments(self) -> None:
        group, state = self._optimizer.param_groups[0], self._optimizer.state
        adam = self._adam
        adam.learning_rate, adam.epsilon = float(group["lr"]), float(group["eps"])
        adam.betas = (float(group["betas"][0]), float(group["betas"][1]))
        adam.steps = 0
        for flat, name in ((adam.first, "exp_avg"), (adam.second, "exp_avg_sq")):
            flat[:] = 0.0
            for (weight, bias), layer in zip(self._pairs, self._split(flat), strict=True):
                if state.get(weight):
                    layer[:, :-1] = state[weight][name].numpy()
                    layer[:, -1] = state[bias][name].numpy()
                    adam.steps = int(state[weight]["step"])

    def _bring_back(self) -> None:
        firsts, seconds = self._split(self._adam.first), self._split(self._adam.second)
        for (weight, bias), layer, first, second in zip(
            self._pairs, self._layers, firsts, seconds, strict=True
        ):
            for parameter, columns in ((weight, np.s_[:, :-1]), (bias, np.s_[:, -1])):
                with torch.no_grad():
                    parameter.copy_(torch.from_numpy(layer[columns]))
                state = self._optimizer.state[parameter]
                state["step"] = torch.tensor(float(self._adam.steps))
                state["exp_avg"] = torch.from_numpy(first[columns].copy())
                state["exp_avg_sq"] = torch.from_numpy(second[columns].copy())

    def _split(self, flat: Float32) -> list[Float32]:
        cut = self._minds.actor.count
        return [*self._minds.actor.split(flat[:cut]), *self._minds.critic.split(flat[cut:])]


def _unfit(module: nn.Module) -> str:
    layers = describe(module, "")
    if layers is None:
        return "is more than linear layers and simple activations in float32"
    kinds = [layer["op"] for layer in layers if layer["op"] not in ("one_hot", "flatten")]
    allowed = {"linear", *ACTIVATIONS}
    if not set(kinds) <= allowed:
        return f"has {', '.join(sorted(set(kinds) - allowed))}, it knows {', '.join(sorted(ACTIVATIONS))}"
    if kinds[::2] != ["linear"] * len(kinds[::2]) or "linear" in kinds[1::2] or len(kinds) % 2 == 0:
        return "does not alternate linear layers and activations, ending in a linear layer"
    linears = linear_layers(module)
    if any(layer.bias is None for layer in linears):
        return "has a linear layer without a bias"
    if max(max(layer.in_features, layer.out_features) for layer in linears) > _WIDEST:
        return f"has more than {_WIDEST} units in a layer"
    return ""


def _chunks(array: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    return [array[start : start + _CHUNK] for start in range(0, len(array), _CHUNK)]


def _flat(module: nn.Module) -> FlatMLP:
    linears = linear_layers(module)
    described = describe(module, "") or []
    names = [layer["op"] for layer in described if layer["op"] in ACTIVATIONS]
    return FlatMLP([linears[0].in_features, *(layer.out_features for layer in linears)], names)
