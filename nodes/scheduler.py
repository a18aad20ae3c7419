"""Decides when to collect, evaluate, cool, sleep, roll back and stop. The mind is `optix_bus.loop`."""

from __future__ import annotations

from collections.abc import Sequence

from optix_bus.loop.book import OpenWindow, Standing, Step
from optix_bus.loop.cuts import CutPlan
from optix_bus.loop.evolving import Evolving
from optix_bus.loop.machine import LoopMachine
from optix_bus.loop.members import Members
from optix_bus.loop.settings import SchedulerSettings
from optix_bus.loop.verdicts import Evaluation, Judgement
from optix_bus.messages import (
    AgentDescribed,
    CollectWindow,
    CutAnnounced,
    Degraded,
    Dormant,
    EvaluationRequested,
    EvolutionDecided,
    EvolutionReported,
    ExternallyScored,
    HyperparametersChanged,
    Improved,
    LoopStateChanged,
    OptimizerSwitched,
    Plateaued,
    PolicyPromoted,
    PolicyUpdated,
    RollbackRequested,
    RunFinished,
    StopRequested,
    TimerFired,
    VariantAdmitted,
    VariantDismissed,
    VariantEvaluationRequested,
    VariantPruned,
    VariantRequested,
    VariantScored,
    VariantUpdated,
    WindowCollected,
    WindowJudged,
    WindowScored,
)
from optix_bus.messages.collection import Role
from optix_bus.messages.plain import as_plain, from_plain
from optix_bus.nesting import join, split
from optix_bus.runtime import loop_words
from optix_bus.runtime.node import Context, Site, handles
from optix_bus.runtime.variant_joins import VariantJoins
from optix_bus.stats import t_quantile
from optix_bus.types import LoopState, NamedArrays

_WATCH = "watch"


class SchedulerNode(VariantJoins):
    """Acts on complete sets: a window is judged when all facts about it are there, in the order of windows,
    so the order in which independent nodes reach the hub cannot change a decision."""

    emits = (
        CollectWindow,
        EvaluationRequested,
        WindowJudged,
        Improved,
        Plateaued,
        Degraded,
        Dormant,
        LoopStateChanged,
        PolicyPromoted,
        RollbackRequested,
        RunFinished,
        CutAnnounced,
        VariantRequested,
        VariantAdmitted,
        VariantEvaluationRequested,
        VariantDismissed,
    )
    settings = SchedulerSettings
    noted = (AgentDescribed, WindowCollected, ExternallyScored, OptimizerSwitched, VariantPruned)
    optional = (
        EvolutionDecided,
        EvolutionReported,
        ExternallyScored,
        OptimizerSwitched,
        StopRequested,
        TimerFired,
        VariantPruned,
        VariantScored,
        VariantUpdated,
    )

    def __init__(
        self,
        machine: LoopMachine,
        *,
        validation: bool,
        optimizer: bool,
        lookahead: int = 0,
        cuts: CutPlan | None = None,
        evolution: bool = False,
        members: Members | None = None,
    ) -> None:
        super().__init__(machine, members)
        self._validation = validation
        self._optimizer = optimizer
        self._lookahead = lookahead
        self._cuts = cuts if cuts is not None else CutPlan()
        self._now = Standing()
        self._evolving = Evolving(evolution)

    @classmethod
    def build(cls, settings: SchedulerSettings, site: Site) -> SchedulerNode:
        machine = LoopMachine(settings, validation=site.has_validation)
        return cls(
            machine,
            validation=site.has_validation,
            optimizer=site.has_optimizer,
            lookahead=settings.lookahead,
            cuts=CutPlan(settings.cut_windows, settings.cut_bytes),
            evolution=site.has_evolution,
            members=Members(site.variant_nodes if site.has_variant_nodes else None),
        )

    def state(self) -> NamedArrays:
        facts = {
            "machine": self.machine.state_dict(),
            "book": self._book.state(as_plain),
            "standing": self._now.state(),
            "cuts": self._cuts.state(),
        }
        if self._evolving.present:
            facts["evolving"] = self._evolving.state()
        if self._members.present:
            facts["members"] = self._members.state()
        return join({}, facts)

    def load_state(self, state: NamedArrays) -> Sequence[str]:
        _, facts = split(state)
        self.machine.load_state(facts["machine"])
        self._book.load_state(facts["book"], lambda plain: from_plain(WindowScored, plain))
        self._now.load_state(facts["standing"])
        self._cuts.load_state(facts["cuts"])
        if "evolving" in facts:
            self._evolving.load_state(facts["evolving"])
        if "members" in facts:
            self._members.load_state(facts["members"])
        return ()

    def setup(self) -> None:
        t_quantile(0.95, 18.0)  # loads what computes it now, and not between two windows

    @handles(AgentDescribed)
    def on_agent(self, event: AgentDescribed, ctx: Context) -> None:
        self.machine.describe_agent(event.is_on_policy, event.min_episodes_before_dormant)

    @handles(HyperparametersChanged)
    def on_hyperparameters(self, event: HyperparametersChanged, ctx: Context) -> None:
        self._now.params[event.version] = event.params
        if event.probing:
            self._now.probes.add(event.version)
        window = self._book.find(event.window)
        if window is None:
            self._now.hyperparams_version = event.version
        else:
            window.hyperparams_after = event.version
            self._evolve(ctx)
            self._work(ctx)

    @handles(OptimizerSwitched)
    def on_switch(self, event: OptimizerSwitched, ctx: Context) -> None:
        self._now.switches.append((event.window, event.old, event.new, event.reason))

    @handles(WindowCollected)
    def on_collected(self, event: WindowCollected, ctx: Context) -> None:
        self._cuts.announced(event.window, event.data.owner, event.data.bytes)
        window = self._book.find(event.window)
        if event.purpose == "train" and window is not None:
            window.steps = event.total_steps

    @handles(ExternallyScored)
    def on_external(self, event: ExternallyScored, ctx: Context) -> None:
        window = self._book.find(event.window)
        if window is not None:
            window.external = event.score

    @handles(PolicyUpdated)
    def on_policy(self, event: PolicyUpdated, ctx: Context) -> None:
        self._cuts.announced(event.window, event.policy.owner, event.policy.bytes)
        if event.origin == "initial":
            self._now.policy_version = event.version
            self._ask(ctx)
        elif event.origin == "restored":
            self._evolving.restored = True
            self._finish(ctx)
        else:
            window = self._book.find(event.window)
            if window is not None:
                window.policy_after = event.version
                window.rolling_back = window.rolling_back and event.origin not in ("rolled_back", "variant")
                self._work(ctx)

    @handles(WindowScored)
    def on_scored(self, event: WindowScored, ctx: Context) -> None:
        window = self._book.find(event.window)
        if window is None:
            return
        if event.purpose != "confirm":
            window.score = event
        else:
            window.confirming = False
            if self.machine.confirm(event.policy_version, Evaluation.of(event, window.steps)):
                self._promote(window, event, event.score, ctx)
        self._work(ctx)

    @handles(EvolutionDecided)
    def on_evolution(self, event: EvolutionDecided, ctx: Context) -> None:
        self._evolving.decision = as_plain(event)
        self._evolve(ctx)
        self._work(ctx)

    @handles(EvolutionReported)
    def on_report(self, event: EvolutionReported, ctx: Context) -> None:
        self._evolving.report = event.lines
        self._finish(ctx)

    @handles(StopRequested)
    def on_stop(self, event: StopRequested, ctx: Context) -> None:
        # A policy manager that stops a loop at its plateau has not kept it from deciding: it was decided.
        plateau = self._evolving.present and self.machine.end(self._now.next_window) == "converged"
        self._end("converged" if plateau else event.reason, ctx)

    @handles(TimerFired)
    def on_timer(self, event: TimerFired, ctx: Context) -> None:
        if (event.node, event.key) != (ctx.name, _WATCH) or self._book.windows or self._now.ending:
            return
        # The settings may have become others while it waited: a run can be resumed and forked.
        reason = self.machine.end(self._now.next_window, self._now.steps)
        if reason:
            self._end(reason, ctx)
        elif self.machine.rests:
            self._watch(ctx, restored=True)
        else:
            self._ask(ctx)

    def _work(self, ctx: Context) -> None:
        """Carry the oldest window on as far as the facts allow; when it is complete, ask for more."""
        while (window := self._book.oldest) is not None and not self._now.ending:
            step = window.step(optimizer=self._optimizer)
            if step is Step.WAIT or self._waits_for_variants(window, step):
                return
            if step is Step.REQUEST:
                self._request(window, ctx)
            elif step is Step.JUDGE:
                self._judge(window, ctx)
            elif step is Step.ANNOUNCE:
                if not self._compare(window, ctx):
                    return
                self._announce(window, ctx)
            else:
                self._close(ctx)

    def _judge(self, window: OpenWindow, ctx: Context) -> None:
        """First verdict; the best policy changes only after fresh episodes, where there are any."""
        score: WindowScored = window.score
        self._now.evaluations += 1
        if window.watch:
            window.judgement = self.machine.judge_watched(Evaluation.of(score, window.steps))
            if window.judgement.renewed:
                self._promote(window, score, self.machine.best_score, ctx)
            return
        self._now.train_score, self._now.gap = score.train_score, score.generalization_gap
        probing = score.learnt_with in self._now.probes
        window.judgement = self.machine.judge(
            Evaluation.of(score, window.steps, probing=probing), external=window.external
        )
        if not window.judgement.candidate:
            return
        if self._validation and window.external is None:
            window.confirming = True
            ctx.emit(EvaluationRequested(window=window.number, policy_version=score.policy_version))
        else:
            self._promote(window, score, window.external if window.external is not None else score.score, ctx)

    def _promote(self, window: OpenWindow, scored: WindowScored, value: float, ctx: Context) -> None:
        params = self._now.params.get(window.score.learnt_with, {})
        ctx.emit(loop_words.policy_promoted(window, scored, value, self.machine, params))

    def _announce(self, window: OpenWindow, ctx: Context) -> None:
        """Say the verdict, and what follows from it."""
        window.judged = True
        judgement: Judgement | None = window.judgement
        assert judgement is not None
        # At a plateau until the policy manager has decided.
        plateau = judgement.verdict == "dormant" and self._evolving.present
        window.rolling_back = window.rolling_back or plateau or judgement.rollback
        for event in loop_words.verdict(window, judgement, self.machine):
            ctx.emit(event)

    def _evolve(self, ctx: Context) -> None:
        """Act on the policy manager's decision, once the window has everything else."""
        window = self._book.oldest
        decision = self._evolving.take(window, optimizer=self._optimizer)
        if decision is None or window is None or self._now.ending:
            return
        if decision["action"] == "spawn":
            self.machine.restart()
            ctx.emit(LoopStateChanged(window=window.number, old="dormant", new=self.machine.state.value))
            ctx.emit(self._variant(decision))
        else:
            window.rolling_back = False

    def _close(self, ctx: Context) -> None:
        window = self._book.close()
        assert window.policy_after is not None
        now = self._now
        # With lookahead the next window may have been learnt from before this one was rolled back: versions
        # grow, so what it led to is not what the learner goes on from.
        now.policy_version = max(now.policy_version, window.policy_after)
        if window.hyperparams_after is not None:
            now.hyperparams_version = window.hyperparams_after
        now.steps = window.steps
        now.forget_before(now.hyperparams_version - 2)
        self._close_variants(window.number, ctx)
        reason = self.machine.end(window.number + 1, now.steps)
        if reason:
            self._end(reason, ctx)
            return
        cut = self._cuts.close(window.number)
        if cut:
            ctx.emit(CutAnnounced(cut=cut, window=window.number, nodes=self._members.nodes))
        self._ask(ctx)

    def _ask(self, ctx: Context) -> None:
        """Ask for windows until as many are under way as the lookahead allows."""
        now = self._now
        if self.machine.rests:
            if not self._book.windows:
                self._rest(ctx)
            return
        while len(self._book.windows) <= self._lookahead and not now.ending:
            evaluate = self.machine.should_evaluate(now.next_window)
            self._book.open(OpenWindow(now.next_window, now.policy_version, evaluate))
            ctx.emit(
                CollectWindow(
                    window=now.next_window,
                    policy_version=now.policy_version,
                    hyperparams_version=now.hyperparams_version,
                    evaluate=evaluate,
                )
            )
            now.next_window += 1

    def _rest(self, ctx: Context) -> None:
        """Nothing is to be trained: evaluate the best policy, now or after a while."""
        if self.machine.state is LoopState.DORMANT:
            before = self.machine.state.value
            self.machine.start_watching()
            after = self.machine.state.value
            ctx.emit(LoopStateChanged(window=self._now.next_window - 1, old=before, new=after))
            self._watch(ctx, restored=False)
        elif self.machine.settings.watch_seconds > 0.0:
            ctx.timer(_WATCH, self.machine.settings.watch_seconds)
        else:
            self._watch(ctx, restored=True)

    def _watch(self, ctx: Context, *, restored: bool) -> None:
        """Open a window of the watchdog; before the first, the best policy has to come back into force."""
        now = self._now
        window = OpenWindow(now.next_window, now.policy_version, evaluate=True, watch=True, steps=now.steps)
        now.next_window += 1
        self._book.open(window)
        if restored:
            window.policy_after = now.policy_version
        else:
            window.rolling_back = True
            ctx.emit(RollbackRequested(window=window.number, reason=_WATCH))
        self._work(ctx)

    def _request(self, window: OpenWindow, ctx: Context) -> None:
        """Have the policy that is in force evaluated for the watchdog."""
        window.requested = True
        role: Role = "validation" if self._validation else "train"
        ctx.emit(loop_words.watch_requested(window, role, self._now.hyperparams_version))

    def _end(self, reason: str, ctx: Context) -> None:
        if not self._now.ending:
            self._now.ending = reason
            ctx.emit(RollbackRequested(window=self._now.next_window - 1, reason=reason, final=True))

    def _finish(self, ctx: Context) -> None:
        """The best policy is restored, and nobody has anything to add: say how it went."""
        evolving = self._evolving
        if evolving.complete:
            windows = self._now.next_window - len(self._book.windows)
            ctx.emit(loop_words.run_finished(self._now, self.machine, windows, evolving.report or ()))
