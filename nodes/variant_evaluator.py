"""Scores the validation episodes of one variant, as the evaluator of the topology does for its learner."""

from __future__ import annotations

from collections.abc import Sequence

from optix_bus.evaluators import make_evaluator
from optix_bus.evaluators.settings import EvaluatorSettings
from optix_bus.interfaces import BaseEvaluator
from optix_bus.messages import VariantCollected, VariantScored
from optix_bus.nesting import join, memory_of, remind, split
from optix_bus.runtime.node import Context, Node, Site, handles
from optix_bus.types import NamedArrays
from optix_bus.windows import unpack

_EVALUATOR = "evaluator"


class VariantEvaluatorNode(Node):
    """Each variant has its own: what an evaluator remembers, and the order of what it says, must not depend
    on whose episodes came first."""

    emits = (VariantScored,)
    settings = EvaluatorSettings
    #: A variant is asked for by the scheduler, and there may be several.
    replicable = True

    def __init__(self, evaluator: BaseEvaluator, variant: int) -> None:
        self._evaluator = evaluator
        self.variant = variant

    @classmethod
    def build(cls, settings: EvaluatorSettings, site: Site) -> VariantEvaluatorNode:
        return cls(make_evaluator(settings), site.variant)

    def state(self) -> NamedArrays:
        memory = memory_of(self._evaluator)
        return join({} if memory is None else {_EVALUATOR: memory})

    def load_state(self, state: NamedArrays) -> Sequence[str]:
        remind(self._evaluator, split(state)[0].get(_EVALUATOR))
        return ()

    @handles(VariantCollected)
    def on_episodes(self, event: VariantCollected, ctx: Context) -> None:
        if event.variant != self.variant or event.role != "validation":
            return
        metrics = self._evaluator.score_validation(unpack(ctx.read_blob(event.data), ctx.now))
        ctx.emit(
            VariantScored(
                variant=self.variant,
                purpose=event.purpose,
                window=event.window,
                policy_version=event.policy_version,
                score=float(metrics.primary_score),
                n=metrics.n,
                standard_error=metrics.standard_error,
                std=float(metrics.metrics.get("std", float("nan"))),
                metrics={key: float(value) for key, value in metrics.metrics.items()},
            )
        )
