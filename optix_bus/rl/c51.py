"""Distributions of returns on fixed atoms: moving them along a transition and back onto the atoms.

Bellemare, Dabney and Munos 2017, A distributional perspective on reinforcement learning,
https://arxiv.org/abs/1707.06887, algorithm 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = np.ndarray[Any, Any]
Float64 = npt.NDArray[np.float64]


def atoms(v_min: float, v_max: float, n_atoms: int) -> Float64:
    """Equally spaced returns ``[n_atoms]`` from v_min to v_max.

    Raises:
        ValueError: fewer than two atoms, or no room between the ends.
    """
    if n_atoms < 2 or not v_min < v_max:
        raise ValueError(
            f"found {n_atoms} atoms from {v_min} to {v_max}, expected two or more and v_min below v_max"
        )
    return np.linspace(v_min, v_max, n_atoms)


def project(probabilities: Array, rewards: Array, discounts: Array, support: Array) -> Float64:
    """The distributions of ``rewards + discounts * Z`` on the atoms again.

    Mass that falls between two atoms goes to both by distance, what falls on an atom stays there whole, and
    what falls beyond the ends goes to them: each row sums to what it did before.

    Args:
        probabilities: ``[B, N]`` of Z on the atoms.
        rewards: ``[B]``.
        discounts: ``[B]``, 0 where the episode was terminated.
        support: ``[N]`` equally spaced atoms.

    Returns:
        ``[B, N]`` float64.
    """
    rows, n = probabilities.shape
    if rewards.shape != (rows,) or discounts.shape != (rows,) or support.shape != (n,):
        raise ValueError(
            f"rewards {rewards.shape}, discounts {discounts.shape}, support {support.shape}: expected "
            f"{(rows,)}, {(rows,)} and {(n,)} for probabilities {(rows, n)}"
        )
    step = (support[-1] - support[0]) / (n - 1)
    moved = rewards[:, None].astype(np.float64) + discounts[:, None].astype(np.float64) * support
    place = (np.clip(moved, support[0], support[-1]) - support[0]) / step
    # The last atom has no right neighbour: it counts as all of the way from the one before.
    left = np.minimum(place.astype(np.int64), n - 2)
    share = np.clip(place - left, 0.0, 1.0)
    flat = left + np.arange(rows)[:, None] * n
    parts = ((flat, 1.0 - share), (flat + 1, share))
    mass: Float64 = np.zeros(rows * n)
    for at, weight in parts:
        mass += np.bincount(at.ravel(), (probabilities * weight).ravel(), rows * n)
    return mass.reshape(rows, n)
