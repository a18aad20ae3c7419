"""Lets the scores decide which tuner tunes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, get_args

import numpy as np

from optix_bus.errors import ConfigurationError
from optix_bus.interfaces import BaseOptimizer
from optix_bus.optimizers.backoff import BackoffOptimizer
from optix_bus.optimizers.fading import Fading
from optix_bus.optimizers.momentum import MomentumOptimizer
from optix_bus.optimizers.pbt import PBTOptimizer
from optix_bus.optimizers.probing import ProbingOptimizer, fresh
from optix_bus.optimizers.routing import Reading, Route, Switch, read
from optix_bus.optimizers.spsa import SPSAOptimizer
from optix_bus.types import EvalMetrics, HyperparamSet

#: Scores that a decision may look at.
_SCORES = 50

#: Sizes where none are asked for: about half the range at first, so that what is ten times off is mended
#: by the first experiments, while there is still something to gain.
_PROBES, _STEPS = Fading(0.45, 0.1), Fading(0.6, 0.1)


class AdaptiveOptimizer(BaseOptimizer):
    """Routes between SPSA, Momentum, Backoff and PBT.

    By the lag-1 autocorrelation of the residuals of the raw scores: none goes to SPSA, positive to Momentum,
    negative to Backoff. Where the newest scores lie in the lowest fifth of the history and far below the best
    PBT takes over, which goes back to what has scored highest. A change takes ``switch_confirmation``
    readings running that ask for the same, ``switch_patience`` evaluations since the last one, and the end of
    the experiment under way: what was measured is used. `switched` says what the last `suggest` has changed,
    and the optimizer node makes an event of it.

    Args:
        param_bounds: (low, high) by hyperparameter; None takes the agent's own.
        log_params: names on a log scale.
        autocorr_threshold: from here on scores are correlated.
        gap_threshold: how far below the best, as a share of it, PBT may take over.
        switch_patience: evaluations for which a tuner stays at least.
        switch_confirmation: readings running that must agree.
        min_history: scores before the first reading.
        spsa_perturbation_scale, spsa_learning_rate: of `SPSAOptimizer`. By default both begin wide,
            because what comes here may be far off, and fade to its own (`Fading`): 0.45 and 0.6 of the range
            for one parameter, for each of d by their root less, and half of that after eight experiments.
        spsa_warmup_episodes: evaluations before the first probe, whoever tunes.
        momentum_alpha, momentum_probe_scale: of `MomentumOptimizer`; by default the same.
        backoff_perturbation_scale: of `BackoffOptimizer`.
        pbt_history_size, pbt_explore_scale, pbt_exploit_scale: of `PBTOptimizer`.
        seed: of whatever the four draw.
        rng: takes the place of ``seed``.
    """

    def __init__(
        self,
        param_bounds: Mapping[str, tuple[float, float]] | None = None,
        log_params: Iterable[str] | None = None,
        autocorr_threshold: float = 0.3,
        gap_threshold: float = 0.2,
        switch_patience: int = 3,
        switch_confirmation: int = 3,
        min_history: int = 10,
        spsa_perturbation_scale: float | None = None,
        spsa_learning_rate: float | None = None,
        spsa_warmup_episodes: int = 0,
        momentum_alpha: float | None = None,
        momentum_probe_scale: float | None = None,
        backoff_perturbation_scale: float = 0.1,
        pbt_history_size: int = 50,
        pbt_explore_scale: float = 0.2,
        pbt_exploit_scale: float = 0.05,
        *,
        seed: int = 0,
        rng: np.random.Generator | None = None,
    ) -> None:
        if not 0.0 < autocorr_threshold < 1.0:
            raise ConfigurationError(
                f"found autocorr_threshold={autocorr_threshold!r}, expected a number between 0 and 1"
            )
        names = None if log_params is None else tuple(log_params)
        seeds = np.random.default_rng(seed) if rng is None else rng
        more: dict[str, Any] = {"log_params": names, "warmup_episodes": spsa_warmup_episodes, "rng": seeds}
        pbt = PBTOptimizer(
            param_bounds,
            pbt_history_size,
            explore_scale=pbt_explore_scale,
            exploit_scale=pbt_exploit_scale,
            **{**more, "log_params": names or ()},
        )
        self._tuners: dict[Route, ProbingOptimizer] = {
            "spsa": SPSAOptimizer(
                param_bounds,
                _PROBES if spsa_perturbation_scale is None else spsa_perturbation_scale,
                _STEPS if spsa_learning_rate is None else spsa_learning_rate,
                **more,
            ),
            "momentum": MomentumOptimizer(
                param_bounds,
                _STEPS if momentum_alpha is None else momentum_alpha,
                probe_scale=_PROBES if momentum_probe_scale is None else momentum_probe_scale,
                **more,
            ),
            "backoff": BackoffOptimizer(param_bounds, backoff_perturbation_scale, **more),
            "pbt": pbt,
        }
        for tuner in self._tuners.values():
            tuner.archive = pbt.archive  # whoever tunes, what is tried becomes part of the population
        self._threshold, self._gap = autocorr_threshold, gap_threshold
        self._patience, self._confirmation = switch_patience, switch_confirmation
        self._min_history = min_history
        self._active: Route = "spsa"
        self._wanted: Route = "spsa"
        self._votes = 0
        self._age = 0  # evaluations since the last change
        self._seen = -1
        self._scores: deque[float] = deque(maxlen=_SCORES)
        self._reading: Reading | None = None
        self._switched: Switch | None = None

    @property
    def active_optimizer(self) -> ProbingOptimizer:
        """The one that tunes at present."""
        return self._tuners[self._active]

    @property
    def active(self) -> Route:
        """Its short name."""
        return self._active

    @property
    def switched(self) -> Switch | None:
        """The change that the last `suggest` has made; None where it made none."""
        return self._switched

    @property
    def is_probing(self) -> bool:
        """True while the parameters in force are a probe."""
        return self.active_optimizer.is_probing

    @property
    def centre(self) -> dict[str, float]:
        """The point around which is probed, in the unit box; empty before the first suggestion."""
        return self.active_optimizer.centre

    def on_improvement(self, metrics: EvalMetrics) -> None:
        """Passed on to the one that tunes."""
        self.active_optimizer.on_improvement(metrics)

    def on_plateau(self, metrics_history: list[EvalMetrics]) -> None:
        """Passed on to the one that tunes."""
        self.active_optimizer.on_plateau(metrics_history)

    def suggest(
        self, current_hyperparams: HyperparamSet, metrics_history: list[EvalMetrics]
    ) -> HyperparamSet:
        """What the one that tunes suggests; between two of its experiments another may take its place."""
        self._switched = None
        tuner = self.active_optimizer
        if not tuner.tunes:
            return current_hyperparams.copy()
        tuner.learn(current_hyperparams, metrics_history)
        self._read(metrics_history)
        if self._wanted != self._active and tuner.is_resting:
            self._switch()
        return self.active_optimizer.propose(current_hyperparams)

    def _read(self, history: list[EvalMetrics]) -> None:
        for metrics in fresh(history, self._seen):
            self._seen = max(self._seen, metrics.episode_id)
            if math.isfinite(metrics.primary_score):
                self._scores.append(metrics.primary_score)
                self._age += 1
        self._reading = read(
            list(self._scores), autocorrelation=self._threshold, gap=self._gap, at_least=self._min_history
        )
        if self._reading is None:
            return
        self._votes = self._votes + 1 if self._reading.route == self._wanted else 1
        self._wanted = self._reading.route

    def _switch(self) -> None:
        reading = self._reading
        if reading is None or self._votes < self._confirmation or self._age < self._patience:
            return
        old, new = self._active, self._wanted
        self._tuners[new].take_over(self._tuners[old])
        self._active, self._age = new, 0
        self._switched = Switch(old, new, reading)

    def use_bounds(self, bounds: Mapping[str, tuple[float, float]], log_params: Iterable[str]) -> None:
        """Tune within the agent's own bounds; without effect where bounds were given."""
        names = tuple(log_params)
        for tuner in self._tuners.values():
            tuner.use_bounds(bounds, names)

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw otherwise from now on. An experiment that is under way begins again."""
        for tuner in self._tuners.values():
            tuner.reseed(rng)

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on, to the same suggestions."""
        return {
            "tuners": {name: tuner.state() for name, tuner in self._tuners.items()},
            "active": self._active,
            "wanted": self._wanted,
            "votes": self._votes,
            "age": self._age,
            "seen": self._seen,
            "scores": list(self._scores),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`. The arguments of this optimizer hold, as they do for the four."""
        for name in get_args(Route):
            self._tuners[name].load_state(state["tuners"][name])
        self._active, self._wanted = state["active"], state["wanted"]
        self._votes, self._age, self._seen = int(state["votes"]), int(state["age"]), int(state["seen"])
        self._scores = deque((float(score) for score in state["scores"]), maxlen=_SCORES)
        self._switched = None
