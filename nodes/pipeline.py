"""Collects experience: training windows in the role ``train``, complete episodes in ``validation``."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, ClassVar

from optix_bus.agents.acting import load_policy
from optix_bus.errors import ConfigurationError
from optix_bus.interfaces import ArrayAgent
from optix_bus.messages import (
    CollectWindow,
    EvaluationRequested,
    HyperparametersChanged,
    PolicyUpdated,
    StopRequested,
    WindowCollected,
)
from optix_bus.messages.collection import Purpose, Role
from optix_bus.pipelines.settings import PipelineSettings
from optix_bus.runtime.node import Context, Node, Site, handles
from optix_bus.types import EpisodeData
from optix_bus.versions import VersionShelf


class PipelineNode(Node):
    """Acts, never learns.

    With an ``agent`` it acts with that very object, which the learner of the same process trains; without
    one it builds the acting half of each policy version from the learner's blob.
    """

    emits = (WindowCollected,)
    roles = ("train", "validation")
    settings = PipelineSettings
    noted = (PolicyUpdated, HyperparametersChanged)
    only_in_role: ClassVar[dict[str, str]] = {
        "episodes": "validation",
        "max_evaluation_steps": "validation",
        "window_steps": "train",
    }
    optional = (EvaluationRequested, HyperparametersChanged, StopRequested)

    def __init__(self, pipeline: Any, role: Role = "train", *, agent: Any = None, episodes: int = 20) -> None:
        self._pipeline = pipeline
        self._role: Role = role
        self._agent = agent
        self._episodes = episodes
        self._policies: VersionShelf[Any] = VersionShelf()
        self._params: dict[int, dict[str, Any]] = {}
        self._windows: Iterator[EpisodeData] | None = None
        self._episodes_played = 0
        self._total_steps = 0
        self._stopped = False

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

    @handles(PolicyUpdated)
    def on_policy(self, event: PolicyUpdated, ctx: Context) -> None:
        if self._agent is None:
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
        self._policies.plan(event.policy_version, event.evaluate)
        if self._stopped:
            return
        if self._role == "train":
            self._acting(event.policy_version, event.hyperparams_version)
            data = self._collect(event.window, ctx)
        elif event.evaluate:
            data = self._evaluate(event.policy_version)
        else:
            return
        purpose: Purpose = "train" if self._role == "train" else "score"
        self._announce(
            data, purpose, event.window, event.policy_version, event.hyperparams_version, ctx, event.evaluate
        )

    @handles(EvaluationRequested)
    def on_evaluation(self, event: EvaluationRequested, ctx: Context) -> None:
        if self._role == "validation" and not self._stopped:
            data = self._evaluate(event.policy_version)
            self._announce(data, "confirm", event.window, event.policy_version, -1, ctx, True)

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
        kind = "window" if purpose == "train" else f"episodes-{purpose}"
        ctx.emit(
            WindowCollected(
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
        )

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
            self._pipeline.set_agent(self._frozen(policy_version))
        evaluated: EpisodeData = self._pipeline.evaluate(self._episodes, first)
        return evaluated

    def _frozen(self, version: int) -> Any:
        """A copy of the shared agent as it was when this version was current.

        The learner changes the agent before the version is confirmed; and what `act` stashes for `learn`, and
        what it counts, must not come from validation episodes.
        """
        if version not in self._policies:
            actor = self._agent.policy() if isinstance(self._agent, ArrayAgent) else self._agent
            try:
                self._policies.put(version, copy.deepcopy(actor))
            except Exception as error:
                raise ConfigurationError(
                    f"{type(self._agent).__name__} cannot be copied for validation "
                    f"({type(error).__name__}: {error}); give it __deepcopy__, or "
                    "state(), load_state(), policy() and reseed()"
                ) from error
        return self._policies.get(version)
