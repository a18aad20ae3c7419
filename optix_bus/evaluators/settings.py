"""What a topology says about its evaluator."""

from __future__ import annotations

from dataclasses import dataclass

from optix_bus.settings import setting


@dataclass(frozen=True)
class EvaluatorSettings:
    """How windows become scores."""

    evaluator: str | None = setting(
        None,
        "Your own evaluator as module:Class, built without arguments; null scores by the mean return of "
        "complete episodes.",
    )
