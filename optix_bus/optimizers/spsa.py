"""Simultaneous perturbation: all hyperparameters at once, whatever their number, from pairs of scores."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from optix_bus.errors import ConfigurationError
from optix_bus.interfaces import BaseOptimizer
from optix_bus.optimizers.box import ParamBox
from optix_bus.types import EvalMetrics, HyperparamSet

#: The key under which a score says with which version of the hyperparameters its policy was learnt.
VERSION = "hyperparams_version"

#: One gradient estimate: a drift that is linear in time cancels, (1 + 4) = (2 + 3).
_SIGNS = (1.0, -1.0, -1.0, 1.0)

#: Memory of noise and signal, in gradient estimates.
_MEMORY = 25.0

#: What the unit of differences keeps from one estimate to the next.
_FADING = 0.995

#: A signal counts above this many times the variance of the noise.
_CAUTION = 1.0

#: Spall's stability constant A, in gradient estimates, and his exponents.
_SPALL_A, _SPALL_ALPHA, _SPALL_GAMMA = 10.0, 0.602, 0.101


@dataclass
class _Probe:
    version: int
    sign: float
    score: float | None = None


class SPSAOptimizer(BaseOptimizer):
    """Stochastic approximation with simultaneous perturbation (Spall 1992; gains after Spall 1998).

    A probe sets every parameter a step up or down along one random vector of signs. What a probe does shows
    in the score of the policy that was *learnt* with it, which arrives windows later: each score is credited
    to the probe whose version it carries as ``metrics["hyperparams_version"]``, and the next estimate begins
    when all four scores of this one have arrived. Scores without a version are credited to the parameters in
    force. A policy's score is the sum of all it has learnt; the order up, down, down, up makes the
    difference right for that as well as for scores that depend on the latest parameters alone.

    Differences are measured in units of their own root mean square, so the scale of the score does not
    matter, and shrunk by the share of them that is no noise, so a flat objective moves nothing.

    Args:
        param_bounds: (low, high) by hyperparameter; None tunes nothing.
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
        perturbation_scale: float = 0.05,
        learning_rate: float = 0.1,
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
        for name, value in (
            ("perturbation_scale", perturbation_scale),
            ("learning_rate", learning_rate),
            ("gradient_clip", gradient_clip),
        ):
            if not value > 0.0:
                raise ConfigurationError(f"found {name}={value!r}, expected a number above 0")
        self._box = ParamBox(param_bounds or {}, log_params or ())
        self._c, self._a = perturbation_scale, learning_rate
        self._min_c, self._clip = min_perturbation, gradient_clip
        self._warmup = warmup_episodes
        self._spall = gains == "spall"
        self._seed = seed if rng is None else int(rng.integers(2**63))
        self._centre: np.ndarray[Any, Any] | None = None
        self._proposed: np.ndarray[Any, Any] | None = None
        self._round = 0  # gradient estimates begun: the key of their random signs
        # The random signs of an estimate, with what they follow from: its four probes share them.
        self._signs: tuple[tuple[int, ...], np.ndarray[Any, Any]] = ((), np.empty(0))
        self._steps = 0  # gradient estimates finished
        self._probes: list[_Probe] = []
        self._version = 0
        self._space: list[list[Any]] = []  # what the coordinates of the points mean
        self._seen = -1
        self._scored = 0
        self._signal = self._noise = self._scale = 0.0
        self._weight = 0.0
        self._probing = False

    @property
    def is_probing(self) -> bool:
        """True while the parameters in force are a probe."""
        return self._probing

    @property
    def centre(self) -> dict[str, float]:
        """The point around which it probes, in the unit box; empty before the first suggestion."""
        if self._centre is None:
            return {}
        return dict(zip(self._box.names, self._centre.tolist(), strict=True))

    def suggest(
        self, current_hyperparams: HyperparamSet, metrics_history: list[EvalMetrics]
    ) -> HyperparamSet:
        """The next probe, or the centre while scores of probes are still under way."""
        if not self._box.names:
            return current_hyperparams.copy()
        self._synchronise(current_hyperparams.params, metrics_history)
        for metrics in self._fresh(metrics_history):
            self._credit(metrics)
        assert self._centre is not None
        point = self._centre
        self._probing = False
        if self._scored >= self._warmup:
            if len(self._probes) == len(_SIGNS) and all(p.score is not None for p in self._probes):
                self._step()
                point = self._centre
            if not self._probes:
                self._round += 1
            if len(self._probes) < len(_SIGNS):
                sign = _SIGNS[len(self._probes)]
                point = self._probe_at(sign)
                self._probes.append(_Probe(-1, sign))
                self._probing = True
        params = self._box.decode(point, current_hyperparams.params)
        if params != current_hyperparams.params:
            self._version += 1
        if self._probing:
            self._probes[-1].version = self._version
        self._proposed = self._box.encode(params)
        return HyperparamSet(params, current_hyperparams.episode_id, current_hyperparams.timestamp)

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on, to the same suggestions."""
        return {
            "seed": self._seed,
            "space": self._space,
            "centre": None if self._centre is None else self._centre.tolist(),
            "proposed": None if self._proposed is None else self._proposed.tolist(),
            "round": self._round,
            "steps": self._steps,
            "probes": [[p.version, p.sign, p.score] for p in self._probes],
            "version": self._version,
            "seen": self._seen,
            "scored": self._scored,
            "moments": [self._signal, self._noise, self._scale, self._weight],
            "probing": self._probing,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`. The arguments of this optimizer hold: where it tunes other parameters, or
        within other bounds, it restarts from those in force at the next `suggest`."""
        self._seed = int(state["seed"])
        self._space = [list(axis) for axis in state["space"]]
        self._centre = None if state["centre"] is None else np.array(state["centre"], np.float64)
        self._proposed = None if state["proposed"] is None else np.array(state["proposed"], np.float64)
        self._round, self._steps = int(state["round"]), int(state["steps"])
        self._probes = [_Probe(int(version), sign, score) for version, sign, score in state["probes"]]
        self._version, self._seen, self._scored = state["version"], state["seen"], state["scored"]
        self._signal, self._noise, self._scale, self._weight = map(float, state["moments"])
        self._probing = bool(state["probing"])

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw other signs from now on. An estimate that is under way begins again."""
        self._seed = int(rng.integers(2**63))
        self._probes = []

    def _synchronise(self, params: Mapping[str, Any], history: list[EvalMetrics]) -> None:
        """Start at, or after a change by somebody else restart from, the parameters in force."""
        self._box.fit(params)
        here = self._box.encode(params)
        moved, self._space = self._space != self._box.space, self._box.space
        if moved and self._centre is not None:
            # Restored into other bounds: the parameters in force are the same, their coordinates are not.
            self._probes = []
        elif self._centre is None:
            self._version = int(history[-1].metrics.get(VERSION, 0)) if history else 0
        elif self._proposed is not None and _are_close(here, self._proposed):
            return
        else:
            self._probes = []
            self._version += 1
        self._centre = here

    def _fresh(self, history: list[EvalMetrics]) -> list[EvalMetrics]:
        """The evaluations that came since the last call: by their window, or the newest without one."""
        newest = itertools.takewhile(lambda metrics: metrics.episode_id > self._seen, reversed(history))
        fresh = list(newest)[::-1] or history[-1:]
        self._seen = max([self._seen, *(metrics.episode_id for metrics in fresh)])
        return fresh

    def _credit(self, metrics: EvalMetrics) -> None:
        score = metrics.primary_score
        if not math.isfinite(score):
            return
        self._scored += 1
        version = int(metrics.metrics.get(VERSION, self._version))
        if version > self._version:
            self._version = version  # somebody else changed something in between: nothing is comparable
            self._probes = []
            return
        waiting = [probe for probe in self._probes if probe.score is None]
        if any(probe.version < version for probe in waiting):
            self._probes = []  # the score of a probe never came
            return
        for probe in waiting:
            if probe.version == version:
                probe.score = score
                return

    def _step(self) -> None:
        """One step along the sign vector, from the four scores of a finished estimate."""
        assert self._centre is not None
        f1, f2, f3, f4 = (probe.score or 0.0 for probe in self._probes)
        difference = (f1 - f2 - f3 + f4) / 2.0
        # What is left when level, linear drift and the probes' effect are taken out: variance 20 x noise.
        residual = (f4 - f1) - 3.0 * (f3 - f2)
        self._remember(difference**2, residual**2 / 20.0)
        up, down = self._probe_at(1.0), self._probe_at(-1.0)
        self._probes = []
        self._steps += 1
        if self._scale <= 0.0:
            return
        shrink = max(0.0, 1.0 - _CAUTION * self._noise / self._signal) if self._signal > 0.0 else 0.0
        pull = float(np.clip(difference / self._scale, -self._clip, self._clip)) * shrink
        a = self._a
        if self._spall:
            a *= ((1.0 + _SPALL_A) / (self._steps + _SPALL_A)) ** _SPALL_ALPHA
        self._centre = np.clip(self._centre + a * pull * np.sign(up - down), 0.0, 1.0)

    def _remember(self, signal: float, noise: float) -> None:
        """Running mean squares of differences and noise; plain means until the memory is full."""
        self._weight = min(self._weight + 1.0, _MEMORY)
        self._signal += (signal - self._signal) / self._weight
        self._noise += (noise - self._noise) / self._weight
        # The unit of differences forgets slowly: near the optimum they are small in it, and so are the steps.
        self._scale = max(math.sqrt(self._signal), self._scale * _FADING)

    def _probe_at(self, sign: float) -> np.ndarray[Any, Any]:
        """``[d]`` the probe of the current estimate on this side of the centre, inside the box."""
        assert self._centre is not None
        key = (self._seed, self._round, len(self._box.names))
        if self._signs[0] != key:
            rng = np.random.default_rng([self._seed, self._round])
            self._signs = key, rng.integers(0, 2, size=len(self._box.names)) * 2.0 - 1.0
        c = self._c / self._round**_SPALL_GAMMA if self._spall else self._c
        reach = np.maximum(max(c, self._min_c), self._box.smallest_steps())
        probe: np.ndarray[Any, Any] = (self._centre + sign * reach * self._signs[1]).clip(0.0, 1.0)
        return probe


def _are_close(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    """Whether two points of the box are the same but for what agents do to numbers when they keep them."""
    return bool(np.abs(a - b).max(initial=0.0) <= 1e-4)
