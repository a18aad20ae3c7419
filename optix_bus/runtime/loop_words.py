"""What the scheduler says of windows, verdicts and the end, put into events."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optix_bus.loop.book import OpenWindow, Standing
from optix_bus.loop.machine import LoopMachine
from optix_bus.loop.report import tuning_lines
from optix_bus.loop.verdicts import Evaluation, Judgement
from optix_bus.messages import (
    Degraded,
    Dormant,
    EvaluationRequested,
    Event,
    Improved,
    LoopStateChanged,
    Plateaued,
    PolicyPromoted,
    RollbackRequested,
    RunFinished,
    VariantAdmitted,
    VariantRequested,
    WindowJudged,
    WindowScored,
)
from optix_bus.messages.collection import Role


def policy_promoted(
    window: OpenWindow, scored: WindowScored, value: float, machine: LoopMachine, params: dict[str, Any]
) -> PolicyPromoted:
    """The scored policy is the best known, with ``value`` as its record."""
    evidence = machine.best if window.watch and machine.best is not None else scored
    return PolicyPromoted(
        policy_version=scored.policy_version,
        window=window.number,
        hyperparams_version=window.score.learnt_with,
        score=value,
        n=evidence.n,
        standard_error=evidence.standard_error,
        metrics=scored.metrics,
        params=params,
        regime=machine.regime,
    )


def variant_promoted(
    fresh: Evaluation, metrics: Mapping[str, float], machine: LoopMachine, params: dict[str, Any]
) -> PolicyPromoted:
    """A variant's policy is the best known, by fresh episodes."""
    return PolicyPromoted(
        policy_version=fresh.policy_version,
        window=fresh.window,
        hyperparams_version=-1,
        score=fresh.score,
        n=fresh.n,
        standard_error=fresh.standard_error,
        metrics=dict(metrics),
        params=params,
        regime=machine.regime,
    )


def verdict(window: OpenWindow, judgement: Judgement, machine: LoopMachine) -> Iterator[Event]:
    """All that is said of a verdict, in its order."""
    score: WindowScored = window.score
    number, version = window.number, score.policy_version
    if judgement.verdict == "improved":
        yield Improved(window=number, policy_version=version, score=score.score, margin=judgement.margin)
    elif judgement.verdict == "plateaued":
        yield Plateaued(window=number, state=judgement.state)
    elif judgement.verdict == "degraded":
        best = machine.best_score
        yield Degraded(window=number, policy_version=version, score=score.score, best_score=best)
    if judgement.state != judgement.previous_state:
        yield LoopStateChanged(window=number, old=judgement.previous_state, new=judgement.state)
    if judgement.verdict == "dormant":
        yield Dormant(window=number, reason=judgement.reason)
    if judgement.rollback:
        yield RollbackRequested(window=number, reason="degradation")
    yield window_judged(window, judgement, machine)


def window_judged(window: OpenWindow, judgement: Judgement, machine: LoopMachine) -> WindowJudged:
    """The verdict on a window."""
    score: WindowScored = window.score
    return WindowJudged(
        window=window.number,
        policy_version=score.policy_version,
        verdict=judgement.verdict,
        state=judgement.state,
        interval=judgement.interval,
        score=score.score,
        standard_error=score.standard_error,
        smoothed=judgement.smoothed,
        margin=judgement.margin,
        best_score=machine.best_score,
        best_policy_version=machine.best_version,
        steps=window.steps,
        convergence=judgement.convergence,
        learnt=not window.watch,
    )


def watch_requested(window: OpenWindow, role: Role, hyperparams_version: int) -> EvaluationRequested:
    """The policy that is in force is to be evaluated for the watchdog."""
    assert window.policy_after is not None
    return EvaluationRequested(
        window=window.number,
        policy_version=window.policy_after,
        purpose="watch",
        role=role,
        hyperparams_version=hyperparams_version,
    )


def variant_requested(decision: dict[str, Any]) -> VariantRequested:
    """What the policy manager has decided, as a request."""
    return VariantRequested(**{name: decision[name] for name in VariantRequested.__struct_fields__})


def variant_admitted(decision: dict[str, Any], nodes: Sequence[str]) -> VariantAdmitted:
    """What the policy manager has decided, as the beginning of nodes of the variant's own."""
    own = {name: decision[name] for name in VariantAdmitted.__struct_fields__ if name != "nodes"}
    return VariantAdmitted(nodes=tuple(nodes), **own)


def run_finished(now: Standing, machine: LoopMachine, windows: int, more: Sequence[str]) -> RunFinished:
    """How the run went; ``more`` are the lines of others at the end of its report."""
    best = machine.best
    return RunFinished(
        reason=now.ending,
        windows=windows,
        steps=now.steps,
        evaluations=now.evaluations,
        best_score=machine.best_score,
        best_standard_error=best.standard_error if best is not None else math.nan,
        best_policy_version=machine.best_version,
        best_window=best.window if best is not None else -1,
        train_score=now.train_score,
        generalization_gap=now.gap,
        state=machine.state.value,
        decided_by_loop=now.ending == "converged",
        report=(*machine.report_lines(), *tuning_lines(now.switches), *more),
    )
