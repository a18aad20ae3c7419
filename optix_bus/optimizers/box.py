"""The normalised box that tuners work in: each hyperparameter in [0, 1], decades for those on a log scale."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from optix_bus.errors import ConfigurationError


class ParamBox:
    """Encodes hyperparameters as points ``[d]`` of the unit box, and back.

    Args:
        bounds: (low, high) by name.
        log_params: names on a log scale; both bounds must be positive.

    Raises:
        ConfigurationError: bounds that are no interval, or a log scale that reaches zero.
    """

    def __init__(self, bounds: Mapping[str, tuple[float, float]], log_params: Iterable[str] = ()) -> None:
        self.names = tuple(sorted(bounds))
        self._log = frozenset(log_params) & set(self.names)
        self._bounds = {name: (float(bounds[name][0]), float(bounds[name][1])) for name in self.names}
        for name, (low, high) in self._bounds.items():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ConfigurationError(f"bounds of {name!r}: found ({low}, {high}), expected low < high")
            if name in self._log and low <= 0.0:
                raise ConfigurationError(
                    f"bounds of {name!r}: found ({low}, {high}) on a log scale, expected both above 0; raise "
                    f"the lower bound or take {name!r} out of log_params"
                )
        self._integer: frozenset[str] = frozenset()

    def fit(self, params: Mapping[str, Any]) -> None:
        """Keep the names that these parameters have as numbers, and learn which of them are integers.

        Raises:
            ConfigurationError: none of the names is there, or one looks misspelt.
        """
        numeric = [k for k, v in params.items() if isinstance(v, int | float) and not isinstance(v, bool)]
        for name in self.names:
            close = [] if name in numeric else difflib.get_close_matches(name, numeric, 1, cutoff=0.8)
            if close:
                raise ConfigurationError(
                    f"bounds for {name!r}, which the agent lacks; did you mean {close[0]!r}?"
                )
        kept = tuple(name for name in self.names if name in numeric)
        if self.names and not kept:
            raise ConfigurationError(
                f"bounds for {', '.join(self.names)}, expected numeric hyperparameters of the agent: "
                f"{', '.join(sorted(numeric)) or 'it has none'}"
            )
        self.names = kept
        self._integer = frozenset(name for name in kept if isinstance(params[name], int))

    @property
    def space(self) -> list[list[Any]]:
        """What each coordinate means, as plain values: name, low, high, and whether it is on a log scale."""
        return [[name, *self._bounds[name], name in self._log] for name in self.names]

    def smallest_steps(self) -> np.ndarray[Any, Any]:
        """``[d]`` the distance in the box at which integers differ; 0 for real numbers."""
        return np.array(
            [
                1.0 / (self._bounds[n][1] - self._bounds[n][0]) if n in self._integer else 0.0
                for n in self.names
            ]
        )

    def encode(self, params: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        """``[d]`` float64 in [0, 1]; what lies outside the bounds counts as lying on them."""
        return np.array([self._up(name, float(params[name])) for name in self.names], np.float64)

    def decode(self, point: np.ndarray[Any, Any], params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with those of the box replaced; integers stay integers, other keys untouched."""
        changed = dict(params)
        for name, value in zip(self.names, point, strict=True):
            low, high = self._bounds[name]
            share = min(max(float(value), 0.0), 1.0)
            if name in self._log:
                real = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
            else:
                real = low + share * (high - low)
            real = min(max(real, low), high)
            if name in self._integer:
                whole = round(real)
                changed[name] = min(max(whole, math.ceil(low)), math.floor(high))
            else:
                changed[name] = real
        return changed

    def _up(self, name: str, value: float) -> float:
        low, high = self._bounds[name]
        value = min(max(value, low), high)
        if name in self._log:
            return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
        return (value - low) / (high - low)
