"""Turns windows into scores. The mind is a `BaseEvaluator`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from optix_bus.evaluators import make_evaluator
from optix_bus.evaluators.settings import EvaluatorSettings
from optix_bus.interfaces import BaseEvaluator
from optix_bus.messages import PolicyUpdated, WindowCollected, WindowScored
from optix_bus.messages.collection import Purpose
from optix_bus.nesting import by_number, join, memory_of, remind, split
from optix_bus.runtime.node import Context, Node, Site, handles
from optix_bus.types import EpisodeData, EvalMetrics, NamedArrays
from optix_bus.windows import pack, unpack

_NAN = float("nan")
_EVALUATOR = "evaluator"


@dataclass
class _Parts:
    """What has arrived of one evaluated window; a score needs all of it.

    Windows stay as they came, so that a state holds the bytes of the blobs.
    """

    train: NamedArrays | EpisodeData | None = None
    validation: NamedArrays | EpisodeData | None = None
    diagnostics: dict[str, float] | None = None
    policy_version: int = -1
    hyperparams_version: int = -1

    def complete(self, validation: bool) -> bool:
        return (
            self.train is not None
            and self.diagnostics is not None
            and (self.validation is not None or not validation)
        )


@dataclass
class _Memory:
    parts: dict[int, _Parts] = field(default_factory=dict)
    learnt_with: dict[int, int] = field(default_factory=dict)


class EvaluatorNode(Node):
    """Scores every evaluated window once all of it is there, and what is evaluated apart from training at
    once."""

    emits = (WindowScored,)
    settings = EvaluatorSettings
    for_variants = "nodes.variant_evaluator:VariantEvaluatorNode"

    def __init__(self, evaluator: BaseEvaluator, *, validation: bool) -> None:
        self._evaluator = evaluator
        self._validation = validation
        self._memory = _Memory()

    @classmethod
    def build(cls, settings: EvaluatorSettings, site: Site) -> EvaluatorNode:
        return cls(make_evaluator(settings), validation=site.has_validation)

    def state(self) -> NamedArrays:
        windows: dict[str, NamedArrays] = {}
        described: dict[int, dict[str, Any]] = {}
        for number, parts in self._memory.parts.items():
            for role, data in (("train", parts.train), ("validation", parts.validation)):
                if data is not None:
                    windows[f"{role}-{number}"] = pack(data) if isinstance(data, EpisodeData) else data
            described[number] = {
                "diagnostics": parts.diagnostics,
                "policy_version": parts.policy_version,
                "hyperparams_version": parts.hyperparams_version,
            }
        memory = memory_of(self._evaluator)
        if memory is not None:
            windows[_EVALUATOR] = memory
        return join(windows, {"windows": described, "learnt_with": self._memory.learnt_with})

    def load_state(self, state: NamedArrays) -> Sequence[str]:
        windows, facts = split(state)
        self._memory.learnt_with = by_number(facts["learnt_with"])
        self._memory.parts = {
            number: _Parts(windows.get(f"train-{number}"), windows.get(f"validation-{number}"), **described)
            for number, described in by_number(facts["windows"]).items()
        }
        remind(self._evaluator, windows.get(_EVALUATOR))
        return ()

    @handles(PolicyUpdated)
    def on_policy(self, event: PolicyUpdated, ctx: Context) -> None:
        learnt_with = self._memory.learnt_with
        learnt_with[event.version] = event.hyperparams_version
        if event.origin == "learned" and event.window in self._memory.parts:
            self._memory.parts[event.window].diagnostics = event.diagnostics
            self._score(event.window, ctx)

    @handles(WindowCollected)
    def on_window(self, event: WindowCollected, ctx: Context) -> None:
        if not event.evaluate:
            return
        data = ctx.read_blob(event.data)
        if event.purpose in ("confirm", "watch"):
            window, whole = unpack(data, ctx.now), event.role == "validation"
            scorer = self._evaluator
            metrics = scorer.score_validation(window) if whole else scorer.score(window, {})
            version, params = event.policy_version, event.hyperparams_version
            self._emit(event.purpose, event.window, version, params, metrics, ctx)
            return
        parts = self._memory.parts.setdefault(event.window, _Parts())
        if event.role == "train":
            parts.train = data
            parts.policy_version = event.policy_version
            parts.hyperparams_version = event.hyperparams_version
        else:
            parts.validation = data
        self._score(event.window, ctx)

    def _score(self, window: int, ctx: Context) -> None:
        parts = self._memory.parts[window]
        if not parts.complete(self._validation):
            return
        del self._memory.parts[window]
        assert parts.train is not None
        assert parts.diagnostics is not None
        metrics = self._evaluator.score(unpack(parts.train, ctx.now), dict(parts.diagnostics))
        if parts.validation is not None:
            validation = self._evaluator.score_validation(unpack(parts.validation, ctx.now))
            metrics = self._evaluator.combine(metrics, validation)
        self._emit("score", window, parts.policy_version, parts.hyperparams_version, metrics, ctx)

    def _emit(
        self,
        purpose: Purpose,
        window: int,
        policy_version: int,
        hyperparams_version: int,
        metrics: EvalMetrics,
        ctx: Context,
    ) -> None:
        versions = self._memory.learnt_with
        learnt_with = versions.get(policy_version, -1)
        self._memory.learnt_with = {v: h for v, h in versions.items() if v >= policy_version}
        gap = metrics.generalization_gap
        ctx.emit(
            WindowScored(
                window=window,
                purpose=purpose,
                policy_version=policy_version,
                hyperparams_version=hyperparams_version,
                learnt_with=learnt_with,
                score=float(metrics.primary_score),
                n=metrics.n,
                standard_error=metrics.standard_error,
                std=float(metrics.metrics.get("std", _NAN)),
                train_score=float(metrics.metrics.get("train_score", metrics.primary_score)),
                generalization_gap=_NAN if gap is None else float(gap),
                metrics={key: float(value) for key, value in metrics.metrics.items()},
            )
        )
