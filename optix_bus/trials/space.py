"""What is searched: a range or a choice by name.

``("float", low, high)``, ``("log_float", low, high)``, ``("int", low, high)``, ``("log_int", low, high)`` and
``("categorical", a, b, ...)``; lists do as well as tuples, so that a YAML file can hold them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optix_bus.errors import ConfigurationError

RANGES = ("float", "log_float", "int", "log_int")
KINDS = (*RANGES, "categorical")
_PLAIN = (bool, int, float, str, type(None))


class Suggesting(Protocol):
    """What a space asks for values: an Optuna trial."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A real number, both ends included."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number, both ends included."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        ...


@dataclass(frozen=True)
class Dimension:
    """One range or choice; ``low`` and ``high`` belong to ranges, ``choices`` to the others."""

    kind: str
    low: float = 0.0
    high: float = 0.0
    choices: tuple[Any, ...] = ()

    @property
    def labels(self) -> dict[Any, Any]:
        """What a study stores for each choice: itself where it is plain, else its text, e.g. of a list."""
        return {choice if isinstance(choice, _PLAIN) else repr(choice): choice for choice in self.choices}

    def suggest(self, name: str, trial: Suggesting) -> Any:
        """A value for this trial."""
        if self.kind == "categorical":
            return self.labels[trial.suggest_categorical(name, list(self.labels))]
        log = self.kind.startswith("log_")
        if self.kind.endswith("int"):
            return trial.suggest_int(name, int(self.low), int(self.high), log=log)
        return trial.suggest_float(name, self.low, self.high, log=log)

    def ends(self) -> tuple[Any, ...]:
        """Values that must all be right for every other one to be: both ends of a range, or all choices."""
        if self.kind == "categorical":
            return self.choices
        return (int(self.low), int(self.high)) if self.kind.endswith("int") else (self.low, self.high)

    def plain(self) -> list[Any]:
        """The form in which it is written down."""
        return [self.kind, *(self.choices if self.kind == "categorical" else self.ends())]


class ParamSpace(Mapping[str, Dimension]):
    """All dimensions by name, in the order in which they were given.

    Args:
        spec: e.g. ``{"learning_rate": ("log_float", 1e-4, 3e-3)}``.

    Raises:
        ConfigurationError: names every dimension that is none, and what it should look like.
    """

    def __init__(self, spec: Mapping[str, Sequence[Any]]) -> None:
        if not isinstance(spec, Mapping):
            raise ConfigurationError(
                f"found a search space of type {type(spec).__name__}, expected a mapping from names to "
                f'("log_float", 1e-4, 3e-3) and the like'
            )
        if not spec:
            raise ConfigurationError("the search space is empty: name at least one hyperparameter")
        problems: list[str] = []
        self._dimensions: dict[str, Dimension] = {}
        for name, given in spec.items():
            found = given if isinstance(given, Dimension) else _read(given)
            if isinstance(found, str):
                problems.append(f"search space of {name!r}: {found}")
            else:
                self._dimensions[str(name)] = found
        if problems:
            raise ConfigurationError("; ".join(problems))

    @classmethod
    def from_bounds(
        cls, bounds: Mapping[str, tuple[float, float]], log_params: Sequence[str], params: Mapping[str, Any]
    ) -> ParamSpace:
        """The space that the bounds of an agent span; ``params`` say which of them are whole numbers."""
        spec = {}
        for name, (low, high) in bounds.items():
            whole = isinstance(params.get(name), int) and not isinstance(params.get(name), bool)
            kind = ("log_" if name in log_params else "") + ("int" if whole else "float")
            spec[name] = (kind, low, high)
        return cls(spec)

    def __getitem__(self, name: str) -> Dimension:
        return self._dimensions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dimensions)

    def __len__(self) -> int:
        return len(self._dimensions)

    def suggest(self, trial: Suggesting) -> dict[str, Any]:
        """A value for each name."""
        return {name: dimension.suggest(name, trial) for name, dimension in self.items()}

    def decode(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """The values behind what a study has stored; names that are no longer searched are left out."""
        return {
            name: dimension.labels.get(stored[name], stored[name])
            if dimension.kind == "categorical"
            else stored[name]
            for name, dimension in self.items()
            if name in stored
        }

    def plain(self) -> dict[str, list[Any]]:
        """The form in which it is written down."""
        return {name: dimension.plain() for name, dimension in self.items()}


def _read(given: Any) -> Dimension | str:
    """A dimension, or what is wrong with it."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        return f'found {given!r}, expected ("float", low, high) or ("categorical", a, b, ...)'
    if not given or given[0] not in KINDS:
        first = given[0] if given else None
        if isinstance(first, str):
            close = difflib.get_close_matches(first, KINDS, 1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(KINDS)}"
            return f"unknown kind {first!r}; {hint}"
        return f'found {given!r}, expected the kind first, e.g. ("log_float", 1e-4, 3e-3)'
    kind, values = given[0], given[1:]
    return _choice(values) if kind == "categorical" else _range(kind, values)


def _choice(values: Sequence[Any]) -> Dimension | str:
    if len(values) == 1 and isinstance(values[0], list | tuple):
        values = values[0]  # ("categorical", [a, b])
    if not values:
        return 'a categorical needs values: ("categorical", a, b, ...)'
    labels = [repr(value) for value in values]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        return f"{', '.join(twice)} stands there more than once"
    return Dimension("categorical", choices=tuple(values))


def _range(kind: str, values: Sequence[Any]) -> Dimension | str:
    if len(values) != 2:
        return f'found {len(values)} values, expected two: ("{kind}", low, high)'
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f'found {value!r}, expected a finite number in ("{kind}", low, high)'
    low, high = values
    if low >= high:
        return f"found low {low} and high {high}, expected low < high"
    if kind.endswith("int") and (low != int(low) or high != int(high)):
        return f'found {low} and {high}, expected whole numbers (or "{kind.replace("int", "float")}")'
    least = 1 if kind == "log_int" else 0
    if kind.startswith("log_") and (low < 1 if kind == "log_int" else low <= 0):
        return f"found low {low} on a log scale, expected {'at least 1' if least else 'above 0'}"
    if kind.endswith("int"):
        return Dimension(kind, int(low), int(high))
    return Dimension(kind, float(low), float(high))
