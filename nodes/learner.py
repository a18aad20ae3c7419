"""Learns from training windows; owns the agent, its policy versions and its hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from optix_bus.errors import ConfigurationError, LearningFailure
from optix_bus.interfaces import ArrayAgent, Replaying
from optix_bus.messages import (
    AgentDescribed,
    Event,
    ExternallyScored,
    HyperparametersChanged,
    HyperparametersProposed,
    PolicyUpdated,
    RolledBack,
    RunStarted,
    StopRequested,
    VariantCollected,
    VariantSeeded,
    VariantSpawned,
    WindowCollected,
)
from optix_bus.messages.learning import Origin
from optix_bus.nesting import as_json, by_number, join, split
from optix_bus.portable import capture, restore
from optix_bus.runtime.node import Context, Node, Site, handles
from optix_bus.types import HyperparamSet, NamedArrays
from optix_bus.windows import unpack


@dataclass(frozen=True)
class LearnerSettings:
    """The learner has no knobs: what it does is up to the agent."""


class LearnerNode(Node):
    """Window in, policy out.

    ``score`` is the user's external scorer; it sees the agent before it learns on from an evaluated window,
    which is when it is exactly the policy that the window was collected with. ``name`` is that of the node in
    a run with a journal, which can be replayed.
    """

    emits: ClassVar[tuple[type[Event], ...]] = (
        AgentDescribed,
        PolicyUpdated,
        HyperparametersChanged,
        ExternallyScored,
    )
    settings = LearnerSettings
    for_variants = "nodes.variant_learner:VariantLearnerNode"
    optional: ClassVar[tuple[type[Event], ...]] = (
        HyperparametersProposed,
        RolledBack,
        StopRequested,
        VariantSpawned,
    )

    def __init__(self, agent: Any, *, score: Callable[[Any], float] | None = None, name: str = "") -> None:
        self._name = name
        self._agent = agent
        self._score = score
        self._version = 0
        self._params: dict[int, dict[str, Any]] = {}
        self._current = 0
        self._stopped = False
        # What the topology asks for, and what of it is news to a state: it holds after the window in hand.
        self._asked = dict(agent.get_hyperparams().params)
        self._news: dict[str, Any] = {}

    @classmethod
    def build(cls, settings: LearnerSettings, site: Site) -> LearnerNode:
        return cls(site.agent(), name=site.name)

    def teardown(self) -> None:
        self._agent.teardown()

    @property
    def repeats(self) -> bool:
        """Six methods may keep more than what `save_weights` writes."""
        return isinstance(self._agent, ArrayAgent)

    def state(self) -> NamedArrays:
        facts = {
            "version": self._version,
            "params": self._params,
            "current": self._current,
            # As the agent has them now: it may have changed some by itself while it learnt.
            "in_force": dict(self._agent.get_hyperparams().params),
            "stopped": self._stopped,
            "asked": self._asked,
            "news": self._news,
        }
        parts = {"agent": capture(self._agent)}
        if isinstance(self._agent, Replaying):
            # In no policy: those are published after each window.
            parts["replay"] = self._agent.replay_state()
        return join(parts, facts)

    def load_state(self, state: NamedArrays) -> Sequence[str]:
        parts, facts = split(state)
        restore(self._agent, parts["agent"])
        # Weights may carry settings with them; what was in force comes back into force.
        self._agent.set_hyperparams(HyperparamSet(dict(facts["in_force"])))
        if "replay" in parts and isinstance(self._agent, Replaying):
            self._agent.load_replay_state(parts["replay"])
        self._version, self._current = int(facts["version"]), int(facts["current"])
        self._params = by_number(facts["params"])
        self._stopped = bool(facts["stopped"])
        before, asked = as_json(facts["asked"]), as_json(self._asked)
        news = {key: value for key, value in asked.items() if key not in before or before[key] != value}
        self._news = {**facts["news"], **news}
        return [
            f"{key} is {value!r} after the next window, as the topology says now"
            for key, value in news.items()
        ]

    def repeat(self, event: Event, ctx: Context, recorded: Sequence[Event]) -> None:
        """Take over what is on record: an agent of six methods would not learn the same again."""
        if isinstance(event, StopRequested) or (isinstance(event, RolledBack) and event.final):
            self._stopped = True
        for answer in recorded:
            if isinstance(answer, HyperparametersChanged) and answer.changed:
                self._params[answer.version] = dict(answer.params)
                self._apply(answer.version)
            elif isinstance(answer, PolicyUpdated):
                if isinstance(event, WindowCollected):
                    self._forget_before(event.hyperparams_version)
                restore(self._agent, ctx.read_blob(answer.policy))
                self._apply(self._current)
                self._version = answer.version

    @handles(RunStarted)
    def on_start(self, event: RunStarted, ctx: Context) -> None:
        kind = type(self._agent)
        ctx.emit(
            AgentDescribed(
                is_on_policy=bool(getattr(self._agent, "is_on_policy", True)),
                min_episodes_before_dormant=int(getattr(kind, "default_min_episodes_before_dormant", 0)),
                param_bounds=dict(getattr(kind, "default_param_bounds", {})),
                log_params=tuple(getattr(kind, "default_log_params", ())),
            )
        )
        self._params[0] = dict(self._agent.get_hyperparams().params)
        ctx.emit(HyperparametersChanged(version=0, window=-1, params=self._params[0], changed=True))
        self._publish("initial", -1, 0, {}, ctx)

    @handles(WindowCollected)
    def on_window(self, event: WindowCollected, ctx: Context) -> None:
        if event.purpose != "train" or self._stopped:
            return
        if event.hyperparams_version != self._current:
            # With lookahead a proposal may arrive before a window that was collected under the old set.
            self._apply(event.hyperparams_version)
        if self._score is not None and event.evaluate:
            score = float(self._score(self._agent))
            ctx.emit(ExternallyScored(window=event.window, policy_version=event.policy_version, score=score))
        diagnostics = self._learn(event, ctx)
        self._version += 1
        self._forget_before(event.hyperparams_version)
        self._take_news(ctx)
        self._publish("learned", event.window, event.hyperparams_version, diagnostics, ctx)

    @handles(HyperparametersProposed)
    def on_proposal(self, event: HyperparametersProposed, ctx: Context) -> None:
        newest = max(self._params)
        if event.changed:
            self._agent.set_hyperparams(HyperparamSet(dict(event.params), event.window, ctx.now))
            newest += 1
            # What is in force is what the agent made of it.
            self._params[newest] = dict(self._agent.get_hyperparams().params)
            self._current = newest
        ctx.emit(
            HyperparametersChanged(
                version=newest,
                window=event.window,
                params=self._params[newest],
                changed=event.changed,
                probing=event.probing,
            )
        )

    @handles(RolledBack)
    def on_rollback(self, event: RolledBack, ctx: Context) -> None:
        self._stopped = self._stopped or event.final
        if event.policy is not None:
            restore(self._agent, ctx.read_blob(event.policy))
            # Weights may carry settings with them; what was in force stays in force.
            self._apply(self._current)
        self._version += 1
        self._publish("restored" if event.final else "rolled_back", event.window, self._current, {}, ctx)

    @handles(VariantSpawned)
    def on_variant(self, event: VariantSpawned, ctx: Context) -> None:
        """Go on from a clone of the best policy with noise, as a version of its own."""
        if self._stopped:
            return  # the run is ending: the best policy comes next
        self._become(event, ctx)
        self._current = max(self._params) + 1
        params = self._params[self._current] = dict(self._agent.get_hyperparams().params)
        ctx.emit(
            HyperparametersChanged(version=self._current, window=event.window, params=params, changed=True)
        )
        self._version += 1
        self._publish("variant", event.window, self._current, {}, ctx)

    @handles(StopRequested)
    def on_stop(self, event: StopRequested, ctx: Context) -> None:
        self._stopped = True

    def _learn(self, event: WindowCollected | VariantCollected, ctx: Context) -> dict[str, float]:
        """Let the agent learn from a window; its diagnostics."""
        if isinstance(self._agent, ArrayAgent):
            self._agent.reseed(ctx.rng("learn", event.window))
        data = unpack(ctx.read_blob(event.data), ctx.now)
        data.metadata["learner_version"] = self._version
        try:
            return _numbers(self._agent.learn(data), event.window)
        except LearningFailure as failure:
            if not self._name:
                raise
            which = f"{type(event).__name__} and window == {event.window}"
            again = f"optix-bus replay --all --break '{which}' --pdb"
            raise LearningFailure(f"{failure}. To see it again in '{self._name}': {again}") from failure

    def _become(self, event: VariantSpawned | VariantSeeded, ctx: Context) -> None:
        """A clone of the best policy with noise, and with the variant's hyperparameters."""
        if event.policy is not None:
            restore(self._agent, ctx.read_blob(event.policy))
        if event.weight_noise > 0.0:
            self._perturb(event.weight_noise, event.seed, ctx)
        if event.params:
            self._agent.set_hyperparams(HyperparamSet(dict(event.params), event.window, ctx.now))

    def _perturb(self, weight_noise: float, seed: int, ctx: Context) -> None:
        if isinstance(self._agent, ArrayAgent):
            self._agent.reseed(ctx.rng("variant", seed))
        try:
            self._agent.perturb_weights(weight_noise)
        except NotImplementedError as error:
            raise ConfigurationError(
                f"{error}; write weight_noise: 0 for the policy manager, or give the agent perturb_weights"
            ) from error

    def _take_news(self, ctx: Context) -> None:
        """Put into force what the topology of a fork asks for, as a proposal of its own."""
        if not self._news:
            return
        params = {**self._agent.get_hyperparams().params, **self._news}
        self._agent.set_hyperparams(HyperparamSet(params))
        self._news = {}
        self._current = max(self._params) + 1
        params = self._params[self._current] = dict(self._agent.get_hyperparams().params)
        ctx.emit(HyperparametersChanged(version=self._current, window=-1, params=params, changed=True))

    def _forget_before(self, version: int) -> None:
        self._params = {v: params for v, params in self._params.items() if v >= version}

    def _apply(self, version: int) -> None:
        self._agent.set_hyperparams(HyperparamSet(dict(self._params[version])))
        self._current = version

    def _publish(
        self, origin: Origin, window: int, learnt_with: int, diagnostics: dict[str, float], ctx: Context
    ) -> None:
        ctx.emit(
            PolicyUpdated(
                version=self._version,
                window=window,
                hyperparams_version=learnt_with,
                origin=origin,
                policy=ctx.write_blob("policy", self._version, capture(self._agent)),
                diagnostics=diagnostics,
            )
        )


def _numbers(diagnostics: dict[str, Any] | None, window: int) -> dict[str, float]:
    """The numeric diagnostics; a loss that is not finite ends the training instead of poisoning it."""
    numbers: dict[str, float] = {}
    for key, value in (diagnostics or {}).items():
        try:
            numbers[str(key)] = float(value)
        except (TypeError, ValueError):
            continue
    bad = {key: value for key, value in numbers.items() if "loss" in key and not math.isfinite(value)}
    if bad:
        found = ", ".join(f"{key} = {value}" for key, value in bad.items())
        raise LearningFailure(
            f"learning from window {window} gave {found}; nothing from it is kept. Usual causes: a learning "
            "rate that is too high, rewards or observations without scale, an infinite reward"
        )
    return numbers
