"""Collects the experience of one variant, beside the pipelines of the topology. The mind is theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from nodes.pipeline import PipelineNode
from optix_bus.messages import (
    CollectWindow,
    Event,
    StopRequested,
    VariantCollected,
    VariantDismissed,
    VariantEvaluationRequested,
    VariantUpdated,
    WindowCollected,
)
from optix_bus.nesting import join, split
from optix_bus.pipelines.settings import PipelineSettings
from optix_bus.runtime.node import Context, Site, handles
from optix_bus.types import NamedArrays

_PIPELINE = "pipeline"


class VariantPipelineNode(PipelineNode, inherits_handlers=False):
    """`CollectWindow` starts the pipelines of all variants together with those of the topology; each acts
    with the newest policy of its own variant.

    It lies idle before the variant's first policy and behind its dismissal: a process begins at a cut, and
    meets events there that were not for it.
    """

    emits: ClassVar[tuple[type[Event], ...]] = (VariantCollected,)
    noted: ClassVar[tuple[type[Event], ...]] = (VariantUpdated,)
    optional: ClassVar[tuple[type[Event], ...]] = (
        VariantDismissed,
        VariantEvaluationRequested,
        StopRequested,
    )
    for_variants: ClassVar[str] = ""
    #: A variant is asked for by the scheduler, and there may be several.
    replicable: ClassVar[bool] = True
    _newest = -1

    @classmethod
    def build(cls, settings: PipelineSettings, site: Site) -> VariantPipelineNode:
        made = super().build(settings, site)
        assert isinstance(made, VariantPipelineNode)
        made.variant = site.variant
        return made

    def state(self) -> NamedArrays:
        return join({_PIPELINE: super().state()}, {"newest": self._newest})

    def load_state(self, state: NamedArrays) -> Sequence[str]:
        parts, facts = split(state)
        self._newest = int(facts["newest"])
        return super().load_state(parts[_PIPELINE])

    @handles(VariantUpdated)
    def on_policy(self, event: VariantUpdated, ctx: Context) -> None:  # type: ignore[override]
        if event.variant != self.variant:
            return
        self._newest = event.version
        self._params = {0: dict(event.params)}
        if self._agent is None or self._role == "validation":
            self._policies.put(event.version, ctx.read_blob(event.policy))

    @handles(CollectWindow)
    def on_collect(self, event: CollectWindow, ctx: Context) -> None:
        if self._newest >= 0:
            super().on_collect(event, ctx)

    @handles(VariantEvaluationRequested)
    def on_variant_evaluation(self, event: VariantEvaluationRequested, ctx: Context) -> None:
        if event.variant != self.variant or self._role != "validation" or self._stopped or self._newest < 0:
            return
        data = self._evaluate(event.policy_version)
        self._announce(data, "confirm", event.window, event.policy_version, -1, ctx, True)

    @handles(VariantDismissed)
    def on_dismissed(self, event: VariantDismissed, ctx: Context) -> None:
        if event.variant == self.variant:
            self._newest = -1

    @handles(StopRequested)
    def on_stop(self, event: StopRequested, ctx: Context) -> None:
        super().on_stop(event, ctx)

    def repeat(self, event: Event, ctx: Context, recorded: Sequence[Event]) -> None:
        if not isinstance(event, CollectWindow) or self._newest >= 0:
            super().repeat(event, ctx, recorded)

    def _asked(self, event: CollectWindow) -> tuple[int, bool]:
        return self._newest, event.evaluate

    def _acting(self, policy_version: int, hyperparams_version: int) -> None:
        # A variant has one set of hyperparameters, whatever the learner of the topology has by now.
        super()._acting(policy_version, min(hyperparams_version, 0))

    def _said(self, collected: WindowCollected) -> Event:
        return VariantCollected(
            variant=self.variant,
            role=collected.role,
            purpose=collected.purpose,
            window=collected.window,
            policy_version=collected.policy_version,
            evaluate=collected.evaluate,
            data=collected.data,
            steps=collected.steps,
            total_steps=collected.total_steps,
            episodes=collected.episodes,
        )
