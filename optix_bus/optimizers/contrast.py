"""Parameter sets compared by the scores of a few windows, and what is noise in that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: Memory of the noise, in degrees of freedom.
_MEMORY = 25.0

#: What is kept of what each way has left unexplained, from one experiment to the next.
_FORGETTING = 0.9

#: How many degrees of freedom the standard errors that scores bring with them are worth.
_TRUST = 3.0


@dataclass(frozen=True)
class Measured:
    """What an experiment has found, ``[N]`` each: what was learnt with and acted under, when, how much."""

    labels: Array
    acting: Array
    times: Array
    scores: Array
    errors: Array


@dataclass(frozen=True)
class Effects:
    """What an experiment says.

    Attributes:
        effects: ``[d]`` change of the score by one unit of each cause.
        spread: ``[d]`` variance of each effect, in variances of one score.
        variance: of one score, estimated from what nothing explains.
        freedom: degrees of freedom of that.
    """

    effects: Array
    spread: Array
    variance: float
    freedom: float


@dataclass(frozen=True)
class Difference:
    """How much better one of two parameter sets is than the other.

    Attributes:
        size: mean score of the set with label 1 minus that of the one with label -1.
        variance: of one score, from ``freedom`` degrees of freedom.
        spread: variance of `size`, in variances of one score.
    """

    size: float
    variance: float
    freedom: float
    spread: float


class Ways:
    """In which way hyperparameters act, as far as the scores show it.

    At once, on the score of the policy that acts under them; on the next policy alone, which was learnt with
    them; or on all later ones, which have summed what they learnt. Each way explains the scores of an
    experiment by other causes, and the one that has left least unexplained is believed.
    """

    def __init__(self) -> None:
        self._left = [0.0, 0.0, 0.0]

    def effects(self, found: Measured, learnt: Array, acting: Array) -> Effects:
        """Least squares of the ``[N]`` scores on level, a drift that is linear in time, and causes.

        Args:
            found: the scores.
            learnt: ``[N, d]`` where the parameters lay that each policy was learnt with, in probes.
            acting: ``[N, d]`` the same for those that it acted under.
        """
        fits = [_fit(found, causes) for causes in (learnt, acting, np.cumsum(learnt, axis=0))]
        total = sum(fit.variance for fit in fits)
        if total > 0.0:  # shares, so that a quiet time counts as much as a loud one
            self._left = [
                _FORGETTING * left + fit.variance / total for left, fit in zip(self._left, fits, strict=True)
            ]
        return fits[int(np.argmin(self._left))]

    def difference(self, found: Measured) -> Difference:
        """Compare the two sets of an experiment whose labels are 1 and -1."""
        acting = np.where(np.isnan(found.acting), 0.0, found.acting)
        seen = self.effects(found, found.labels[:, None], acting[:, None])
        return Difference(
            2.0 * float(seen.effects[0]), seen.variance, seen.freedom, 4.0 * float(seen.spread[0])
        )

    def state(self) -> list[float]:
        """Plain values from which `load_state` goes on."""
        return list(self._left)

    def load_state(self, state: list[float]) -> None:
        """Go on from a `state`."""
        self._left = [float(left) for left in state]


def _fit(found: Measured, causes: Array) -> Effects:
    times = found.times - found.times.mean()
    length = float(np.abs(times).max()) or 1.0
    known = np.column_stack([np.ones(len(times)), times / length, causes])
    inverse = np.linalg.pinv(known.T @ known)
    fitted = inverse @ (known.T @ found.scores)
    left = found.scores - known @ fitted
    freedom = len(times) - known.shape[1]
    variance = float(left @ left) / freedom if freedom > 0 else 0.0
    # What rounding leaves of an exact fit is neither noise nor an effect.
    rounding = 1e-12 * float(np.abs(found.scores).max())
    variance = 0.0 if variance <= rounding**2 else variance
    size = np.where(np.abs(fitted[2:]) <= rounding, 0.0, fitted[2:])
    return Effects(size, np.diag(inverse)[2:], variance, float(max(freedom, 0)))


@dataclass
class Noise:
    """Variance of one score, remembered from one experiment to the next."""

    variance: float = 0.0
    weight: float = 0.0

    def remember(self, sample: float, freedom: float = 1.0) -> None:
        """One more estimate with these degrees of freedom; a plain mean until the memory is full."""
        self.weight = min(self.weight + freedom, _MEMORY)
        self.variance += (sample - self.variance) * min(freedom / self.weight, 1.0)

    def freedom(self, errors: Array) -> float:
        """Degrees of freedom of `pooled`."""
        return self.weight + (_TRUST if np.isfinite(errors).all() else 0.0)

    def pooled(self, errors: Array) -> float:
        """What is remembered together with the ``[N]`` standard errors that scores brought with them."""
        freedom = self.freedom(errors)
        if freedom <= 0.0:
            return math.inf
        stated = float(np.mean(np.square(errors))) if freedom > self.weight else 0.0
        return (self.weight * self.variance + (freedom - self.weight) * stated) / freedom

    def needed(self, errors: Array, spread: float, k: float = 2.0) -> float:
        """Size from which a difference with this `Difference.spread` is no chance: ``k`` standard errors.

        Where little is known, k grows as the quantiles of Student's t do (Abramowitz and Stegun, 26.7.5).
        """
        n = self.freedom(errors)
        if n <= 0.0:
            return math.inf
        wide = k + (k**3 + k) / (4.0 * n) + (5 * k**5 + 16 * k**3 + 3 * k) / (96.0 * n**2)
        return wide * math.sqrt(self.pooled(errors) * spread)

    def state(self) -> list[float]:
        """Plain values from which `restored` goes on."""
        return [self.variance, self.weight]

    @classmethod
    def restored(cls, state: list[float]) -> Noise:
        """What `state` said."""
        return cls(float(state[0]), float(state[1]))
