"""Learns one variant, beside the learner of the topology; with a window it does what that one does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from nodes.learner import LearnerNode, LearnerSettings
from optix_bus.messages import (
    Event,
    StopRequested,
    VariantCollected,
    VariantDismissed,
    VariantSeeded,
    VariantUpdated,
)
from optix_bus.nesting import join, split
from optix_bus.portable import capture, restore
from optix_bus.runtime.node import Context, Site, handles
from optix_bus.types import HyperparamSet, NamedArrays
from optix_bus.versions import first_version

_LEARNER = "learner"


class VariantLearnerNode(LearnerNode, inherits_handlers=False):
    """Begins with a clone of the best policy, with noise, and goes on with hyperparameters of its own, which
    stay as they are: a tuner's credit would go to the learner that it tunes.

    Policy versions of all variants differ, so that a version names one policy in the whole run.
    """

    emits: ClassVar[tuple[type[Event], ...]] = (VariantUpdated,)
    optional: ClassVar[tuple[type[Event], ...]] = (VariantDismissed, StopRequested)
    for_variants: ClassVar[str] = ""
    #: A variant is asked for by the scheduler, and there may be several.
    replicable: ClassVar[bool] = True

    def __init__(self, agent: Any, *, name: str = "", variant: int = 1) -> None:
        super().__init__(agent, name=name)
        self.variant = variant
        self._present = False
        # What a topology asks for is asked of its learner.
        self._asked = {}

    @classmethod
    def build(cls, settings: LearnerSettings, site: Site) -> VariantLearnerNode:
        return cls(site.agent(), name=site.name, variant=site.variant)

    def state(self) -> NamedArrays:
        return join({_LEARNER: super().state()}, {"present": self._present})

    def load_state(self, state: NamedArrays) -> Sequence[str]:
        parts, facts = split(state)
        self._present = bool(facts["present"])
        return super().load_state(parts[_LEARNER])

    def repeat(self, event: Event, ctx: Context, recorded: Sequence[Event]) -> None:
        """Take over what is on record, as the learner of the topology does."""
        if isinstance(event, StopRequested | VariantDismissed):
            self.handle(event, ctx)
        for answer in recorded:
            if isinstance(answer, VariantUpdated):
                restore(self._agent, ctx.read_blob(answer.policy))
                self._agent.set_hyperparams(HyperparamSet(dict(answer.params)))
                self._version, self._present = answer.version, True

    @handles(VariantSeeded)
    def on_seeded(self, event: VariantSeeded, ctx: Context) -> None:
        if event.variant != self.variant or self._stopped:
            return
        self._become(event, ctx)
        self._present, self._version = True, first_version(self.variant)
        self._say(event.window, {}, ctx)

    @handles(VariantCollected)
    def on_variant_window(self, event: VariantCollected, ctx: Context) -> None:
        mine = event.variant == self.variant and self._present
        if not mine or event.purpose != "train" or self._stopped:
            return
        diagnostics = self._learn(event, ctx)
        self._version += 1
        self._say(event.window, diagnostics, ctx)

    @handles(VariantDismissed)
    def on_dismissed(self, event: VariantDismissed, ctx: Context) -> None:
        if event.variant == self.variant:
            self._present = False

    @handles(StopRequested)
    def on_stop(self, event: StopRequested, ctx: Context) -> None:
        super().on_stop(event, ctx)

    def _say(self, window: int, diagnostics: dict[str, float], ctx: Context) -> None:
        ctx.emit(
            VariantUpdated(
                variant=self.variant,
                version=self._version,
                window=window,
                policy=ctx.write_blob("policy", self._version, capture(self._agent)),
                params=dict(self._agent.get_hyperparams().params),
                diagnostics=diagnostics,
            )
        )
