"""The loss of deep Q-learning and its gradient, from the formulas, row by row in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Layers = list[tuple[Array, Array]]


def values(layers: Layers, observation: Array) -> tuple[Array, list[Array]]:
    """Action values of one observation by a network with rectified linear units, and every layer's input."""
    inputs, x = [], np.asarray(observation, np.float64)
    for number, (weight, bias) in enumerate(layers):
        inputs.append(x)
        x = weight @ x + bias
        if number < len(layers) - 1:
            x = np.where(x > 0.0, x, 0.0)
    return x, inputs


def target(
    online: Layers,
    frozen: Layers,
    reward: float,
    following: Array,
    discount: float,
    double: bool,
    allowed: Array | None = None,
) -> float:
    """``r + discount * Q'(s', argmax_a Q(s', a))``, with Q' in the place of Q where it is not double.

    The maximum goes over the allowed actions of s', where those are given.
    """
    ahead, _ = values(frozen, following)
    choice = values(online, following)[0] if double else ahead
    those = range(len(choice)) if allowed is None else [a for a in range(len(choice)) if allowed[a]]
    chosen = max(those, key=lambda a: float(choice[a]))
    return reward + discount * float(ahead[chosen])


def loss(
    online: Layers, frozen: Layers, rows: list[tuple[Any, ...]], double: bool
) -> tuple[float, Layers, list[float]]:
    """Mean of ``w * huber(Q(s, a) - y)``, its gradient by layer, and the errors.

    Rows are (observation, action, reward, following, discount, weight) and perhaps what is allowed next.
    """
    total, errors = 0.0, []
    gradient = [(np.zeros_like(w, np.float64), np.zeros_like(b, np.float64)) for w, b in online]
    for observation, action, reward, following, discount, weight, *allowed in rows:
        y = target(online, frozen, reward, following, discount, double, *allowed)
        q, inputs = values(online, observation)
        error = float(q[action]) - y
        errors.append(error)
        total += weight * (0.5 * error**2 if abs(error) < 1.0 else abs(error) - 0.5)
        d = np.zeros(len(q))
        d[action] = weight * max(-1.0, min(1.0, error)) / len(rows)
        for number in reversed(range(len(online))):
            gradient[number][0][...] += np.outer(d, inputs[number])
            gradient[number][1][...] += d
            if number:
                d = (online[number][0].T @ d) * (inputs[number] > 0.0)
    return total / len(rows), gradient, errors
