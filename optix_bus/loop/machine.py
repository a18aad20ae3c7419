"""The mind of the scheduler: evaluations in, verdicts out. Pure: no clock, no files, no messages."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from optix_bus.loop.convergence import ConvergenceWatch
from optix_bus.loop.leader import Best, Leader
from optix_bus.loop.report import ConvergenceReport
from optix_bus.loop.scheduler import BackoffScheduler
from optix_bus.loop.settings import LoopSettings
from optix_bus.loop.verdicts import Evaluation, Judgement
from optix_bus.loop.watchdog import Sample, Watchdog, pooled
from optix_bus.types import LoopState

#: Evaluations without improvement before the test is consulted, for agents with a replay buffer.
_OFF_POLICY_DORMANT_THRESHOLD = 15


class LoopMachine:
    """Two thresholds, kept apart: the improvement margin steers states and interval; which policy is best is
    decided by evaluation alone.

    Args:
        settings: every knob.
        validation: a candidate for the best waits for `confirm`; without, it leads at once.
    """

    def __init__(self, settings: LoopSettings, *, validation: bool = False) -> None:
        self.settings = settings
        self.watch = ConvergenceWatch(settings)
        self.scheduler = BackoffScheduler.from_settings(settings, self.watch)
        self._leader = Leader()
        self._validation = validation
        self._is_on_policy = True
        self._agents_min_windows = 0
        self._next_evaluation = 0
        self._judged_at = -1
        self._degraded = 0
        self._margin_used = 0.0
        self._blocked: tuple[str, ...] = ()
        self._looked_at = -1
        self._watchdog = Watchdog(settings.min_consecutive_degradations)

    def describe_agent(self, is_on_policy: bool, min_episodes_before_dormant: int = 0) -> None:
        """What the agent's kind asks for; the user's own settings win."""
        self._is_on_policy = is_on_policy
        self._agents_min_windows = min_episodes_before_dormant
        if self.settings.dormant_threshold is None and not is_on_policy:
            self.scheduler.dormant_threshold = _OFF_POLICY_DORMANT_THRESHOLD

    @property
    def state(self) -> LoopState:
        """Where the loop stands."""
        return self.scheduler.current_state

    @property
    def best(self) -> Best | None:
        """The best policy known, with its record."""
        return self._leader.best

    @property
    def best_score(self) -> float:
        """The record of the best; NaN before the first."""
        return self.best.score if self.best is not None else math.nan

    @property
    def best_version(self) -> int:
        """The best policy's version; -1 before the first."""
        return self.best.policy_version if self.best is not None else -1

    def should_evaluate(self, window: int) -> bool:
        """Whether this window is to be evaluated; the same answer however often it is asked."""
        late = window - self._next_evaluation
        return late >= 0 and late % self.scheduler.current_interval == 0

    def judge(self, evaluation: Evaluation, external: float | None = None) -> Judgement:
        """The verdict on one evaluation; call in the order of windows.

        Args:
            evaluation: the loop's own signal.
            external: score of the same policy by the user's own scorer, which then chooses the best.
        """
        previous = self.state
        scored = math.isfinite(evaluation.score)
        if scored:
            self._record(evaluation)
        candidate = self._consider(evaluation, external)
        verdict = self._decide(evaluation) if scored else "unscored"
        self._judged_at = evaluation.window
        self._next_evaluation = evaluation.window + self.scheduler.current_interval
        reason = self._reason(verdict, evaluation)
        rollback = (
            verdict == "degraded"
            and self.settings.rollback_on_degradation
            and self._is_on_policy
            and self.best_version not in (-1, evaluation.policy_version)
        )
        if rollback:
            self._degraded = 0  # what comes next is another policy
        scheduler, report = self.scheduler, self.watch.report
        return Judgement(
            verdict=verdict,
            state=self.state.value,
            previous_state=previous.value,
            interval=scheduler.current_interval,
            margin=self._margin_used if scored else scheduler.margin,
            smoothed=scheduler.smoothed,
            noise=scheduler.noise,
            rollback=rollback,
            candidate=candidate,
            convergence=report.as_dict() if report is not None and scored else {},
            reason=reason,
        )

    @property
    def rests(self) -> bool:
        """Whether nothing is to be trained: the loop has converged and is kept alive."""
        return self.settings.keep_watching and self.state in (LoopState.DORMANT, LoopState.WATCHDOG)

    @property
    def regime(self) -> int:
        """Counts how often the world was found changed; records of different regimes cannot be compared."""
        return self._watchdog.woken

    def start_watching(self) -> None:
        """From DORMANT to WATCHDOG: the best policy is evaluated, and nothing is trained."""
        self.scheduler.start_watching()
        self._watchdog.start()

    def judge_watched(self, evaluation: Evaluation) -> Judgement:
        """The verdict on one evaluation of the best policy, from which nothing was learnt.

        A change for good in either direction wakes the loop. What was scored before is then no measure any
        more: the evaluations that show the change become the policy's record, and the start of a new series.
        """
        best = self.best
        assert best is not None  # without a policy nothing converges
        previous, self._looked_at = self.state, evaluation.window
        sample = Sample(evaluation.score, evaluation.n, evaluation.standard_error, evaluation.std)
        change = self._watchdog.see(sample, self._unexpected)
        level = self._watchdog.level
        if change:
            self._begin_anew(evaluation, best)
        verdict = change or ("not_improved" if math.isfinite(evaluation.score) else "unscored")
        count = self.settings.min_consecutive_degradations
        return Judgement(
            verdict=verdict,
            state=self.state.value,
            previous_state=previous.value,
            interval=self.scheduler.current_interval,
            margin=self._unexpected(level),
            smoothed=evaluation.score,
            noise=self.scheduler.noise,
            renewed=bool(change) and not best.external,
            reason=(
                f"{count} evaluations running of an unchanged policy {change}: {evaluation.score:.4g} "
                f"after {level:.4g}"
                if change
                else ""
            ),
        )

    def _unexpected(self, level: float) -> float:
        """How far from its level an unchanged policy has to score to say that the world has changed."""
        return max(self.scheduler.distance(level), self.settings.improvement_margin)

    def _begin_anew(self, evaluation: Evaluation, best: Best) -> None:
        run = self._watchdog.run
        now = pooled(run)
        if best.external:
            renewed = replace(best, signal=now.score)
        else:
            renewed = Best(
                evaluation.policy_version,
                evaluation.window,
                now.score,
                now.standard_error,
                now.n,
                now.score,
                True,
            )
        self._leader.renew(renewed)
        self.watch.begin_anew((s.score, s.std, s.n, s.standard_error) for s in run)
        self.scheduler.record_new_world(now.score)
        self._degraded = 0
        self._next_evaluation = evaluation.window + 1

    def confirm(self, policy_version: int, fresh: Evaluation, *, own: bool = True) -> bool:
        """Judge a candidate by episodes that did not make it one; says whether it now leads. ``own`` is False
        for a policy of a variant that is trained beside the learner.

        Its record becomes the fresh mean, so that a lucky maximum does not stick.
        """
        if not math.isfinite(fresh.score):
            return False
        return self._leader.promote(
            Best(
                policy_version=policy_version,
                window=fresh.window,
                score=fresh.score,
                standard_error=fresh.standard_error,
                n=fresh.n,
                signal=fresh.score,
                confirmed=True,
            ),
            own=own,
        )

    def beats_record(self, score: float) -> bool:
        """Whether a score makes a candidate for the best, of whomever it is."""
        return self._leader.is_candidate(score)

    def end(self, windows: int, steps: int = 0) -> str:
        """Why the run is over after this many windows and environment steps; empty while it is not."""
        target, limit = self.settings.target_score, self.settings.max_episodes
        if target is not None and self.best is not None and self.best.signal >= target:
            return "target_score"
        if self.state in (LoopState.DORMANT, LoopState.WATCHDOG) and not self.settings.keep_watching:
            return "converged"
        if limit is not None and windows >= limit:
            return "max_episodes"
        if self.settings.max_steps is not None and steps >= self.settings.max_steps:
            return "max_steps"
        return ""

    def restart(self) -> None:
        """Tune hard again, from any state: a new regime, a new policy."""
        self.scheduler.record_restart()
        self._degraded = 0
        self._next_evaluation = self._looked_at + 1

    def convergence_report(self) -> ConvergenceReport:
        """What was decided about convergence, by what, and what stayed open."""
        converged = self.state in (LoopState.DORMANT, LoopState.WATCHDOG)
        return ConvergenceReport(
            converged=converged,
            evaluations=self.scheduler.total_episodes,
            method=self.settings.convergence,
            test=self.watch.report if converged else self.watch.best_effort(),
            blocked_by=() if converged else self._blocked,
            watched=self._watchdog.watched,
            woken=self._watchdog.woken,
        )

    def report_lines(self) -> list[str]:
        """`convergence_report` as text."""
        return self.convergence_report().lines()

    def state_dict(self) -> dict[str, Any]:
        """Plain, JSON-able values from which `load_state` goes on. No setting is among them."""
        return {
            "scheduler": self.scheduler.state(),
            "watch": self.watch.state(),
            "leader": _finite(self._leader.state()),
            "is_on_policy": self._is_on_policy,
            "agents_min_windows": self._agents_min_windows,
            "next_evaluation": self._next_evaluation,
            "judged_at": self._judged_at,
            "degraded": self._degraded,
            "blocked": list(self._blocked),
            "looked_at": self._looked_at,
            "watchdog": self._watchdog.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`. The settings of this machine hold, also where they are others."""
        self.scheduler.load_state(state["scheduler"])
        self.watch.load_state(state["watch"])
        leader = state["leader"]
        if leader is not None:
            leader = {k: math.nan if v is None else v for k, v in leader.items()}
        self._leader.load_state(leader)
        self.describe_agent(bool(state["is_on_policy"]), int(state["agents_min_windows"]))
        self._judged_at = int(state["judged_at"])
        self._next_evaluation = int(state["next_evaluation"])
        if self._judged_at >= 0:
            # A no-op under the same settings; a shorter interval must not wait for the longer one to pass.
            by_interval = self._judged_at + self.scheduler.current_interval
            self._next_evaluation = min(self._next_evaluation, by_interval)
        self._degraded = int(state["degraded"])
        self._blocked = tuple(state["blocked"])
        self._looked_at = int(state["looked_at"])
        self._watchdog.load_state(state["watchdog"])

    def _record(self, evaluation: Evaluation) -> None:
        self._looked_at = evaluation.window
        self.watch.record(
            evaluation.score,
            std=evaluation.std,
            n=evaluation.n,
            standard_error=evaluation.standard_error,
        )
        self.scheduler.record_score(evaluation.score)

    def _consider(self, evaluation: Evaluation, external: float | None) -> bool:
        """Whether this policy is a candidate; where nobody will confirm it, it leads from here on."""
        value = evaluation.score if external is None else external
        if not math.isfinite(value) or not self._leader.is_candidate(value):
            return False
        if external is not None or not self._validation:
            self._leader.promote(
                Best(
                    policy_version=evaluation.policy_version,
                    window=evaluation.window,
                    score=value,
                    standard_error=evaluation.standard_error if external is None else math.nan,
                    n=evaluation.n if external is None else 0,
                    signal=evaluation.score,
                    confirmed=False,
                    external=external is not None,
                )
            )
        return True

    def _decide(self, evaluation: Evaluation) -> str:
        scheduler = self.scheduler
        self._margin_used = scheduler.margin
        if self._degradation(evaluation):
            scheduler.record_degradation()
            return "degraded"
        if scheduler.has_improved:
            scheduler.record_improvement(scheduler.smoothed)
            return "improved"
        before = scheduler.current_state
        self._blocked = self._guards(evaluation)
        scheduler.record_non_improvement(dormant_allowed=not self._blocked)
        if scheduler.current_state is before:
            return "not_improved"
        return "dormant" if scheduler.current_state is LoopState.DORMANT else "plateaued"

    def _degradation(self, evaluation: Evaluation) -> bool:
        """True at the evaluation that completes a degradation, once for each. A probe's bad score is the
        tuner's doing: it neither counts nor clears.
        """
        if evaluation.probing:
            return False
        if not self.scheduler.check_degradation(evaluation.score, self._leader.own_signal):
            self._degraded = 0
            return False
        self._degraded += 1
        return self._degraded == self.settings.min_consecutive_degradations

    def _guards(self, evaluation: Evaluation) -> tuple[str, ...]:
        """What forbids DORMANT whatever the test says: every slope test is fooled by a delayed start."""
        found = []
        windows = evaluation.window + 1
        own = self.settings.min_episodes_before_dormant
        least = self._agents_min_windows if own is None else own
        if evaluation.steps_total < self.settings.min_steps_before_dormant:
            found.append(
                f"{evaluation.steps_total} steps of "
                f"min_steps_before_dormant={self.settings.min_steps_before_dormant}"
            )
        if windows < least:
            found.append(f"{windows} windows of min_episodes_before_dormant={least}")
        if not self.watch.has_risen():
            floor = self.settings.score_floor
            found.append(
                f"the score has not reached score_floor={floor:g}"
                if floor is not None
                else "the score has not risen by three standard errors since the start; where it starts at "
                "its best, set score_floor or target_score"
            )
        return tuple(found)

    def _reason(self, verdict: str, evaluation: Evaluation) -> str:
        report = self.watch.report
        if verdict == "dormant" and report is not None:
            if report.method == "classical":
                return (
                    f"no rise is significant over {report.window} evaluations, {report.looks} looks running"
                )
            return (
                f"a further rise of {report.margin:.4g} over {report.window} evaluations is excluded at 95 % "
                f"(upper bound {report.bound:.4g}), {report.looks} looks running"
            )
        if verdict == "degraded":
            return (
                f"{self._degraded} evaluations running below the best: {evaluation.score:.4g} after "
                f"{self.best_score:.4g}"
            )
        if verdict == "unscored":
            return "no episode ended in this window"
        return ""


def _finite(values: dict[str, Any] | None) -> dict[str, Any] | None:
    if values is None:
        return None
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
