"""The mind of the loop: when to evaluate, what is an improvement, what is best, and when training is done."""

from __future__ import annotations

from optix_bus.loop.convergence import ConvergenceWatch
from optix_bus.loop.cuts import CutPlan
from optix_bus.loop.leader import Best
from optix_bus.loop.machine import LoopMachine
from optix_bus.loop.report import ConvergenceReport
from optix_bus.loop.scheduler import BackoffScheduler
from optix_bus.loop.settings import LoopSettings, SchedulerSettings
from optix_bus.loop.verdicts import Evaluation, Judgement

__all__ = [
    "BackoffScheduler",
    "Best",
    "ConvergenceReport",
    "ConvergenceWatch",
    "CutPlan",
    "Evaluation",
    "Judgement",
    "LoopMachine",
    "LoopSettings",
    "SchedulerSettings",
]
