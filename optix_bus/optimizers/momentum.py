"""Gradient steps with momentum: what each hyperparameter does by itself, remembered across experiments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from optix_bus.errors import ConfigurationError
from optix_bus.optimizers.contrast import Array, Measured, Noise
from optix_bus.optimizers.fading import Fading, least, size
from optix_bus.optimizers.probing import ProbingOptimizer, require_positive

#: A mean gradient counts above this many times the variance of its noise.
_CAUTION = 2.0


class MomentumOptimizer(ProbingOptimizer):
    """Finite differences of every parameter, followed with first and second moments (Kingma and Ba 2015).

    For scores whose noise is correlated in time. The differences of all parameters come from one experiment
    (a two-level factorial, Plackett and Burman 1946): in each probe every parameter is a step up or down, and
    each one has its own order of ups and downs. The orders are Walsh functions of two factors or more, which
    are orthogonal to each other and to any linear drift (Cheng and Jacroux 1988), so each difference uses
    every score: 4 windows for one parameter, 8 for up to four, 16 for up to eleven.

    A step has the size ``alpha`` where the gradient keeps its sign, and is shrunk by the share of the mean
    gradient that noise explains, so a flat objective moves nothing.

    Args:
        param_bounds: (low, high) by hyperparameter; None takes the agent's own.
        alpha: size of a step, as a share of the range.
        beta1: memory of the gradient, per score.
        beta2: memory of its square, per score.
        eps: smallest unit of a gradient, as a share of the largest one.
        probe_scale: size of a probe, as a share of the range.
        min_delta: smaller steps are not made.
        log_params: names on a log scale.
        warmup_episodes: evaluations before the first probe.
        seed: unused by this one, which draws nothing; kept for all tuners alike.
        rng: takes the place of ``seed``.
    """

    def __init__(
        self,
        param_bounds: Mapping[str, tuple[float, float]] | None = None,
        alpha: float | Fading = 0.1,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        probe_scale: float | Fading = 0.1,
        min_delta: float = 1e-7,
        *,
        log_params: Iterable[str] | None = None,
        warmup_episodes: int = 0,
        seed: int = 0,
        rng: np.random.Generator | None = None,
    ) -> None:
        require_positive(alpha=least(alpha), probe_scale=least(probe_scale), eps=eps)
        for name, beta in (("beta1", beta1), ("beta2", beta2)):
            if not 0.0 <= beta < 1.0:
                raise ConfigurationError(f"found {name}={beta!r}, expected at least 0 and below 1")
        super().__init__(param_bounds, log_params, warmup_episodes, seed, rng)
        self._alpha, self._c = alpha, probe_scale
        self._beta1, self._beta2 = beta1, beta2
        self._eps, self._min_delta = eps, min_delta
        self._noise = Noise()
        self._moved(len(self._box.names))

    def _moved(self, dimensions: int) -> None:
        self._first, self._second = np.zeros(dimensions), np.zeros(dimensions)
        self._kept1 = self._kept2 = 1.0  # what is left of the zeros that the moments began with
        self._variance = np.zeros(dimensions)  # of the first moments

    def _design(self) -> Sequence[tuple[float, int]]:
        return _runs(len(self._box.names))

    @property
    def _reach(self) -> Array:
        """``[d]`` how far from the centre each parameter is tried."""
        reach: Array = np.maximum(
            size(self._c, self._steps, len(self._box.names)), self._box.smallest_steps()
        )
        return reach

    def _probe_at(self, label: float) -> Array:
        assert self._centre is not None
        probe: Array = (self._centre + self._reach * orders(len(self._box.names))[int(label)]).clip(0.0, 1.0)
        return probe

    def _conclude(self, found: Measured) -> None:
        assert self._centre is not None
        gradient, variances = self._differences(found)
        beta1, beta2 = self._beta1 ** len(found.scores), self._beta2 ** len(found.scores)
        self._first = beta1 * self._first + (1.0 - beta1) * gradient
        self._second = beta2 * self._second + (1.0 - beta2) * gradient**2
        self._variance = beta1**2 * self._variance + (1.0 - beta1) ** 2 * variances
        self._kept1, self._kept2 = self._kept1 * beta1, self._kept2 * beta2
        mean = self._first / (1.0 - self._kept1)
        typical = np.sqrt(self._second / (1.0 - self._kept2))
        if not typical.any():
            return
        noise = _CAUTION * self._variance / (1.0 - self._kept1) ** 2
        share = np.clip(1.0 - noise / np.maximum(mean**2, np.finfo(float).tiny), 0.0, 1.0)
        step = (
            size(self._alpha, self._steps, len(mean)) * share * mean / (typical + self._eps * typical.max())
        )
        step[np.abs(step) < self._min_delta] = 0.0
        self._centre = np.clip(self._centre + step, 0.0, 1.0)

    def _differences(self, found: Measured) -> tuple[Array, Array]:
        """``[d]`` what a step up of each parameter does to the score, and the variances of that."""
        assert self._centre is not None
        reach = self._reach

        def places(labels: Array) -> Array:
            """Where each probe really lay: at a bound it is nearer than intended."""
            points = [self._centre if np.isnan(label) else self._probe_at(label) for label in labels]
            moved: Array = (np.array(points) - self._centre) / reach
            return moved

        seen = self._ways.effects(found, places(found.labels), places(found.acting))
        if seen.freedom:
            self._noise.remember(seen.variance, seen.freedom)
        return seen.effects, self._noise.pooled(found.errors) * seen.spread

    def _memory(self) -> dict[str, Any]:
        return {
            "moments": [self._first.tolist(), self._second.tolist(), self._variance.tolist()],
            "kept": [self._kept1, self._kept2],
            "noise": self._noise.state(),
        }

    def _recall(self, state: dict[str, Any]) -> None:
        self._first, self._second, self._variance = (np.array(m, np.float64) for m in state["moments"])
        self._kept1, self._kept2 = map(float, state["kept"])
        self._noise = Noise.restored(state["noise"])


@cache
def orders(dimensions: int) -> Array:
    """``[N, d]`` of signs: one column for each parameter, orthogonal to the others and to linear drift.

    The columns are the rows of a Hadamard matrix of Sylvester's form that are products of two or more of its
    generating factors, those of the most factors first.
    """
    factors = 2
    while len(_products(factors)) < dimensions:
        factors += 1
    matrix = np.ones((1, 1))
    for _ in range(factors):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix[:, _products(factors)[:dimensions]]


@cache
def _runs(dimensions: int) -> tuple[tuple[float, int], ...]:
    """Rows of `orders`, and how often each follows itself: equal neighbours are one probe."""
    rows = orders(dimensions)
    starts = [i for i in range(len(rows)) if i == 0 or (rows[i] != rows[i - 1]).any()]
    ends = [*starts[1:], len(rows)]
    return tuple((float(start), end - start) for start, end in zip(starts, ends, strict=True))


def _products(factors: int) -> list[int]:
    found = [row for row in range(2**factors) if row.bit_count() >= 2]
    return sorted(found, key=lambda row: -row.bit_count())
