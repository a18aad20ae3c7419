"""Decides what happens at a plateau: a variant of the best, or the end. The mind is `EvolutionLine`."""

from __future__ import annotations

from collections.abc import Sequence

from optix_bus.evolution.line import EvolutionLine
from optix_bus.evolution.mind import EvolutionMind
from optix_bus.evolution.population import Population
from optix_bus.evolution.settings import EvolutionSettings
from optix_bus.messages import (
    AgentDescribed,
    Dormant,
    EnsembleReweighted,
    EvolutionDecided,
    EvolutionReported,
    PolicyPromoted,
    PolicyUpdated,
    RollbackRequested,
    VariantPruned,
    VariantScored,
    WindowScored,
)
from optix_bus.nesting import from_values, to_values
from optix_bus.runtime.node import Context, Node, Site, handles
from optix_bus.types import NamedArrays

#: Seeds are drawn below this.
_SEEDS = 2**62


class PolicyManagerNode(Node):
    """One answer to each plateau: spawn, prune, stop or nothing, with its reason and its figures.

    At a spawn the learner goes on from a clone of the best snapshot with noise, or nodes of the variant's
    own begin with that (``variants: nodes``), so that the run does not end there. The variants of a run are
    its ensemble; their weights follow rolling validation scores.
    """

    emits = (EnsembleReweighted, VariantPruned, EvolutionDecided, EvolutionReported)
    settings = EvolutionSettings
    noted = (AgentDescribed, PolicyPromoted, PolicyUpdated, WindowScored, VariantScored)
    optional = (VariantScored,)

    def __init__(self, mind: EvolutionMind) -> None:
        self.mind = mind

    @classmethod
    def build(cls, settings: EvolutionSettings, site: Site) -> PolicyManagerNode:
        return cls(Population(settings) if settings.variants == "nodes" else EvolutionLine(settings))

    def state(self) -> NamedArrays:
        return from_values(self.mind.state())

    def load_state(self, state: NamedArrays) -> Sequence[str]:
        self.mind.load_state(to_values(state))
        return ()

    @handles(AgentDescribed)
    def on_agent(self, event: AgentDescribed, ctx: Context) -> None:
        self.mind.describe_agent(event.param_bounds, event.log_params)

    @handles(PolicyPromoted)
    def on_promoted(self, event: PolicyPromoted, ctx: Context) -> None:
        self.mind.promoted(event.window, event.params)

    @handles(PolicyUpdated)
    def on_policy(self, event: PolicyUpdated, ctx: Context) -> None:
        if event.origin == "variant":
            self.mind.began(event.version)

    @handles(WindowScored)
    def on_scored(self, event: WindowScored, ctx: Context) -> None:
        if event.purpose == "score":
            self.mind.scored(event.window, event.policy_version, event.score, event.generalization_gap)

    @handles(VariantScored)
    def on_variant_scored(self, event: VariantScored, ctx: Context) -> None:
        if event.purpose == "score":
            self.mind.scored_beside(event.variant, event.score)

    @handles(Dormant)
    def on_dormant(self, event: Dormant, ctx: Context) -> None:
        self._reweigh(event.window, ctx)
        seed = int(ctx.rng("variant", self.mind.spawns + 1).integers(_SEEDS))
        decision = self.mind.decide(event.window, seed)
        for pruned in self.mind.prune(decision.action, event.window):
            ctx.emit(
                VariantPruned(
                    window=event.window, variant=pruned.number, weight=pruned.weight, reason=pruned.reason
                )
            )
        ctx.emit(
            EvolutionDecided(
                window=event.window,
                action=decision.action.value,
                reason=decision.reason,
                variant=decision.variant,
                noise_scale=decision.noise_scale,
                weight_noise=decision.weight_noise,
                seed=decision.seed,
                params=dict(decision.params),
                made=decision.made,
                figures=dict(decision.figures),
            )
        )

    @handles(RollbackRequested)
    def on_rollback(self, event: RollbackRequested, ctx: Context) -> None:
        if event.final:
            if self.mind.beside:
                self._reweigh(event.window, ctx)
            lines = tuple(self.mind.report_lines())
            ctx.emit(EvolutionReported(window=event.window, lines=lines))

    def _reweigh(self, window: int, ctx: Context) -> None:
        weights, scores = self.mind.reweigh(window)
        ctx.emit(
            EnsembleReweighted(
                window=window,
                weights={str(number): weight for number, weight in weights.items()},
                scores={str(number): score for number, score in scores.items()},
            )
        )
