"""The policy manager in a loop: what it does when training has reached a plateau."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from optix_bus.evolution.decision import Decision
from optix_bus.evolution.meta_controller import MetaAction, MetaController, MetaVerdict
from optix_bus.evolution.mind import Pruned
from optix_bus.evolution.noise import variant_noise
from optix_bus.evolution.regime import RegimeDetector
from optix_bus.evolution.report import evolution_lines
from optix_bus.interfaces import LoopCallback
from optix_bus.portable import capture, restore
from optix_bus.types import EvalMetrics

if TYPE_CHECKING:
    from optix_bus.checkpoints import CheckpointRegistry
    from optix_bus.evolution.manager import PolicyManager

#: Evaluations that are remembered; every window of a decision is shorter.
_MEMORY = 200


class PolicyManagerCallback(LoopCallback):
    """At each DORMANT: weigh the ensemble anew, roll the agent back if it is worse than the best, and decide.

    A spawn makes the agent a variant of the best policy, from which the loop goes on. With an
    ``agent_factory`` the policy that has come to its plateau is kept as well: a new agent takes it over and
    stays in the ensemble with the score it earned. The ensemble is pruned down to its limit, and when the
    budget is spent the run may end. Without a factory and without a budget nothing is spawned: the best is
    brought back, and that is all.

    Where several agents act as one (`EnsembleAgent`) the loop's scores belong to all of them: then the
    manager records none by itself, a new agent becomes a variant of the best, and the primary goes on as it
    is.

    Args:
        policy_manager: has budget and members.
        agent: learns in the loop; the primary agent of an ensemble.
        agent_factory: makes shells with the networks of that agent.
        meta_controller: decides; without one every plateau is one to spawn at, as long as the budget lasts.
    """

    def __init__(
        self,
        policy_manager: PolicyManager,
        agent: Any,
        agent_factory: Callable[[], Any] | None = None,
        meta_controller: MetaController | None = None,
    ) -> None:
        self.manager = policy_manager
        self.agent = agent
        self.agent_factory = agent_factory
        self.meta_controller = meta_controller
        self.detector = RegimeDetector()
        self.history: list[EvalMetrics] = []
        #: What was decided last; None before, and again once the loop has heard of it.
        self.decision: Decision | None = None
        self.removed: list[Pruned] = []
        self.reason = ""
        self._stop: Callable[[], None] | None = None
        self._since_spawn: list[float] = []

    def set_stop_fn(self, fn: Callable[[], None]) -> None:
        """Called when the budget is spent. The loop of `RLOptimizer` ends then also without it."""
        self._stop = fn

    def join_loop(self, registry: CheckpointRegistry) -> None:
        """Told by the loop which registry is its own."""
        self.manager.join_loop(registry)

    def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
        """Remember the evaluation."""
        if eval_metrics is None or not math.isfinite(eval_metrics.primary_score):
            return
        self.history = [*self.history[1 - _MEMORY :], eval_metrics]
        self._since_spawn.append(eval_metrics.primary_score)
        member = self.manager.find(self.agent)
        if member is not None and not self._together:
            member.scores.append(eval_metrics.primary_score)

    def on_dormant(self, episode_id: int) -> None:
        """Decide, and do it. What was decided waits in `decision` for the loop."""
        manager = self.manager
        manager.set_regime(self.detector.detect(self.history))
        manager.auto_update_weights()
        verdict = self._verdict()
        rolled_back = self._roll_back()
        figures = {**verdict.figures, "rolled_back": float(rolled_back)}
        reason = verdict.reason
        action = verdict.action
        if action is MetaAction.SPAWN:
            figures.update(self._spawn())
        elif action is MetaAction.PRUNE:
            self._prune(1, reason)
        if manager.max_ensemble_size is not None:
            over = max(manager.ensemble_size - manager.max_ensemble_size, 0)
            self._prune(over, f"the ensemble holds at most {manager.max_ensemble_size}")
        self.decision = self._as_decision(episode_id, action, reason, figures)
        self.reason = "" if action is MetaAction.SPAWN else reason
        if action is MetaAction.STOP and self._stop is not None:
            self._stop()

    def report_lines(self) -> list[str]:
        """For the end of the loop's report."""
        return evolution_lines(self.manager.evolved(self.reason))

    def take_decision(self) -> Decision | None:
        """What was decided at the plateau in hand, once."""
        decision, self.decision = self.decision, None
        return decision

    def take_pruned(self) -> list[Pruned]:
        """Who was removed since the last time."""
        removed, self.removed = self.removed, []
        return removed

    @property
    def _together(self) -> bool:
        return self.manager.unpack is not None

    def _verdict(self) -> MetaVerdict:
        manager = self.manager
        if self.meta_controller is not None:
            judge = getattr(self.meta_controller, "judge", None)
            if judge is not None and type(self.meta_controller).decide is MetaController.decide:
                found: MetaVerdict = judge(self.history, budget_exhausted=manager.budget_exhausted)
                return found
            action = self.meta_controller.decide(list(self.history), manager.status())
            return MetaVerdict(action, f"{type(self.meta_controller).__name__} decided so")
        if manager.budget_exhausted:
            return MetaVerdict(MetaAction.STOP, "the spawn budget is spent")
        if self.agent_factory is None and manager.max_spawns is None:
            return MetaVerdict(MetaAction.NO_OP, "neither a budget nor a factory of agents was given")
        return MetaVerdict(MetaAction.SPAWN, "a plateau, and the budget allows a variant")

    def _as_decision(
        self, window: int, action: MetaAction, reason: str, figures: dict[str, float]
    ) -> Decision:
        lineages = self.manager.lineages
        if action is not MetaAction.SPAWN or not lineages:
            return Decision(window, action, reason, len(lineages), figures=figures)
        last = lineages[-1]
        # Where all act together, the new member is another agent: then the learner goes on as it is.
        params = dict(self.agent.get_hyperparams().params)
        return Decision(
            window,
            action,
            reason,
            variant=last.variant,
            noise_scale=last.noise_scale,
            seed=last.seed,
            params=params,
            made=True,
            figures=figures,
        )

    def _prune(self, count: int, reason: str) -> None:
        before = list(self.manager.members)
        self.manager.prune(count, keep=[self.agent])
        gone = [member for member in before if member not in self.manager.members]
        self.removed += [Pruned(member.number, member.weight, reason) for member in gone]

    def _roll_back(self) -> bool:
        if self._together or not self.history:
            return False
        return self.manager.evolve(self.agent, self.history[-1].primary_score)

    def _spawn(self) -> dict[str, float]:
        """Make a variant; returns the figures behind its noise."""
        noise = variant_noise(self.history)
        manager = self.manager
        if self.agent_factory is not None:
            shell = self.agent_factory()
            if self._together:
                manager.add_agent(manager.spawn_variant(shell, noise.scale))
                return {f"noise_{name}": value for name, value in noise.figures().items()}
            self._keep(shell)
        manager.spawn_variant(self.agent, noise.scale)
        self._since_spawn = []
        return {f"noise_{name}": value for name, value in noise.figures().items()}

    def _keep(self, shell: Any) -> None:
        """The policy of the plateau stays in the ensemble, in an agent of its own."""
        restore(shell, capture(self.agent))
        shell.set_hyperparams(self.agent.get_hyperparams())
        manager, current = self.manager, self.manager.find(self.agent)
        manager.add_agent(shell, 1.0 if current is None else current.weight)
        kept = manager.find(shell)
        assert kept is not None
        for score in self._since_spawn[-manager.score_window :]:
            kept.scores.append(score)
        if current is not None:
            current.scores.clear()
        manager.auto_update_weights()
