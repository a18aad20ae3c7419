"""Pipelines as a topology asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from optix_bus.errors import ConfigurationError
from optix_bus.pipelines.environments import build_environment, build_native, check_environment
from optix_bus.pipelines.settings import PipelineSettings
from optix_bus.pipelines.stepping import SteppingPipeline
from optix_bus.pipelines.vector import VectorBatchPipeline
from optix_bus.pipelines.vector_stepper import VectorStepper


def make_pipeline(
    environment: str,
    kwargs: Mapping[str, Any] | None = None,
    settings: PipelineSettings | None = None,
    *,
    role: str = "train",
    seed: int = 0,
    agent: Any = None,
) -> SteppingPipeline:
    """A pipeline over environments of one id; windows are ``[T, B, ...]``, also for one environment.

    Environments are built by ``setup``. The seed of an episode depends on ``seed``, ``role`` and the number
    of the episode alone.

    Raises:
        ConfigurationError: there is no such environment.
    """
    chosen = settings if settings is not None else PipelineSettings()
    check_environment(environment)
    count = chosen.environments
    options: dict[str, Any] = {
        "agent": agent,
        "window_size": chosen.window_steps,
        "seed": seed,
        "role": role,
        "max_evaluation_steps": chosen.max_evaluation_steps,
        "keep_infos": chosen.keep_infos,
    }
    if chosen.vectorization == "native":
        return SteppingPipeline(
            lambda: VectorStepper(build_native(environment, count, kwargs), owned=True),
            count,
            builds_more=True,
            **options,
        )
    if chosen.vectorization not in ("sync", "async"):
        raise ConfigurationError(
            f"found vectorization {chosen.vectorization!r}, expected one of sync, async, native"
        )
    makers = [partial(build_environment, environment, dict(kwargs or {})) for _ in range(count)]
    return VectorBatchPipeline(makers, async_envs=chosen.vectorization == "async", **options)
