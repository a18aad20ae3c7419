"""Activations on NumPy arrays, in place, in the type of the array.

The names are those of the acting description; the formulas those of the framework layers they stand for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Activation = Callable[[Array], None]


def _tanh(x: Array) -> None:
    np.tanh(x, out=x)


def _relu(x: Array) -> None:
    np.maximum(x, 0, out=x)


def _sigmoid(x: Array) -> None:
    # 1 / (1 + exp(-x)) by tanh, which cannot overflow.
    x *= 0.5
    np.tanh(x, out=x)
    x += 1
    x *= 0.5


def _silu(x: Array) -> None:
    gate = x.copy()
    _sigmoid(gate)
    x *= gate


def _gelu_tanh(x: Array) -> None:
    # Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415, section 2, the approximation.
    inner = x * x
    inner *= np.asarray(0.044715, x.dtype)
    inner += 1
    inner *= x
    inner *= np.asarray(np.sqrt(2.0 / np.pi), x.dtype)
    np.tanh(inner, out=inner)
    inner += 1
    x *= 0.5
    x *= inner


def _gelu(x: Array) -> None:
    # The exact form needs erf, which NumPy lacks; SciPy is loaded only by policies that use it.
    from scipy.special import erf

    gate = erf(x * np.asarray(np.sqrt(0.5), x.dtype))
    gate += 1
    x *= 0.5
    x *= gate


def _identity(x: Array) -> None:
    """Nothing to do."""


def _elu(alpha: float) -> Activation:
    def apply(x: Array) -> None:
        below = np.expm1(np.minimum(x, 0))
        below *= alpha
        np.copyto(x, below, where=x < 0)

    return apply


def _leaky_relu(slope: float) -> Activation:
    def apply(x: Array) -> None:
        np.multiply(x, slope, out=x, where=x < 0)

    return apply


_PLAIN: dict[str, Activation] = {
    "tanh": _tanh,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "identity": _identity,
}
_SHAPED: dict[str, Callable[[float], Activation]] = {"elu": _elu, "leaky_relu": _leaky_relu}

NAMES = frozenset(_PLAIN) | frozenset(_SHAPED)


def activation(name: str, parameter: float | None = None) -> Activation:
    """The activation of that name; ``elu`` takes alpha and ``leaky_relu`` its negative slope.

    Raises:
        KeyError: no activation has that name.
    """
    if name in _PLAIN:
        return _PLAIN[name]
    return _SHAPED[name](1.0 if parameter is None else float(parameter))
