"""Modules and optimizers as named arrays and back.

Optimizer state is stored by the position of the parameter, as torch does: ``optimizer.0.exp_avg``, where
``optimizer`` is the name of the optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from optix_bus.errors import CheckpointError

Array = np.ndarray[Any, Any]


def module_arrays(prefix: str, module: nn.Module) -> dict[str, Array]:
    """Copies of all parameters and buffers, by name."""
    return {f"{prefix}.{name}": _copy(tensor) for name, tensor in module.state_dict().items()}


def load_module(prefix: str, module: nn.Module, arrays: Mapping[str, Array]) -> None:
    """Write arrays into a module, in place.

    Raises:
        CheckpointError: an array is missing or has another shape; the module is then unchanged.
    """
    own = module.state_dict()
    check_module(prefix, module, arrays)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(torch.from_numpy(np.array(arrays[f"{prefix}.{name}"])))


def check_module(prefix: str, module: nn.Module, arrays: Mapping[str, Array]) -> None:
    """Raise `CheckpointError` unless the arrays fit the module."""
    for name, tensor in module.state_dict().items():
        full = f"{prefix}.{name}"
        if full not in arrays:
            raise CheckpointError(f"the saved weights lack {full}; they belong to another network")
        if tuple(arrays[full].shape) != tuple(tensor.shape):
            raise CheckpointError(
                f"the saved weights have {full} of shape {list(arrays[full].shape)}, this network "
                f"{list(tensor.shape)}: build the agent with the sizes it was saved with"
            )


def optimizer_arrays(name: str, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Array], dict[str, Any]]:
    """Moments as arrays, and what is no array (settings of the groups, plain numbers) as JSON-able data."""
    content = optimizer.state_dict()
    arrays: dict[str, Array] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for index, entries in content["state"].items():
        for key, value in entries.items():
            if isinstance(value, torch.Tensor):
                arrays[f"{name}.{index}.{key}"] = _copy(value)
            elif value is None or isinstance(value, bool | int | float | str):
                numbers.setdefault(str(index), {})[key] = value
            else:
                raise CheckpointError(
                    f"{type(optimizer).__name__} keeps {key} as {type(value).__name__}, which cannot be "
                    "saved; expected tensors and numbers, as in torch.optim.Adam"
                )
    return arrays, {"groups": [_plain_group(group) for group in content["param_groups"]], "numbers": numbers}


def load_optimizer(
    name: str, optimizer: torch.optim.Optimizer, arrays: Mapping[str, Array], description: Mapping[str, Any]
) -> None:
    """Put moments and group settings into force. ``fused``, ``foreach`` and ``capturable`` stay as they are:
    they belong to the machine, not to what was learnt.

    Raises:
        CheckpointError: the groups do not match.
    """
    current = optimizer.state_dict()
    saved_groups = description["groups"]
    found = [len(group["params"]) for group in saved_groups]
    expected = [len(group["params"]) for group in current["param_groups"]]
    if found != expected:
        raise CheckpointError(f"the saved {name} has groups of {found} parameters, this one {expected}")
    state: dict[int, dict[str, Any]] = {}
    for full, array in arrays.items():
        if full.startswith(f"{name}."):
            _, index, key = full.split(".", 2)
            state.setdefault(int(index), {})[key] = torch.from_numpy(np.array(array))
    for index, entries in description["numbers"].items():
        state.setdefault(int(index), {}).update(entries)
    groups = []
    for own, saved in zip(current["param_groups"], saved_groups, strict=True):
        kept = {key: own[key] for key in ("params", "fused", "foreach", "capturable") if key in own}
        restored = {key: tuple(v) if isinstance(own.get(key), tuple) else v for key, v in saved.items()}
        groups.append({**own, **restored, **kept})
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _plain_group(group: Mapping[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return float(value)
        return list(value) if isinstance(value, tuple) else value

    return {key: plain(value) for key, value in group.items()}


def _copy(tensor: torch.Tensor) -> Array:
    return tensor.detach().cpu().numpy().copy()
