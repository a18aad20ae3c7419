"""Simultaneous perturbation: all hyperparameters at once, whatever their number, from pairs of scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from optix_bus.errors import ConfigurationError
from optix_bus.optimizers.contrast import Array, Measured
from optix_bus.optimizers.fading import Fading, least, size
from optix_bus.optimizers.probing import COMPARISON, ProbingOptimizer, require_positive

#: Memory of noise and signal, in gradient estimates.
_MEMORY = 25.0

#: What the unit of differences keeps from one estimate to the next.
_FADING = 0.995

#: A signal counts above this many times the variance of the noise.
_CAUTION = 1.0

#: Degrees of freedom below which nothing is a signal: of three ways to explain a handful of scores one always
#: leaves next to nothing over.
_ENOUGH = 4.0

#: Spall's stability constant A, in gradient estimates, and his exponents.
_SPALL_A, _SPALL_ALPHA, _SPALL_GAMMA = 10.0, 0.602, 0.101


class SPSAOptimizer(ProbingOptimizer):
    """Stochastic approximation with simultaneous perturbation (Spall 1992; gains after Spall 1998).

    A probe sets every parameter a step up or down along one random vector of signs. Four of them, up, down,
    down, up, make one estimate of the gradient; see `ProbingOptimizer` for which score belongs to which.

    Differences are measured in units of their own root mean square, so the scale of the score does not
    matter, and shrunk by the share of them that is no noise, so a flat objective moves nothing.

    Args:
        param_bounds: (low, high) by hyperparameter; None takes the agent's own.
        perturbation_scale: size c of a probe, as a share of the range.
        learning_rate: size a of the step that a typical difference makes, as a share of the range.
        min_perturbation: a decaying c goes no lower.
        gradient_clip: largest difference, in root mean squares, that a step follows.
        log_params: names on a log scale.
        warmup_episodes: evaluations before the first probe.
        gains: ``constant``, or ``spall``: a and c decay as ``k^-0.602`` and ``k^-0.101``.
        seed: of the signs.
        rng: takes the place of ``seed``.
    """

    def __init__(
        self,
        param_bounds: Mapping[str, tuple[float, float]] | None = None,
        perturbation_scale: float | Fading = 0.1,
        learning_rate: float | Fading = 0.1,
        min_perturbation: float = 0.0001,
        gradient_clip: float = 1.0,
        log_params: Iterable[str] | None = None,
        warmup_episodes: int = 0,
        *,
        gains: Literal["constant", "spall"] = "constant",
        seed: int = 0,
        rng: np.random.Generator | None = None,
    ) -> None:
        if gains not in ("constant", "spall"):
            raise ConfigurationError(f"found gains={gains!r}, expected 'constant' or 'spall'")
        require_positive(
            perturbation_scale=least(perturbation_scale),
            learning_rate=least(learning_rate),
            gradient_clip=gradient_clip,
        )
        super().__init__(param_bounds, log_params, warmup_episodes, seed, rng)
        self._c, self._a = perturbation_scale, learning_rate
        self._min_c, self._clip = min_perturbation, gradient_clip
        self._spall = gains == "spall"
        # The random signs of an estimate, with what they follow from: its four probes share them.
        self._signs: tuple[tuple[int, ...], Array] = ((), np.empty(0))
        self._signal = self._noise = self._scale = 0.0
        self._weight = self._freedom = 0.0

    def _design(self) -> Sequence[tuple[float, int]]:
        return COMPARISON

    def _memory(self) -> dict[str, Any]:
        return {"moments": [self._signal, self._noise, self._scale, self._weight, self._freedom]}

    def _recall(self, state: dict[str, Any]) -> None:
        self._signal, self._noise, self._scale, self._weight, self._freedom = map(float, state["moments"])

    def _conclude(self, found: Measured) -> None:
        """One step along the sign vector, from the four scores of a finished estimate."""
        assert self._centre is not None
        seen = self._ways.difference(found)
        self._remember(seen.size**2, seen.variance * seen.spread, seen.freedom)
        if self._signal <= 0.0 or self._freedom < _ENOUGH:
            return
        shrink = max(0.0, 1.0 - _CAUTION * self._noise / self._signal)
        pull = float(np.clip(seen.size / self._scale, -self._clip, self._clip)) * shrink
        a = size(self._a, self._steps, len(self._box.names))
        if self._spall:
            a *= ((1.0 + _SPALL_A) / (self._steps + 1 + _SPALL_A)) ** _SPALL_ALPHA
        up, down = self._probe_at(1.0), self._probe_at(-1.0)
        self._centre = np.clip(self._centre + a * pull * np.sign(up - down), 0.0, 1.0)

    def _remember(self, signal: float, noise: float, freedom: float) -> None:
        """Running mean squares of differences and noise; plain means until the memory is full."""
        self._weight = min(self._weight + 1.0, _MEMORY)
        self._freedom = min(self._freedom + freedom, _MEMORY * _ENOUGH)
        self._signal += (signal - self._signal) / self._weight
        self._noise += (noise - self._noise) / self._weight
        # The unit of differences forgets slowly: near the optimum they are small in it, and so are the steps.
        self._scale = max(math.sqrt(self._signal), self._scale * _FADING)

    def _probe_at(self, sign: float) -> Array:
        """``[d]`` the probe of the current estimate on this side of the centre, inside the box."""
        assert self._centre is not None
        key = (self._seed, self._round, len(self._box.names))
        if self._signs[0] != key:
            rng = np.random.default_rng([self._seed, self._round])
            self._signs = key, rng.integers(0, 2, size=len(self._box.names)) * 2.0 - 1.0
        c = size(self._c, self._steps, len(self._box.names))
        c = c / self._round**_SPALL_GAMMA if self._spall else c
        reach = np.maximum(max(c, self._min_c), self._box.smallest_steps())
        probe: Array = (self._centre + sign * reach * self._signs[1]).clip(0.0, 1.0)
        return probe
