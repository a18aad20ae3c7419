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
from optix_bus.agents.fast.heads import handmade
from optix_bus.agents.fast.mlp import ACTIVATIONS, FlatMLP, with_ones
from optix_bus.agents.fast.ppo import HandmadePPO
from optix_bus.agents.heads import Categorical, Head
from optix_bus.agents.torch.networks import OneHot, constants, describe, linear_layers

# Larger layers keep BLAS busy by themselves; there PyTorch's threads win.
_WIDEST = 512
# Rows of one forward pass outside the update.
_CHUNK = 4096
_CATEGORICAL = Categorical()
_HOOKS = ("_backward_hooks", "_backward_pre_hooks", "_post_accumulate_grad_hooks")


def why_not_fast(
    actor: nn.Module,
    critic: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    head: Head = _CATEGORICAL,
) -> str:
    """What stands against the handmade update; empty where nothing does."""
    if handmade(head) is None:
        return f"it has no gradient of the head {head.description()['head']}"
    if device.type != "cpu":
        return f"the networks are on {device}, it runs on the CPU"
    for name, module in (("actor", actor), ("critic", critic)):
        reason = _unfit(module)
        if reason:
            return f"the {name} {reason}"
    layers = [layer for module in (actor, critic) for layer in (*linear_layers(module), *constants(module))]
    own = [parameter for layer in layers for parameter in layer._parameters.values() if parameter is not None]
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

    takes_masks = True

    def __init__(
        self,
        actor: nn.Module,
        critic: nn.Module,
        optimizer: torch.optim.Optimizer,
        head: Head = _CATEGORICAL,
    ) -> None:
        self._optimizer = optimizer
        #: Each parameter and where in its layer it lies, in the order of the flat vector.
        self._places = [place for module in (actor, critic) for place in _places(module)]
        self._one_hot = next((layer.n for layer in actor.modules() if isinstance(layer, OneHot)), 0)
        by_hand = handmade(head)
        assert by_hand is not None
        self._minds = HandmadePPO(_flat(actor), _flat(critic), by_hand)
        self._adam = FlatAdam(len(self._minds.parameters))

    def values(self, observations: Float32) -> Float32:
        """V of ``[N, *obs_shape]``, as ``[N]``."""
        self._fetch()
        parts = [self._minds.values(self._columns(part)) for part in _chunks(observations)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def log_probs(
        self, observations: Float32, actions: npt.NDArray[Any], masks: npt.NDArray[np.bool_] | None = None
    ) -> Float32:
        """Log-probabilities ``[N]`` of actions ``[N, ...]`` among those that masks ``[N, entries]`` allow."""
        self._fetch()
        parts = [_chunks(each) for each in (observations, actions, masks) if each is not None]
        rows = zip(*parts, strict=True)
        return np.concatenate([self._minds.log_probs(self._columns(x), *rest) for x, *rest in rows])

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
        for parameter, own in self._views(self._minds.parameters):
            own[...] = parameter.detach().numpy()

    def _fetch_moments(self) -> None:
        group, state = self._optimizer.param_groups[0], self._optimizer.state
        adam = self._adam
        adam.learning_rate, adam.epsilon = float(group["lr"]), float(group["eps"])
        adam.betas = (float(group["betas"][0]), float(group["betas"][1]))
        adam.steps = 0
        for flat, name in ((adam.first, "exp_avg"), (adam.second, "exp_avg_sq")):
            flat[:] = 0.0
            for parameter, own in self._views(flat):
                if state.get(parameter):
                    own[...] = state[parameter][name].numpy()
                    adam.steps = int(state[parameter]["step"])

    def _bring_back(self) -> None:
        adam = self._adam
        found = (self._views(flat) for flat in (self._minds.parameters, adam.first, adam.second))
        for (parameter, own), (_, first), (_, second) in zip(*found, strict=True):
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(own))
            state = self._optimizer.state[parameter]
            state["step"] = torch.tensor(float(adam.steps))
            state["exp_avg"] = torch.from_numpy(first.copy())
            state["exp_avg_sq"] = torch.from_numpy(second.copy())

    def _views(self, flat: Float32) -> list[tuple[torch.Tensor, Float32]]:
        """Each parameter with its part of a flat vector."""
        cut = self._minds.actor.count
        layers = [*self._minds.actor.split(flat[:cut]), *self._minds.critic.split(flat[cut:])]
        return [
            (parameter, layer[place])
            for layer, places in zip(layers, self._places, strict=True)
            for parameter, place in places
        ]


def _unfit(module: nn.Module) -> str:
    layers = describe(module, "")
    if layers is None:
        return "is more than linear layers and simple activations in float32"
    kinds = [layer["op"] for layer in layers if layer["op"] not in ("one_hot", "flatten", "append_constant")]
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
    sizes = [linears[0].in_features, *(layer.out_features for layer in linears)]
    return FlatMLP(sizes, names, sum(len(each.value) for each in constants(module)))


def _places(module: nn.Module) -> list[list[tuple[torch.Tensor, Any]]]:
    """The parameters of each layer of `_flat`, with their places in it."""
    places: list[list[tuple[torch.Tensor, Any]]] = [
        [(layer.weight, np.s_[:, :-1]), (layer.bias, np.s_[:, -1])] for layer in linear_layers(module)
    ]
    places += [[(layer.value, np.s_[:, 0])] for layer in constants(module)]
    return places
