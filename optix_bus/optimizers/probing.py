"""What tuners that probe have in common: which score belongs to which probe, and when the next one is due."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optix_bus.errors import ConfigurationError
from optix_bus.interfaces import BaseOptimizer
from optix_bus.optimizers.archive import Archive
from optix_bus.optimizers.box import ParamBox
from optix_bus.optimizers.contrast import Array, Measured, Ways
from optix_bus.types import EvalMetrics, HyperparamSet

#: The keys under which a score says with which version of the hyperparameters its policy was learnt, and
#: which was in force while it acted.
VERSION, ACTING = "hyperparams_version", "acting_hyperparams_version"

#: The two sides of a comparison with the scores that each needs, in an order in which a drift that is linear
#: in time cancels.
COMPARISON = ((1.0, 1), (-1.0, 2), (1.0, 1))


@dataclass
class Probe:
    """One set of parameters that is tried, and what has come of it so far.

    Attributes:
        version: of the hyperparameters while it is in force.
        label: what it is in its experiment; the tuner's own.
        found: of each score of a policy that was learnt with it: label of what it acted under, time (in
            evaluations), score and standard error. NaN is the label of the centre, and an unknown error.
        own: how many of those policies have acted under it as well.
    """

    version: int
    label: float
    found: list[list[float]] = field(default_factory=list)
    own: int = 0


class ProbingOptimizer(BaseOptimizer):
    """Tunes by experiments: a few probes around a centre, then a decision about the centre.

    A hyperparameter may act at once (a temperature of acting), or by what is learnt with it, which the policy
    of the next window shows. So a probe stays in force until scores have come that are its own in both ways:
    of a policy that was learnt with it (``metrics["hyperparams_version"]``) and that has acted under it
    (``metrics["acting_hyperparams_version"]``). What comes late, learnt with a probe that is over, is
    credited to it as well: only so do policies that sum what they have learnt show the difference. Scores
    that name no version are credited to the parameters in force. After an experiment the centre is in force
    for a window. Parameters that somebody else has set become the new centre.

    A tuner says which probes an experiment has (`_design`), where each lies (`_probe_at`), what follows from
    the scores (`_conclude`) and what it has to remember (`_memory`, `_recall`).

    Args:
        param_bounds: (low, high) by hyperparameter; None takes the agent's own.
        log_params: names on a log scale.
        warmup_episodes: evaluations before the first probe.
        seed: of whatever is drawn.
        rng: takes the place of ``seed``.
    """

    def __init__(
        self,
        param_bounds: Mapping[str, tuple[float, float]] | None,
        log_params: Iterable[str] | None,
        warmup_episodes: int,
        seed: int,
        rng: np.random.Generator | None,
    ) -> None:
        self._given = param_bounds is not None
        self._box = ParamBox(param_bounds or {}, log_params or ())
        self._warmup = warmup_episodes
        self._seed = seed if rng is None else int(rng.integers(2**63))
        self._space: list[list[Any]] = []  # what the coordinates of the points mean
        self._centre: Array | None = None
        self._proposed: Array | None = None
        self._round = 0  # experiments begun: the key of what is drawn for them
        self._steps = 0  # experiments finished
        self._probes: list[Probe] = []
        self._version = 0
        self._seen = -1
        self._scored = 0
        self._clock = 0  # evaluations heard of
        self._rest = False  # whether the centre is in force until the last scores have come
        self._probing = False
        self._ways = Ways()
        #: Where a tuner asks for it: all that was tried, with its scores.
        self.archive: Archive | None = None

    @abstractmethod
    def _design(self) -> Sequence[tuple[float, int]]:
        """The probes of one experiment in their order: label, and how many scores each needs."""

    @abstractmethod
    def _probe_at(self, label: float) -> Array:
        """``[d]`` where the probe with this label lies, inside the box."""

    @abstractmethod
    def _conclude(self, found: Measured) -> None:
        """Decide about the centre from the scores of an experiment."""

    def _prepare(self) -> None:
        """A new experiment begins: draw what it needs."""

    def _memory(self) -> dict[str, Any]:
        """What else is to be remembered, as plain values."""
        return {}

    def _recall(self, state: dict[str, Any]) -> None:
        """Go on from what `_memory` said."""

    def _moved(self, dimensions: int) -> None:
        """The centre was set anew, perhaps in another box: what is known of the old place is void."""

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

    @property
    def tunes(self) -> bool:
        """False where there are no bounds, and so nothing to tune."""
        return bool(self._box.names)

    @property
    def is_resting(self) -> bool:
        """True between two experiments."""
        return not self._probes

    def suggest(
        self, current_hyperparams: HyperparamSet, metrics_history: list[EvalMetrics]
    ) -> HyperparamSet:
        """The next probe, or the centre while scores of probes are still under way."""
        if not self._box.names:
            return current_hyperparams.copy()
        self.learn(current_hyperparams, metrics_history)
        return self.propose(current_hyperparams)

    def learn(self, current_hyperparams: HyperparamSet, metrics_history: list[EvalMetrics]) -> None:
        """The first half of `suggest`: credit the new scores, and decide where an experiment is complete."""
        self._synchronise(current_hyperparams.params, metrics_history)
        for metrics in fresh(metrics_history, self._seen):
            self._seen = max(self._seen, metrics.episode_id)
            self._credit(metrics)
        if self._rest and self._probes:
            rows = [(probe.label, *found) for probe in self._probes for found in probe.found]
            self._conclude(Measured(*np.array(rows, np.float64).T))
            self._probes = []
            self._steps += 1

    def propose(self, current_hyperparams: HyperparamSet) -> HyperparamSet:
        """The second half of `suggest`: what is to be in force from now on."""
        assert self._centre is not None
        point = self._centre
        self._rest = len(self._probes) == len(self._design()) and not self._unfinished()
        self._probing = self._scored >= self._warmup and not self._rest
        if self._probing:
            if not self._unfinished():
                self._begin_probe()
            point = self._probe_at(self._probes[-1].label)
        params = self._box.decode(point, current_hyperparams.params)
        if params != current_hyperparams.params:
            self._version += 1
        if self._probing:
            self._probes[-1].version = self._version
        self._proposed = self._box.encode(params)
        if self.archive is not None:
            self.archive.decided(self._version, self._proposed)
        return HyperparamSet(params, current_hyperparams.episode_id, current_hyperparams.timestamp)

    def take_over(self, other: ProbingOptimizer) -> None:
        """Go on where another one has left off, from the parameters that it holds for the best."""
        assert other._centre is not None
        self._box, self._space = other._box, other._space
        self._version, self._seen = other._version, other._seen
        self._scored, self._proposed = other._scored, other._proposed
        self._clock, self._rest, self._steps = other._clock, other._rest, other._steps
        self._centre, self._probes, self._probing = other._centre.copy(), [], False
        self._moved(len(self._box.names))

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on, to the same suggestions."""
        return {
            "seed": self._seed,
            "space": self._space,
            "centre": None if self._centre is None else self._centre.tolist(),
            "proposed": None if self._proposed is None else self._proposed.tolist(),
            "round": self._round,
            "steps": self._steps,
            "probes": [
                [p.version, p.label, p.own, *([_plain(x) for x in row] for row in p.found)]
                for p in self._probes
            ],
            "version": self._version,
            "seen": self._seen,
            "scored": self._scored,
            "clock": self._clock,
            "rest": self._rest,
            "ways": self._ways.state(),
            **self._memory(),
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
        self._probes = [
            Probe(int(version), float(label), [[_float(x) for x in row] for row in found], int(own))
            for version, label, own, *found in state["probes"]
        ]
        self._clock, self._rest = int(state["clock"]), bool(state["rest"])
        self._version, self._seen, self._scored = state["version"], state["seen"], state["scored"]
        self._probing = bool(state["probing"])
        self._ways.load_state(state["ways"])
        self._recall(state)

    def use_bounds(self, bounds: Mapping[str, tuple[float, float]], log_params: Iterable[str]) -> None:
        """Tune within the agent's own bounds; without effect where bounds were given."""
        if not self._given:
            self._box = ParamBox(bounds, log_params)
            self._moved(len(self._box.names))

    def reseed(self, rng: np.random.Generator) -> None:
        """Draw otherwise from now on. An experiment that is under way begins again."""
        self._seed = int(rng.integers(2**63))
        self._probes = []

    def _unfinished(self) -> bool:
        """Whether the newest probe still needs scores."""
        if not self._probes:
            return False
        return self._probes[-1].own < self._design()[len(self._probes) - 1][1]

    def _begin_probe(self) -> None:
        if not self._probes:
            self._round += 1
            self._prepare()
        label, _ = self._design()[len(self._probes)]
        self._probes.append(Probe(-1, label))

    def _synchronise(self, params: Mapping[str, Any], history: list[EvalMetrics]) -> None:
        """Start at, or after a change by somebody else restart from, the parameters in force."""
        self._box.fit(params)
        here = self._box.encode(params)
        moved, self._space = self._space != self._box.space, self._box.space
        if moved and self._centre is not None:
            # Restored into other bounds: the parameters in force are the same, their coordinates are not.
            self._probes = []
            if self.archive is not None:
                self.archive.clear()
        elif self._centre is None:
            self._version = int(history[-1].metrics.get(VERSION, 0)) if history else 0
        elif self._proposed is not None and are_close(here, self._proposed):
            return
        else:
            self._probes = []
            self._version += 1
        self._centre = here
        self._moved(len(here))

    def _credit(self, metrics: EvalMetrics) -> None:
        self._clock += 1
        score = metrics.primary_score
        if not math.isfinite(score):
            return
        self._scored += 1
        version = int(metrics.metrics.get(VERSION, self._version))
        acting = int(metrics.metrics.get(ACTING, version))
        if max(version, acting) > self._version:
            self._version = max(version, acting)  # somebody else changed something: nothing is comparable
            self._probes = []
            return
        if self.archive is not None and version == acting:
            self.archive.heard(version, score)
        for probe in reversed(self._probes):
            if probe.version == version:
                label = next((p.label for p in reversed(self._probes) if p.version == acting), math.nan)
                probe.found.append([label, float(self._clock), score, metrics.standard_error])
                probe.own += version == acting
                return


def fresh(history: list[EvalMetrics], seen: int) -> list[EvalMetrics]:
    """The evaluations of later windows than this one; the newest where windows have no numbers."""
    newest = itertools.takewhile(lambda metrics: metrics.episode_id > seen, reversed(history))
    return list(newest)[::-1] or history[-1:]


def are_close(a: Array, b: Array) -> bool:
    """Whether two points of the box are the same but for what agents do to numbers when they keep them."""
    return bool(np.abs(a - b).max(initial=0.0) <= 1e-4)


def require_positive(**arguments: float) -> None:
    """Refuse arguments that are not above 0.

    Raises:
        ConfigurationError: names the first of them.
    """
    for name, value in arguments.items():
        if not value > 0.0:
            raise ConfigurationError(f"found {name}={value!r}, expected a number above 0")


def _plain(number: float) -> float | None:
    return None if math.isnan(number) else number


def _float(plain: float | None) -> float:
    return math.nan if plain is None else float(plain)
