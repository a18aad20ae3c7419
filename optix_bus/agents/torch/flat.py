"""Networks and moments of PyTorch as flat NumPy vectors and back, for updates that are computed by hand.

The parameters of modules and the state of optimizers stay the only truth between two windows, so that saving,
perturbing and switching to automatic differentiation need no special case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from optix_bus.agents.fast.adam import FlatAdam
from optix_bus.agents.fast.mlp import ACTIVATIONS, FlatMLP
from optix_bus.agents.torch.networks import constants, describe, linear_layers

Float32 = npt.NDArray[np.float32]

# Larger layers keep BLAS busy by themselves; there PyTorch's threads win.
_WIDEST = 512
_HOOKS = ("_backward_hooks", "_backward_pre_hooks", "_post_accumulate_grad_hooks")


def why_not_by_hand(
    networks: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, device: torch.device
) -> str:
    """What stands against computing the updates of these networks by hand; empty where nothing does.

    Args:
        networks: by the name that the answer gives them.
        optimizer: over exactly their parameters.
        device: of the networks.
    """
    if device.type != "cpu":
        return f"the networks are on {device}, it runs on the CPU"
    for name, module in networks.items():
        reason = _unfit(module)
        if reason:
            return f"the {name} {reason}"
    layers = [layer for each in networks.values() for layer in (*linear_layers(each), *constants(each))]
    own = [parameter for layer in layers for parameter in layer._parameters.values() if parameter is not None]
    if len({id(p) for p in own}) != len(own):
        return "layers share parameters"
    if type(optimizer) is not torch.optim.Adam:
        return f"the optimizer is {type(optimizer).__name__}, it knows torch.optim.Adam"
    groups = optimizer.param_groups
    if {id(p) for group in groups for p in group["params"]} != {id(p) for p in own}:
        return f"the optimizer does not hold exactly the parameters of {' and '.join(networks)}"
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


def flat_mlp(module: nn.Module) -> FlatMLP:
    """The same network for NumPy."""
    linears = linear_layers(module)
    described = describe(module, "") or []
    names = [layer["op"] for layer in described if layer["op"] in ACTIVATIONS]
    sizes = [linears[0].in_features, *(layer.out_features for layer in linears)]
    return FlatMLP(sizes, names, sum(len(each.value) for each in constants(module)))


def places(module: nn.Module) -> list[list[tuple[torch.Tensor, Any]]]:
    """The parameters of each layer of `flat_mlp`, with their places in it."""
    found: list[list[tuple[torch.Tensor, Any]]] = [
        [(layer.weight, np.s_[:, :-1]), (layer.bias, np.s_[:, -1])] for layer in linear_layers(module)
    ]
    found += [[(layer.value, np.s_[:, 0])] for layer in constants(module)]
    return found


class FlatNetwork:
    """One network of PyTorch and its moments, as vectors.

    Attributes:
        mlp: the network for NumPy.
    """

    def __init__(self, module: nn.Module) -> None:
        self.mlp = flat_mlp(module)
        self._places = places(module)

    def fetch(self, flat: Float32) -> None:
        """Write the parameters into a vector ``[count]``."""
        for parameter, own in self._views(flat):
            own[...] = parameter.detach().numpy()

    def bring_back(self, flat: Float32) -> None:
        """Write a vector into the parameters."""
        with torch.no_grad():
            for parameter, own in self._views(flat):
                parameter.copy_(torch.from_numpy(own))

    def fetch_moments(self, optimizer: torch.optim.Optimizer, adam: FlatAdam) -> None:
        """Take settings, moments and the number of steps from the optimizer."""
        group, state = optimizer.param_groups[0], optimizer.state
        adam.learning_rate, adam.epsilon = float(group["lr"]), float(group["eps"])
        adam.betas = (float(group["betas"][0]), float(group["betas"][1]))
        adam.steps = 0
        for flat, name in ((adam.first, "exp_avg"), (adam.second, "exp_avg_sq")):
            flat[:] = 0.0
            for parameter, own in self._views(flat):
                if state.get(parameter):
                    own[...] = state[parameter][name].numpy()
                    adam.steps = int(state[parameter]["step"])

    def bring_back_moments(self, optimizer: torch.optim.Optimizer, adam: FlatAdam) -> None:
        """Give moments and the number of steps to the optimizer."""
        pairs = zip(self._views(adam.first), self._views(adam.second), strict=True)
        for (parameter, first), (_, second) in pairs:
            state = optimizer.state[parameter]
            state["step"] = torch.tensor(float(adam.steps))
            state["exp_avg"] = torch.from_numpy(first.copy())
            state["exp_avg_sq"] = torch.from_numpy(second.copy())

    def _views(self, flat: Float32) -> list[tuple[torch.Tensor, Float32]]:
        """Each parameter with its part of a flat vector."""
        return [
            (parameter, layer[place])
            for layer, found in zip(self.mlp.split(flat), self._places, strict=True)
            for parameter, place in found
        ]
