"""Everything that learning changes in an agent, as named arrays and back: all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optix_bus.agents.learner import Statistics
from optix_bus.agents.tensorflow.networks import Held, held, read
from optix_bus.errors import CheckpointError, ConfigurationError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class TrainedParts:
    """Models, optimizers and normalisers under the names that their arrays carry.

    Attributes:
        models: e.g. ``{"actor": ..., "critic": ...}``.
        optimizers: built for their variables, e.g. ``{"optimizer": ...}``.
        statistics: normalisers by name.
        loose: variables that belong to no model, by name, e.g. a temperature.
    """

    models: Mapping[str, Any]
    optimizers: Mapping[str, Any]
    statistics: Mapping[str, Statistics] = field(default_factory=dict)
    loose: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Beginnings of the names of all arrays but those of optimizers."""
        return (*(f"{name}." for name in (*self.models, *self.statistics)), *self.loose)

    def arrays(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Copies of all arrays, and a JSON-able description of each optimizer by its name."""
        arrays = {each.name: each.array() for each in self._held()}
        for name, statistics in self.statistics.items():
            arrays.update({f"{name}.{key}": array for key, array in statistics.state().items()})
        descriptions = {}
        for name, optimizer in self.optimizers.items():
            variables = moments(name, optimizer)
            arrays.update({each.name: each.array() for each in variables})
            descriptions[name] = {"kind": type(optimizer).__name__, "variables": len(variables)}
        return arrays, descriptions

    def load(self, arrays: Mapping[str, Array], descriptions: Mapping[str, Any] | None) -> None:
        """Put arrays into force; without the descriptions of the optimizers their moments start anew.

        Raises:
            CheckpointError: something is missing or has another shape; nothing has changed then.
        """
        writes = [(each, self._fitting(each, arrays)) for each in self._held()]
        for name, optimizer in self.optimizers.items():
            variables = moments(name, optimizer)
            if descriptions is None:
                writes += zip(variables, _fresh(optimizer), strict=True)
                continue
            kind = type(optimizer).__name__
            if descriptions[name] != {"kind": kind, "variables": len(variables)}:
                raise CheckpointError(
                    f"the saved {name} is {descriptions[name]}, this one a {kind} of {len(variables)} "
                    "variables"
                )
            writes += [(each, self._fitting(each, arrays)) for each in variables]
        undo: list[Callable[[], None]] = []
        try:
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
        for each, array in writes:
            each.assign(array)

    def perturb(self, noise_scale: float, rng: np.random.Generator) -> None:
        """Multiply every trainable parameter by ``1 + noise_scale * N(0, 1)``."""
        trainable = {id(v) for model in self.models.values() for v in model.trainable_variables}
        for each in self._held():
            if id(each.variable) in trainable:
                value = each.array()
                noise = rng.standard_normal(each.shape) * noise_scale + 1.0
                each.assign((value * noise).astype(value.dtype))

    def _held(self) -> list[Held]:
        of_models = [each for name, model in self.models.items() for each in held(model, name)]
        return of_models + [Held(name, variable) for name, variable in self.loose.items()]

    def _fitting(self, each: Held, arrays: Mapping[str, Array]) -> Array:
        if each.name not in arrays:
            raise CheckpointError(f"the saved weights lack {each.name}; they belong to another network")
        array = np.asarray(arrays[each.name])
        if array.shape != each.shape:
            raise CheckpointError(
                f"the saved weights have {each.name} of shape {list(array.shape)}, this network "
                f"{list(each.shape)}: build the agent with the sizes it was saved with"
            )
        return array


def adopt(name: str, optimizer: Any, variables: Sequence[Any]) -> float:
    """Make an optimizer ready for these variables; returns its learning rate.

    Raises:
        ConfigurationError: it belongs to other variables, or its learning rate is a schedule.
    """
    rate: Any = getattr(optimizer, "_learning_rate", None)
    if not hasattr(optimizer, "build") or not hasattr(rate, "assign"):
        raise ConfigurationError(
            f"the {name} is a {type(optimizer).__name__} with learning rate {rate!r}, expected an "
            "optimizer of Keras with a number: the learning rate is a hyperparameter of the agent"
        )
    if not optimizer.built:
        optimizer.build(list(variables))
    known = {id(variable) for variable in optimizer._trainable_variables}
    if known != {id(variable) for variable in variables}:
        raise ConfigurationError(
            f"the {name} was built for {len(known)} other variables; give each agent and each role an "
            "optimizer of its own"
        )
    return float(rate.numpy())


def moments(name: str, optimizer: Any) -> list[Held]:
    """What an optimizer keeps between two steps: everything but the learning rate, a hyperparameter."""
    kept = [v for v in optimizer.variables if v is not optimizer._learning_rate]
    # By position: the names of Keras count all networks that were ever made in the process.
    return [Held(f"{name}.{number}", each) for number, each in enumerate(kept)]


def snapshot(variables: Sequence[Any]) -> Callable[[], None]:
    """Remember the values of variables; calling the result puts them back."""
    values = [read(variable) for variable in variables]

    def restore() -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    return restore


def _fresh(optimizer: Any) -> list[Array]:
    new = type(optimizer).from_config(optimizer.get_config())
    new.build(optimizer._trainable_variables)
    return [each.array() for each in moments("", new)]


def _under(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    found = {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
    if not found:
        raise CheckpointError(f"the saved weights lack {prefix}*; they were saved by an agent without it")
    return found
