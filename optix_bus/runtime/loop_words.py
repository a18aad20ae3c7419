"""What the scheduler says of windows, verdicts and the end, put into events."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from optix_bus.loop.book import OpenWindow, Standing
from optix_bus.loop.machine import LoopMachine
from optix_bus.loop.report import tuning_lines
from optix_bus.loop.verdicts import Judgement
from optix_bus.messages import PolicyPromoted, RunFinished, VariantRequested, WindowJudged, WindowScored


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


def variant_requested(decision: dict[str, Any]) -> VariantRequested:
    """What the policy manager has decided, as a request."""
    return VariantRequested(**{name: decision[name] for name in VariantRequested.__struct_fields__})


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
