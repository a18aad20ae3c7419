"""Journals of runs that were never run: what nodes said, in the order of a script."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from optix_bus.bus.codec import Codec
from optix_bus.messages import (
    VOCABULARY,
    CollectWindow,
    Event,
    NodeReady,
    RunFinished,
    RunStarted,
    SnapshotSaved,
    WindowJudged,
)
from tests.bus.journals import Journal

_codec = Codec(VOCABULARY)


def speak(folder: Path, script: Iterable[tuple[str, Event]], *, orderly: bool = True) -> None:
    """Write (node, event) after (node, event) into a new journal."""
    journal = Journal(folder, hub=False)
    roots = 0
    for node, event in script:
        name, packed = _codec.encode(event)
        cause = 0 if node == "supervisor" else journal.writer.head
        journal.append(node, kind=name, packed=packed, cause=cause, index=roots if cause == 0 else 0)
        roots += cause == 0
    journal.close(orderly=orderly)


def started(**fields: Any) -> Event:
    return RunStarted(**{"run_id": "r", "seed": 7, "nodes": ("scheduler", "learner"), **fields})


def ready(node: str, pid: int = 1) -> Event:
    return NodeReady(node=node, pid=pid, incarnation=1)


def collect(window: int) -> Event:
    return CollectWindow(window=window, policy_version=window, hyperparams_version=0, evaluate=True)


def judged(window: int, score: float = 1.5) -> Event:
    return WindowJudged(
        window=window,
        policy_version=window,
        verdict="improved",
        state="active",
        interval=1,
        score=score,
        standard_error=0.1,
        smoothed=score,
        margin=0.0,
        best_score=score,
        best_policy_version=window,
        steps=10 * window,
    )


def saved(window: int, sha256: str = "ab") -> Event:
    return SnapshotSaved(
        snapshot_id=f"{window:08d}", policy_version=window, window=window, score=1.5, path="p", sha256=sha256
    )


def finished(reason: str = "converged", score: float = 1.5) -> Event:
    return RunFinished(
        reason=reason,
        windows=3,
        steps=30,
        evaluations=3,
        best_score=score,
        best_standard_error=0.1,
        best_policy_version=2,
        best_window=2,
        train_score=1.0,
        generalization_gap=0.5,
        state="dormant",
        decided_by_loop=True,
    )
