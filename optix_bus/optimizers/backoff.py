"""One hyperparameter after the other, by the sign of what it does alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from optix_bus.optimizers.contrast import Array, Measured, Noise
from optix_bus.optimizers.probing import COMPARISON, ProbingOptimizer, require_positive
from optix_bus.types import EvalMetrics

#: Standard errors above which a difference is believed.
_BELIEVED = 2.0

#: A step changes by these factors: after a reversal, without a finding, at an improvement, on a plateau.
_AFTER_REVERSAL, _WITHOUT_FINDING, _IMPROVED, _PLATEAU = 0.6, 1.3, 0.9, 1.5

#: How far a step may leave the one that was asked for, as factors.
_SMALLEST, _LARGEST = 0.25, 4.0


class BackoffOptimizer(ProbingOptimizer):
    """Round-robin finite differences of which only the sign counts, for scores that swing.

    One parameter at a time is tried a step up and a step down, in an order in which drift cancels. Where the
    difference is larger than two standard errors the better side becomes the centre; otherwise nothing moves.
    Each parameter has its own step: a change of direction shrinks it, an experiment without a finding makes
    the next one of this parameter larger. An improvement of the loop takes growth back, a plateau adds to it.
    What has grown is for looking only: the centre moves by no more than the step that was asked for, because
    the better one of two far points may be worse than what lies between them.

    Args:
        param_bounds: (low, high) by hyperparameter; None takes the agent's own.
        perturbation_scale: size of the first steps, as a share of the range.
        min_delta: no step gets smaller than this share of the range.
        gradient_threshold: smaller differences, in units of the score, are none.
        log_params: names on a log scale.
        warmup_episodes: evaluations before the first probe.
        seed: unused by this one, which draws nothing; kept for all tuners alike.
        rng: takes the place of ``seed``.
    """

    def __init__(
        self,
        param_bounds: Mapping[str, tuple[float, float]] | None = None,
        perturbation_scale: float = 0.05,
        min_delta: float = 1e-4,
        gradient_threshold: float = 1e-10,
        *,
        log_params: Iterable[str] | None = None,
        warmup_episodes: int = 0,
        seed: int = 0,
        rng: np.random.Generator | None = None,
    ) -> None:
        require_positive(perturbation_scale=perturbation_scale)
        super().__init__(param_bounds, log_params, warmup_episodes, seed, rng)
        self._c, self._threshold = perturbation_scale, gradient_threshold
        self._least = max(_SMALLEST * perturbation_scale, min_delta)
        self._noise = Noise()
        self._steps_of = np.empty(0)
        self._directions = np.empty(0)
        self._moved(len(self._box.names))

    @property
    def deltas(self) -> dict[str, float]:
        """The present step of each parameter, as a share of its range."""
        return dict(zip(self._box.names, self._steps_of.tolist(), strict=False))

    def on_improvement(self, metrics: EvalMetrics) -> None:
        """What has grown shrinks back towards the step that was asked for."""
        self._steps_of = np.where(
            self._steps_of > self._c, np.maximum(self._steps_of * _IMPROVED, self._c), self._steps_of
        )

    def on_plateau(self, metrics_history: list[EvalMetrics]) -> None:
        """Larger steps, to find what small ones do not show."""
        self._steps_of = np.minimum(self._steps_of * _PLATEAU, self._c * _LARGEST)

    def _moved(self, dimensions: int) -> None:
        if len(self._steps_of) != dimensions:
            self._steps_of, self._directions = np.full(dimensions, self._c), np.zeros(dimensions)

    @property
    def _turn(self) -> int:
        return (self._round - 1) % len(self._box.names)

    def _design(self) -> Sequence[tuple[float, int]]:
        return COMPARISON

    def _probe_at(self, label: float) -> Array:
        return self._beside(label, float(self._steps_of[self._turn]))

    def _beside(self, side: float, distance: float) -> Array:
        """``[d]`` the point at this distance from the centre, along the parameter whose turn it is."""
        assert self._centre is not None
        point, turn = self._centre.copy(), self._turn
        reach = max(distance, float(self._box.smallest_steps()[turn]))
        point[turn] = min(max(point[turn] + side * reach, 0.0), 1.0)
        return point

    def _conclude(self, found: Measured) -> None:
        assert self._centre is not None
        turn, seen = self._turn, self._ways.difference(found)
        self._noise.remember(seen.variance, seen.freedom)
        side = float(np.sign(seen.size))
        if abs(seen.size) <= max(self._noise.needed(found.errors, seen.spread, _BELIEVED), self._threshold):
            self._steps_of[turn] = min(self._steps_of[turn] * _WITHOUT_FINDING, self._c * _LARGEST)
            return
        better = self._beside(side, min(float(self._steps_of[turn]), self._c))
        if self._directions[turn] == -side:
            self._steps_of[turn] = max(self._steps_of[turn] * _AFTER_REVERSAL, self._least)
        self._directions[turn] = side
        self._centre = better

    def _memory(self) -> dict[str, Any]:
        return {
            "steps_of": self._steps_of.tolist(),
            "directions": self._directions.tolist(),
            "noise": self._noise.state(),
        }

    def _recall(self, state: dict[str, Any]) -> None:
        self._steps_of = np.array(state["steps_of"], np.float64)
        self._directions = np.array(state["directions"], np.float64)
        self._noise = Noise.restored(state["noise"])
