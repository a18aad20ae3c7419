"""The mind of the policy manager node: one learner whose policy goes on from variant to variant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from optix_bus.evolution.decision import Decision
from optix_bus.evolution.meta_controller import MetaAction, MetaController, MetaVerdict
from optix_bus.evolution.mind import Pruned
from optix_bus.evolution.mutation import perturbed
from optix_bus.evolution.noise import variant_noise
from optix_bus.evolution.regime import RegimeDetector
from optix_bus.evolution.report import Evolved, MemberLine, evolution_lines
from optix_bus.evolution.settings import EvolutionSettings
from optix_bus.evolution.weights import score_weights
from optix_bus.types import EvalMetrics


@dataclass
class Variant:
    """One stretch of training, from a variant's first policy to the next plateau.

    Attributes:
        number: 0 is what the run began with.
        first_version: version of its first policy; -1 while that is not yet there.
        scores: latest validation scores of its policies.
        noise_scale: how far it was put from its parent.
        parent_window: window in which its parent earned its record; -1 for none.
        weight: in the ensemble.
    """

    number: int
    first_version: int = -1
    scores: list[float] = field(default_factory=list)
    noise_scale: float = 0.0
    parent_window: int = -1
    weight: float = 1.0

    def scored(self, score: float, keep: int) -> None:
        """One more validation score; the latest ``keep`` stay."""
        self.scores = [*self.scores, score][-keep:]

    @property
    def mean_score(self) -> float:
        """Rolling mean; NaN before the first score."""
        return math.fsum(self.scores) / len(self.scores) if self.scores else math.nan

    def line(self, first: str, end: str = "") -> MemberLine:
        """For the report; ``first`` is what variant 0 is, ``end`` what became of it."""
        descent = f"noise {self.noise_scale:.3g}, parent of window {self.parent_window}"
        note = descent if self.number else first
        return MemberLine(self.number, self.weight, self.mean_score, f"{note}, {end}" if end else note)


class EvolutionLine:
    """Told of scores, records and plateaus, it decides. Pure: no clock, no files, no chance but a seed.

    Scores are those of validation, as everywhere; they belong to the variant whose policy earned them. A
    score of a window after the plateau, which another process may have sent before, is not looked at.
    """

    #: Whether variants are trained beside each other.
    beside = False

    def __init__(self, settings: EvolutionSettings) -> None:
        self._settings = settings
        self._meta = MetaController(
            settings.gap_threshold,
            settings.gap_slope_threshold,
            settings.improvement_threshold,
            settings.meta_window,
        )
        self._detector = RegimeDetector(
            settings.volatility_threshold, settings.trend_threshold, settings.regime_window
        )
        # One more than is looked at: with windows under way ahead, the last one is of after the plateau.
        self._keep = max(settings.noise_window, settings.meta_window, settings.regime_window) + 1
        self.variants = [Variant(0, first_version=0)]
        self.spawns = 0
        self.pruned = 0
        self.regime = ""
        self.reason = ""
        self._bounds: dict[str, tuple[float, float]] = {}
        self._log_params: tuple[str, ...] = ()
        self._best: tuple[int, dict[str, Any]] | None = None
        self._history: list[tuple[int, float, float]] = []  # window, score, gap

    # Hearing

    def describe_agent(self, bounds: Mapping[str, tuple[float, float]], log_params: Sequence[str]) -> None:
        """What may be moved, and how."""
        self._bounds = {name: (float(low), float(high)) for name, (low, high) in bounds.items()}
        self._log_params = tuple(log_params)

    def promoted(self, window: int, params: Mapping[str, Any]) -> None:
        """The policy of this window is the best known, learnt with these hyperparameters."""
        self._best = window, dict(params)

    def began(self, version: int) -> None:
        """The newest variant's first policy has this version."""
        self.variants[-1].first_version = version

    def scored(self, window: int, policy_version: int, score: float, gap: float) -> None:
        """One evaluation; a score that is not finite is no evidence, a gap that is not is none."""
        if not math.isfinite(score):
            return
        self._history = [*self._history[1 - self._keep :], (window, score, gap)]
        began = [v for v in self.variants if 0 <= v.first_version <= policy_version]
        if began:
            began[-1].scored(score, self._settings.score_window)

    def scored_beside(self, variant: int, score: float) -> None:
        """There is one learner, and nothing beside it."""

    # Deciding

    def reweigh(self, window: int) -> tuple[dict[int, float], dict[int, float]]:
        """Weights of the ensemble from rolling scores, and those scores, by number of the variant."""
        means = [variant.mean_score for variant in self.variants]
        for variant, weight in zip(self.variants, score_weights(means), strict=True):
            variant.weight = weight
        self.regime = self._detector.detect(self._seen(window))
        weights = {variant.number: variant.weight for variant in self.variants}
        scores = {v.number: v.mean_score for v in self.variants if math.isfinite(v.mean_score)}
        return weights, scores

    def decide(self, window: int, seed: int) -> Decision:
        """What happens at this plateau; ``seed`` is that of the noise, should there be a variant."""
        seen = self._seen(window)
        verdict = self._verdict(seen)
        if verdict.action is not MetaAction.SPAWN or self._best is None:
            self.reason = verdict.reason
            return Decision(window, verdict.action, verdict.reason, self.spawns, figures=verdict.figures)
        settings, (parent, params) = self._settings, self._best
        noise = variant_noise(seen, settings.min_noise, settings.max_noise, settings.noise_window)
        moved = perturbed(params, noise.scale, np.random.default_rng(seed), self._bounds, self._log_params)
        self.spawns, self.reason = self.spawns + 1, ""
        self.variants.append(Variant(self.spawns, noise_scale=noise.scale, parent_window=parent))
        return Decision(
            window,
            verdict.action,
            verdict.reason,
            variant=self.spawns,
            noise_scale=noise.scale,
            weight_noise=settings.weight_noise * noise.scale,
            seed=seed,
            params=moved,
            figures={
                **verdict.figures,
                **{f"noise_{name}": value for name, value in noise.figures().items()},
                "parent_window": float(parent),
            },
        )

    def prune(self, action: MetaAction, window: int) -> list[Pruned]:
        """Remove what is over the limit, and one more where that was decided; never the one that trains."""
        limit = self._settings.max_ensemble_size
        removed: list[Pruned] = []
        if action is MetaAction.PRUNE and self._removable():
            removed.append(self._remove("the generalisation gap is over its threshold", window))
        while limit is not None and len(self.variants) > limit:
            removed.append(self._remove(f"the ensemble holds at most {limit}", window))
        return removed

    def report_lines(self) -> list[str]:
        """For the end of the loop's report."""
        return evolution_lines(
            Evolved(
                self.reason,
                self.spawns,
                self._settings.max_spawns,
                self.pruned,
                self.regime,
                self._members(),
                former=self._former(),
            )
        )

    def _members(self) -> list[MemberLine]:
        return [variant.line("the policy that the run began with") for variant in self.variants]

    def _former(self) -> list[MemberLine]:
        """Of a line those who left are not told of one by one: their training went on in the next."""
        return []

    # Moving

    def state(self) -> dict[str, Any]:
        """Plain values from which `load_state` goes on; no setting is among them."""
        return {
            "variants": [asdict(variant) for variant in self.variants],
            "spawns": self.spawns,
            "pruned": self.pruned,
            "regime": self.regime,
            "reason": self.reason,
            "bounds": self._bounds,
            "log_params": list(self._log_params),
            "best": None if self._best is None else list(self._best),
            "history": [[w, s, g if math.isfinite(g) else None] for w, s, g in self._history],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`, by the settings of this line."""
        self.variants = [Variant(**variant) for variant in state["variants"]]
        self.spawns, self.pruned = int(state["spawns"]), int(state["pruned"])
        self.regime, self.reason = state["regime"], state["reason"]
        self.describe_agent(state["bounds"], state["log_params"])
        self._best = None if state["best"] is None else (int(state["best"][0]), dict(state["best"][1]))
        self._history = [
            (int(window), float(score), math.nan if gap is None else float(gap))
            for window, score, gap in state["history"]
        ]

    def _seen(self, window: int) -> list[EvalMetrics]:
        return [
            EvalMetrics(score, {"generalization_gap": gap} if math.isfinite(gap) else {}, number, 0.0)
            for number, score, gap in self._history
            if number <= window
        ]

    def _verdict(self, seen: Sequence[EvalMetrics]) -> MetaVerdict:
        limit = self._settings.max_spawns
        spent = limit is not None and self.spawns >= limit
        if self._best is None:
            return MetaVerdict(MetaAction.NO_OP, "there is no best policy to clone")
        if self._settings.meta:
            return self._meta.judge(seen, budget_exhausted=spent)
        if spent:
            return MetaVerdict(MetaAction.STOP, "the spawn budget is spent")
        return MetaVerdict(MetaAction.SPAWN, "a plateau, and the budget allows a variant")

    def _removable(self) -> list[Variant]:
        """Who may be pruned: never the one that trains."""
        return self.variants[:-1]

    def _remove(self, reason: str, window: int) -> Pruned:
        worst = min(self._removable(), key=lambda variant: (variant.weight, -variant.number))
        self.variants.remove(worst)
        self.pruned += 1
        return Pruned(worst.number, worst.weight, reason)
