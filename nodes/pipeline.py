"""Collects experience: training windows in the role ``train``, complete episodes in ``validation``."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from optix_bus.agents.acting import load_policy
from optix_bus.errors import ConfigurationError
from optix_bus.interfaces import ArrayAgent
from optix_bus.messages import (
    CollectWindow,
    EvaluationRequested,
    Event,
    HyperparametersChanged,
    PolicyUpdated,
    StopRequested,
    VariantCollected,
    VariantEvaluationRequested,
    WindowCollected,
)
from optix_bus.messages.collection import Purpose, Role
from optix_bus.nesting import by_number, from_values, join, split, to_values
from optix_bus.pipelines.resuming import take_up
from optix_bus.pipelines.settings import PipelineSettings
from optix_bus.portable import restore
from optix_bus.runtime.node import Context, Node, Site, handles
from optix_bus.types import EpisodeData, HyperparamSet, NamedArrays
from optix_bus.versions import VersionShelf

_POLICY = "policy-"
#: Episode numbers from one future of a fork to the next; no run plays as many.
_BRANCH = 1 << 32


class PipelineNode(Node):
    """Acts, never learns.

    With an ``agent`` it acts with that very object, which the learner of the same process trains; without
    one it builds the acting half of each policy version from the learner's blob.
    """

    emits: ClassVar[tuple[type[Event], ...]] = (WindowCollected,)
    roles = ("train", "validation")
    for_variants = "nodes.variant_pipeline:VariantPipelineNode"
    settings = PipelineSettings
    noted: ClassVar[tuple[type[Event], ...]] = (PolicyUpdated, HyperparametersChanged)
    only_in_role: ClassVar[dict[str, str]] = {
        "episodes": "validation",
        "max_evaluation_steps": "validation",
        "window_steps": "train",
    }
    optional: ClassVar[tuple[type[Event], ...]] = (EvaluationRequested, HyperparametersChanged, StopRequested)

    def __init__(self, pipeline: Any, role: Role = "train", *, agent: Any = None, episodes: int = 20) -> None:
        self._pipeline = pipeline
        self._role: Role = role
        self._agent = agent
        self._episodes = episodes
        self._policies: VersionShelf[NamedArrays] = VersionShelf()
        self._frozen: dict[int, Any] = {}
        self._frozen_params: dict[int, dict[str, Any]] = {}
        self._params: dict[int, dict[str, Any]] = {}
        self._windows: Iterator[EpisodeData] | None = None
        self._episodes_played = 0
        self._total_steps = 0
        self._stopped = False
        # False where episodes of an earlier life were lost: what followed there cannot come again.
        self._took_up = True

    @classmethod
    def build(cls, settings: PipelineSettings, site: Site) -> PipelineNode:
        role: Role = "validation" if site.role == "validation" else "train"
        agent = site.agent() if site.shares_agent else None
        return cls(site.pipeline(settings), role, agent=agent, episodes=settings.episodes)

    def setup(self) -> None:
        if self._agent is not None:
            self._pipeline.set_agent(self._agent)
        self._pipeline.setup()

    def teardown(self) -> None:
        if self._windows is not None and hasattr(self._windows, "close"):
            self._windows.close()
        self._pipeline.teardown()

    @property
    def repeats(self) -> bool:
        """Environments must keep to their seeds, and the agent must hold no more than its state."""
        exact = self._agent is None or isinstance(self._agent, ArrayAgent)
        return exact and self._took_up and bool(getattr(self._pipeline, "repeatable", False))

    def state(self) -> NamedArrays:
        parts = {f"{_POLICY}{version}": policy for version, policy in self._policies.items.items()}
        if hasattr(self._pipeline, "progress"):
            parts["progress"] = from_values(self._pipeline.progress())
        facts = {
            "evaluated": self._policies.evaluated,
            "frozen_params": self._frozen_params,
            "params": self._params,
            "episodes_played": self._episodes_played,
            "total_steps": self._total_steps,
            "stopped": self._stopped,
        }
        return join(parts, facts)

    def load_state(self, state: NamedArrays) -> Sequence[str]:
        parts, facts = split(state)
        progress = to_values(parts.pop("progress")) if "progress" in parts else None
        policies = {int(name.removeprefix(_POLICY)): policy for name, policy in parts.items()}
        self._policies.load(policies, facts["evaluated"])
        self._frozen_params = by_number(facts["frozen_params"])
        self._params = by_number(facts["params"])
        self._episodes_played = int(facts["episodes_played"])
        self._total_steps = int(facts["total_steps"])
        self._stopped = bool(facts["stopped"])
        # Where nothing was collected, or only whole episodes by their numbers, there is nothing to take up.
        whole = self._role == "validation" and hasattr(self._pipeline, "evaluate")
        if progress is None and (whole or not self._total_steps):
            return ()
        lost = take_up(self._pipeline, progress)
        self._took_up = not lost
        return lost

    def repeat(self, event: Event, ctx: Context, recorded: Sequence[Event]) -> None:
        """Count what is on record instead of collecting other windows than those that were learnt from."""
        if isinstance(event, CollectWindow):
            self._plan(*self._asked(event))
        elif not isinstance(event, EvaluationRequested | VariantEvaluationRequested):
            self.handle(event, ctx)
        for answer in recorded:
            if isinstance(answer, WindowCollected | VariantCollected):
                self._total_steps = answer.total_steps
                if answer.role == "validation":
                    self._episodes_played += answer.episodes
                elif hasattr(self._pipeline, "pass_over"):
                    self._pipeline.pass_over(answer.window, answer.steps, answer.episodes)

    def branch(self, number: int) -> None:
        self._episodes_played += number * _BRANCH
        if hasattr(self._pipeline, "skip_episodes"):
            self._pipeline.skip_episodes(number * _BRANCH)

    @handles(PolicyUpdated)
    def on_policy(self, event: PolicyUpdated, ctx: Context) -> None:
        # With a shared agent the validation role needs them only to freeze it again after a restart.
        if self._agent is None or self._role == "validation":
            self._policies.put(event.version, ctx.read_blob(event.policy))

    @handles(HyperparametersChanged)
    def on_hyperparameters(self, event: HyperparametersChanged, ctx: Context) -> None:
        self._params = {v: p for v, p in self._params.items() if v >= event.version - 2}
        self._params[event.version] = event.params

    @handles(StopRequested)
    def on_stop(self, event: StopRequested, ctx: Context) -> None:
        self._stopped = True

    @handles(CollectWindow)
    def on_collect(self, event: CollectWindow, ctx: Context) -> None:
        version, evaluate = self._asked(event)
        self._plan(version, evaluate)
        if self._stopped:
            return
        if self._role == "train":
            self._acting(version, event.hyperparams_version)
            data = self._collect(event.window, ctx)
        elif evaluate:
            data = self._evaluate(version)
        else:
            return
        purpose: Purpose = "train" if self._role == "train" else "score"
        self._announce(data, purpose, event.window, version, event.hyperparams_version, ctx, evaluate)

    @handles(EvaluationRequested)
    def on_evaluation(self, event: EvaluationRequested, ctx: Context) -> None:
        if event.role != self._role or self._stopped:
            return
        if self._role == "validation":
            data = self._evaluate(event.policy_version)
        else:
            self._acting(event.policy_version, event.hyperparams_version)
            data = self._collect(event.window, ctx)
        version, params = event.policy_version, event.hyperparams_version
        self._announce(data, event.purpose, event.window, version, params, ctx, True)

    def _asked(self, event: CollectWindow) -> tuple[int, bool]:
        """Which policy is to act, and whether its score is to come."""
        return event.policy_version, event.evaluate

    def _plan(self, version: int, evaluate: bool) -> None:
        self._policies.plan(version, evaluate)
        self._frozen = {v: agent for v, agent in self._frozen.items() if v in self._policies}
        self._frozen_params = {v: params for v, params in self._frozen_params.items() if v in self._policies}

    def _announce(
        self,
        data: EpisodeData,
        purpose: Purpose,
        window: int,
        policy_version: int,
        hyperparams_version: int,
        ctx: Context,
        evaluate: bool,
    ) -> None:
        data.episode_id = window
        data.metadata["policy_version"] = policy_version
        self._total_steps += data.length
        kind = "window" if self._role == "train" else f"episodes-{purpose}"
        collected = WindowCollected(
            role=self._role,
            purpose=purpose,
            window=window,
            policy_version=policy_version,
            hyperparams_version=hyperparams_version,
            evaluate=evaluate,
            data=ctx.write_blob(kind, window, data),
            steps=data.length,
            total_steps=self._total_steps,
            episodes=len(data.metadata.get("episode_returns", ())),
        )
        ctx.emit(self._said(collected))

    def _said(self, collected: WindowCollected) -> Event:
        """What was collected, in the words of whom it is collected for."""
        return collected

    def _acting(self, policy_version: int, hyperparams_version: int) -> None:
        """Point the pipeline at exactly this policy version."""
        if self._agent is not None:
            return
        policy = load_policy(self._policies.get(policy_version))
        if hyperparams_version in self._params and hasattr(policy, "set_hyperparams"):
            policy.set_hyperparams(self._params[hyperparams_version])
        self._pipeline.set_agent(policy)

    def _collect(self, window: int, ctx: Context) -> EpisodeData:
        if hasattr(self._pipeline, "collect"):
            collected: EpisodeData = self._pipeline.collect(window, ctx.rng("act", window))
            return collected
        return self._next_window()

    def _next_window(self) -> EpisodeData:
        """One window of a pipeline that only has `episodes`."""
        if self._windows is None:
            self._windows = iter(self._pipeline.episodes())
        return next(self._windows)

    def _evaluate(self, policy_version: int) -> EpisodeData:
        if not hasattr(self._pipeline, "evaluate"):
            return self._next_window()
        first, self._episodes_played = self._episodes_played, self._episodes_played + self._episodes
        if self._agent is None:
            self._acting(policy_version, -1)
        else:
            self._pipeline.set_agent(self._freeze(policy_version))
        evaluated: EpisodeData = self._pipeline.evaluate(self._episodes, first)
        return evaluated

    def _freeze(self, version: int) -> Any:
        """A copy of the shared agent as it was when this version was current.

        The learner changes the agent before the version is confirmed; and what `act` stashes for `learn`, and
        what it counts, must not come from validation episodes.
        """
        if version in self._frozen:
            return self._frozen[version]
        arrays = isinstance(self._agent, ArrayAgent)
        params = dict(self._agent.get_hyperparams().params)
        if version not in self._frozen_params and version == max(self._policies.items):
            frozen = self._copied(self._agent.policy() if arrays else self._agent)
        else:
            # It was current before a restart, and the agent may have learnt on since.
            params = self._frozen_params.get(version, params)
            twin = self._copied(self._agent)
            restore(twin, self._policies.get(version))
            twin.set_hyperparams(HyperparamSet(dict(params)))
            frozen = twin.policy() if arrays else twin
        self._frozen_params[version] = params
        self._frozen[version] = frozen
        return frozen

    def _copied(self, actor: Any) -> Any:
        try:
            return copy.deepcopy(actor)
        except Exception as error:
            raise ConfigurationError(
                f"{type(self._agent).__name__} cannot be copied for validation "
                f"({type(error).__name__}: {error}); give it __deepcopy__, or "
                "state(), load_state(), policy() and reseed()"
            ) from error
