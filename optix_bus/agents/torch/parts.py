"""Everything that learning changes in an agent, as named arrays and back: all of it or nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from optix_bus.agents.learner import Statistics
from optix_bus.agents.torch.arrays import (
    check_module,
    load_module,
    load_optimizer,
    module_arrays,
    optimizer_arrays,
)
from optix_bus.errors import CheckpointError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class TrainedParts:
    """Modules, optimizers and normalisers under the names that their arrays carry.

    Attributes:
        modules: e.g. ``{"actor": ..., "critic": ...}``.
        optimizers: over their parameters, e.g. ``{"optimizer": ...}``.
        statistics: normalisers by name.
    """

    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    statistics: Mapping[str, Statistics] = field(default_factory=dict)

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Beginnings of the names of all arrays but those of optimizers."""
        return tuple(f"{name}." for name in (*self.modules, *self.statistics))

    def arrays(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Copies of all arrays, and a JSON-able description of each optimizer by its name."""
        arrays: dict[str, Array] = {}
        for name, module in self.modules.items():
            arrays.update(module_arrays(name, module))
        for name, statistics in self.statistics.items():
            arrays.update({f"{name}.{key}": array for key, array in statistics.state().items()})
        descriptions = {}
        for name, optimizer in self.optimizers.items():
            moments, descriptions[name] = optimizer_arrays(name, optimizer)
            arrays.update(moments)
        return arrays, descriptions

    def load(self, arrays: Mapping[str, Array], descriptions: Mapping[str, Any] | None) -> None:
        """Put arrays into force; without the descriptions of the optimizers their moments start anew.

        Raises:
            CheckpointError: something is missing or has another shape; nothing has changed then.
        """
        for name, module in self.modules.items():
            check_module(name, module, arrays)
        # Optimizers and normalisers check themselves while loading, so they can fail half way.
        undo: list[Callable[[], None]] = []
        try:
            for name, optimizer in self.optimizers.items():
                undo.append(_undo(optimizer))
                if descriptions is None:
                    optimizer.state.clear()
                elif name not in descriptions:
                    raise CheckpointError(f"the saved weights lack the state of {name}")
                else:
                    load_optimizer(name, optimizer, arrays, descriptions[name])
            for name, statistics in self.statistics.items():
                before = statistics.state()
                undo.append(lambda s=statistics, b=before: s.load_state(b))  # type: ignore[misc]
                statistics.load_state(_under(arrays, f"{name}."))
        except (CheckpointError, KeyError, ValueError) as error:
            for action in undo:
                action()
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"the saved weights do not fit this agent: {error}") from error
        for name, module in self.modules.items():
            load_module(name, module, arrays)

    def perturb(self, noise_scale: float, rng: np.random.Generator) -> None:
        """Multiply every parameter by ``1 + noise_scale * N(0, 1)``."""
        with torch.no_grad():
            for module in self.modules.values():
                for parameter in module.parameters():
                    noise = rng.standard_normal(tuple(parameter.shape)) * noise_scale + 1.0
                    parameter.mul_(torch.as_tensor(noise, dtype=parameter.dtype, device=parameter.device))


def _undo(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    before = copy.deepcopy(optimizer.state_dict())
    return lambda: optimizer.load_state_dict(before)


def _under(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    found = {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
    if not found:
        raise CheckpointError(f"the saved weights lack {prefix}*; they were saved by an agent without it")
    return found
