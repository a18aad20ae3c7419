"""Keeps several policies: clones the best, weighs and prunes, and knows when the budget is spent."""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optix_bus.checkpoints import CheckpointRegistry
from optix_bus.errors import CheckpointError, ConfigurationError
from optix_bus.evolution.combining import combined_action
from optix_bus.evolution.lineage import Lineage
from optix_bus.evolution.mutation import perturbed
from optix_bus.evolution.noise import variant_noise
from optix_bus.evolution.report import Evolved, MemberLine, training_report
from optix_bus.evolution.weights import score_weights
from optix_bus.portable import capture, restore
from optix_bus.types import EvalMetrics, HyperparamSet, NamedArrays, PolicySnapshot

if TYPE_CHECKING:
    from optix_bus.evolution.callback import PolicyManagerCallback
    from optix_bus.evolution.meta_controller import MetaController


@dataclass(eq=False)
class Member:
    """One agent of the ensemble.

    Attributes:
        number: its own for good, also when others are removed.
        agent: acts; learns where somebody lets it.
        weight: in the ensemble, at least 0.
        scores: the latest, oldest first.
    """

    number: int
    agent: Any
    weight: float
    scores: deque[float]

    @property
    def mean_score(self) -> float:
        """Rolling mean; NaN before the first score."""
        return math.fsum(self.scores) / len(self.scores) if self.scores else math.nan


class PolicyManager:
    """Evolves policies, beside the optimizer that tunes hyperparameters.

        pm = PolicyManager(registry, max_spawns=3, max_ensemble_size=4)
        cb = pm.as_callback(agent, agent_factory=make_agent)
        RLOptimizer(agent, pipeline, callbacks=[cb]).run()

    Args:
        registry: where the best snapshots are. Inside a loop of `RLOptimizer` the loop's own comes first.
        score_window: latest scores of a member whose mean counts.
        max_spawns: variants that may be made; None for no limit.
        max_ensemble_size: members that may be kept; None for no limit.
        seed: of the noise of variants.

    Raises:
        ConfigurationError: a limit that allows nothing.
    """

    def __init__(
        self,
        registry: CheckpointRegistry,
        score_window: int = 10,
        max_spawns: int | None = None,
        max_ensemble_size: int | None = None,
        *,
        seed: int = 0,
    ) -> None:
        limits = {"score_window": score_window, "max_ensemble_size": max_ensemble_size}
        for name, value in limits.items():
            if value is not None and value < 1:
                raise ConfigurationError(f"found {name}={value}, expected at least 1")
        if max_spawns is not None and max_spawns < 0:
            raise ConfigurationError(f"found max_spawns={max_spawns}, expected at least 0")
        self.registry = registry
        self.score_window = score_window
        self.max_spawns = max_spawns
        self.max_ensemble_size = max_ensemble_size
        self.seed = seed
        self.members: list[Member] = []
        #: Descent of every variant that was made, oldest first.
        self.lineages: list[Lineage] = []
        self.pruned = 0
        self.regime = ""
        #: An ensemble that acts with the members: its snapshots hold several policies, not one.
        self.unpack: Callable[[NamedArrays, Any], NamedArrays] | None = None
        self._loops: CheckpointRegistry | None = None
        self._numbers = 0

    # Members

    @property
    def agents(self) -> list[Any]:
        """The members' agents, in the order in which they came."""
        return [member.agent for member in self.members]

    @property
    def weights(self) -> list[float]:
        """The members' weights, in the same order."""
        return [member.weight for member in self.members]

    @property
    def ensemble_size(self) -> int:
        """Members at present."""
        return len(self.members)

    def add_agent(self, agent: Any, weight: float = 1.0) -> None:
        """Let an agent take part with a weight.

        Raises:
            ConfigurationError: it takes part already, or the weight is negative or not finite.
        """
        if self.find(agent) is not None:
            kind = type(agent).__name__
            raise ConfigurationError(f"this {kind} is in the ensemble already; boost it instead")
        _check_weight(weight)
        self.members.append(Member(self._numbers, agent, float(weight), deque(maxlen=self.score_window)))
        self._numbers += 1

    def find(self, agent: Any) -> Member | None:
        """The member that this agent is; None where it is none."""
        return next((member for member in self.members if member.agent is agent), None)

    def boost(self, agent: Any, factor: float = 2.0) -> None:
        """Multiply a member's weight."""
        member = self.find(agent)
        if member is None:
            raise ConfigurationError(f"this {type(agent).__name__} is not in the ensemble; add_agent first")
        _check_weight(factor)
        member.weight *= factor

    def prune(self, bottom_k: int = 1, *, keep: Sequence[Any] = ()) -> list[Any]:
        """Remove the members of least weight (of equal ones the youngest), down to one; returns their agents,
        after `teardown` of each. Those in ``keep`` stay.

        Raises:
            ConfigurationError: ``bottom_k`` is negative.
        """
        if bottom_k < 0:
            raise ConfigurationError(f"found bottom_k={bottom_k}, expected at least 0")
        removable = [member for member in self.members if not any(member.agent is kept for kept in keep)]
        removable.sort(key=lambda member: (member.weight, -member.number))
        count = min(bottom_k, len(removable), len(self.members) - 1)
        removed = removable[: max(count, 0)]
        self.members = [member for member in self.members if member not in removed]
        self.pruned += len(removed)
        for member in removed:
            member.agent.teardown()
        return [member.agent for member in removed]

    # Scores and weights

    def record_agent_score(self, agent_idx: int, score: float) -> None:
        """One score of the member at this place; what is not finite is no evidence and is left out."""
        member = self._at(agent_idx)
        if math.isfinite(score):
            member.scores.append(float(score))

    def auto_update_weights(self) -> list[float]:
        """Weights in proportion to rolling mean scores, see `score_weights`; without any, as they are."""
        means = [member.mean_score for member in self.members]
        if any(math.isfinite(mean) for mean in means):
            for member, weight in zip(self.members, score_weights(means), strict=True):
                member.weight = weight
        return self.weights

    def update_weights(self, agent_scores: Mapping[int, float]) -> list[float]:
        """Weights in proportion to these scores, by place; members that are not named keep theirs."""
        named = {self._at(index).number: score for index, score in agent_scores.items()}
        chosen = [member for member in self.members if member.number in named]
        for member, weight in zip(chosen, score_weights([named[m.number] for m in chosen]), strict=True):
            member.weight = weight
        return self.weights

    def ensemble_action(self, obs: Any) -> Any:
        """The members' combined action for one observation, see `EnsembleAgent`."""
        if not self.members:
            raise ConfigurationError("the ensemble is empty; add_agent first")
        return combined_action(self.agents, self.weights, obs)

    # The best, and variants of it

    @property
    def ranked_snapshots(self) -> list[PolicySnapshot]:
        """Every snapshot known, best first: the loop's where there is one, otherwise the registry's."""
        return self._source().snapshots

    @property
    def best(self) -> PolicySnapshot | None:
        """The best snapshot; None before the first."""
        return self._source().best

    def evolve(self, agent: Any, current_score: float) -> bool:
        """Give the agent the best snapshot back if the current score lies below its; says whether."""
        best = self.best
        if best is None or not current_score < best.eval_metrics.primary_score:
            return False
        return self._load_best(agent) is not None

    def adaptive_noise_scale(
        self,
        metrics_history: Sequence[EvalMetrics],
        min_scale: float = 0.001,
        max_scale: float = 0.1,
        window: int = 10,
    ) -> float:
        """The noise for the next variant, see `variant_noise`."""
        return variant_noise(metrics_history, min_scale, max_scale, window).scale

    @property
    def spawns_remaining(self) -> int | None:
        """Variants that may still be made; None for no limit."""
        return None if self.max_spawns is None else self.max_spawns - len(self.lineages)

    @property
    def budget_exhausted(self) -> bool:
        """Whether no further variant may be made."""
        return self.spawns_remaining == 0

    def spawn_variant(
        self,
        agent_shell: Any,
        noise_scale: float = 0.01,
        mutation_fn: Callable[[Any], None] | None = None,
    ) -> Any:
        """Make an agent a variant of the best policy, and return it; it is not yet in the ensemble.

        It gets the best snapshot's weights (without any snapshot: those of the first member), the
        hyperparameters of that with noise, see `perturbed`, and then what ``mutation_fn(agent)`` makes of it.
        Snapshots that are saved of it say where it comes from.

        Raises:
            ConfigurationError: the budget is spent, or there is nothing to clone.
            CheckpointError: every snapshot is damaged.
        """
        if self.budget_exhausted:
            raise ConfigurationError(f"the spawn budget of {self.max_spawns} is spent; raise max_spawns")
        parent = self._load_best(agent_shell)
        if parent is None:
            if not self.members:
                raise ConfigurationError(
                    f"found no snapshot in {self.registry.directory} and no member, expected something to "
                    "clone: run the loop, save a snapshot, or add_agent first"
                )
            first = self.members[0].agent
            if first is not agent_shell:
                restore(agent_shell, capture(first))
            before = first.get_hyperparams().params
        else:
            before = {**agent_shell.get_hyperparams().params, **parent.hyperparams.params}
        number = len(self.lineages) + 1
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1, np.uint64)[0] >> 1)
        bounds = getattr(agent_shell, "default_param_bounds", {})
        logs = getattr(agent_shell, "default_log_params", ())
        moved = perturbed(before, noise_scale, np.random.default_rng(seed), bounds, logs)
        agent_shell.set_hyperparams(HyperparamSet(moved))
        if mutation_fn is not None:
            mutation_fn(agent_shell)
        snapshot = "" if parent is None else parent.snapshot_id
        lineage = Lineage(number, snapshot, float(noise_scale), seed, mutation_fn is not None)
        self.lineages.append(lineage)
        for registry in filter(None, (self._loops, self.registry)):
            registry.describe(agent_shell, lineage.as_dict())
        return agent_shell

    # Saying how it stands

    def set_regime(self, regime: str) -> None:
        """What a `RegimeDetector` has found; for the report."""
        self.regime = regime

    def status(self) -> dict[str, Any]:
        """Numbers for a `MetaController` and for people."""
        best = self.best
        return {
            "ensemble_size": self.ensemble_size,
            "max_ensemble_size": self.max_ensemble_size,
            "weights": self.weights,
            "mean_scores": [member.mean_score for member in self.members],
            "spawns_used": len(self.lineages),
            "spawns_remaining": self.spawns_remaining,
            "budget_exhausted": self.budget_exhausted,
            "pruned": self.pruned,
            "regime": self.regime,
            "best_score": math.nan if best is None else best.eval_metrics.primary_score,
        }

    def evolved(self, reason: str = "") -> Evolved:
        """What a report says, see `optix_bus.evolution.report`."""
        best = self.best
        metrics = EvalMetrics(math.nan) if best is None else best.eval_metrics
        gap = metrics.generalization_gap
        return Evolved(
            reason,
            len(self.lineages),
            self.max_spawns,
            self.pruned,
            self.regime,
            [MemberLine(member.number, member.weight, member.mean_score) for member in self.members],
            best_score=metrics.primary_score,
            val_score=float(metrics.metrics.get("val_score", math.nan)),
            gap=math.nan if gap is None else gap,
        )

    def training_report(self, reason: str = "") -> str:
        """The report as text."""
        return training_report(self.evolved(reason))

    def as_callback(
        self,
        agent: Any,
        agent_factory: Callable[[], Any] | None = None,
        meta_controller: MetaController | None = None,
    ) -> PolicyManagerCallback:
        """The manager as a callback of the loop, see `PolicyManagerCallback`."""
        from optix_bus.evolution.callback import PolicyManagerCallback

        return PolicyManagerCallback(self, agent, agent_factory, meta_controller)

    def join_loop(self, registry: CheckpointRegistry) -> None:
        """Take snapshots from the loop that this manager takes part in."""
        self._loops = registry

    def _source(self) -> CheckpointRegistry:
        if self._loops is not None and self._loops.best is not None:
            return self._loops
        self.registry.refresh()
        return self.registry

    def _load_best(self, agent: Any) -> PolicySnapshot | None:
        """Give an agent the best policy that is not damaged."""
        source = self._source()
        restored = source.restore_best()
        if restored is None:
            return None
        snapshot, policy = restored
        if self.unpack is not None:
            policy = self.unpack(policy, agent)
        try:
            restore(agent, policy)
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"snapshot {snapshot.snapshot_id} does not fit {type(agent).__name__} "
                f"({type(error).__name__}: {error}); a shell needs the networks of its parent"
            ) from error
        return snapshot

    def _at(self, index: int) -> Member:
        place = operator.index(index)
        if not 0 <= place < len(self.members):
            raise ConfigurationError(
                f"found agent {place}, expected a place from 0: the ensemble has {len(self.members)} members"
            )
        return self.members[place]


def _check_weight(value: float) -> None:
    if not (math.isfinite(value) and value >= 0.0):
        raise ConfigurationError(f"found the weight {value}, expected a finite number from 0")
