"""Where experience comes from: environments stepped under a policy, in windows or in complete episodes."""

from __future__ import annotations

from optix_bus.pipelines.batch import BatchPipeline
from optix_bus.pipelines.environments import build_environment
from optix_bus.pipelines.factory import make_pipeline
from optix_bus.pipelines.flattening import flatten_observation
from optix_bus.pipelines.live import LivePipeline
from optix_bus.pipelines.settings import PipelineSettings
from optix_bus.pipelines.stepping import SteppingPipeline
from optix_bus.pipelines.vector import VectorBatchPipeline

__all__ = [
    "BatchPipeline",
    "LivePipeline",
    "PipelineSettings",
    "SteppingPipeline",
    "VectorBatchPipeline",
    "build_environment",
    "flatten_observation",
    "make_pipeline",
]
