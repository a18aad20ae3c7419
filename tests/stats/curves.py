"""Score curves with a known end, in units of the noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Series = npt.NDArray[np.float64]

#: Episodes behind each evaluation; the noise of an evaluation is 1, that of an episode its square root.
EPISODES = 20


@dataclass(frozen=True)
class Curve:
    """A rise to ``amplitude`` noise-sd: exponential with time constant ``tau`` evaluations, or over as long
    as an exponential takes to 95 %: a straight ramp, a square root that stops, a staircase of four steps.
    """

    kind: str
    amplitude: float
    tau: float

    @property
    def settled(self) -> int:
        """First evaluation at 95 % of the end value or more."""
        end = 3.0 * self.tau
        return math.ceil(end * {"ramp": 0.95, "square root": 0.95**2, "flat": 0.0}.get(self.kind, 1.0))

    @property
    def plateau(self) -> int:
        """First evaluation at the end value; of an exponential, where less than the noise is left to come."""
        return math.ceil(3.0 * self.tau) + (int(2.0 * self.tau) if self.kind == "exponential" else 0)

    def mean(self, length: int) -> Series:
        """``[length]`` the curve without noise."""
        t = np.arange(length, dtype=np.float64)
        end = max(3.0 * self.tau, 1e-9)
        if self.kind == "exponential":
            return self.amplitude * (1.0 - np.exp(-t / self.tau))
        if self.kind == "ramp":
            return self.amplitude * np.minimum(t / end, 1.0)
        if self.kind == "square root":
            return self.amplitude * np.sqrt(np.minimum(t / end, 1.0))
        if self.kind == "staircase":
            return self.amplitude * np.minimum(np.floor(4.0 * t / end + 1e-9), 4.0) / 4.0
        return np.zeros(length)


def noise(rng: np.random.Generator, length: int, r: float) -> Series:
    """``[length]`` AR(1) noise with standard deviation 1."""
    return noises(rng, 1, length, r)[0]


def noises(rng: np.random.Generator, runs: int, length: int, r: float) -> Series:
    """``[runs, length]`` AR(1) noise with standard deviation 1."""
    shocks = rng.normal(size=(runs, length)) * math.sqrt(1.0 - r * r)
    found = np.empty((runs, length))
    last = rng.normal(size=runs)
    for index in range(length):
        last = r * last + shocks[:, index]
        found[:, index] = last
    return found


def wilson(hits: int, runs: int) -> tuple[float, float]:
    """95 % interval of a rate (Wilson 1927)."""
    z, share = 1.96, hits / runs
    middle = (share + z * z / (2 * runs)) / (1 + z * z / runs)
    half = z / (1 + z * z / runs) * math.sqrt(share * (1 - share) / runs + z * z / (4 * runs * runs))
    return max(middle - half, 0.0), min(middle + half, 1.0)
