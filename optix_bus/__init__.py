"""optix-bus: a training loop that knows when to stop, as a flow of messages.

Every public name lives here and is loaded when it is first used: importing the package loads no framework
and opens no socket.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "AdaptiveOptimizer": "optix_bus.optimizers",
    "AgentContract": "optix_bus.testing",
    "BackoffOptimizer": "optix_bus.optimizers",
    "BackoffScheduler": "optix_bus.loop.scheduler",
    "BaseAgent": "optix_bus.interfaces",
    "BaseEvaluator": "optix_bus.interfaces",
    "BaseOptimizer": "optix_bus.interfaces",
    "BasePipeline": "optix_bus.interfaces",
    "BatchPipeline": "optix_bus.pipelines",
    "CheckpointRegistry": "optix_bus.checkpoints",
    "EnsembleAgent": "optix_bus.evolution",
    "EpisodeData": "optix_bus.types",
    "EvalMetrics": "optix_bus.types",
    "HERBuffer": "optix_bus.rl.her",
    "FlaxEvaluator": "optix_bus.evaluators",
    "FlaxPPOAgent": "optix_bus.agents",
    "HyperparamSet": "optix_bus.types",
    "LivePipeline": "optix_bus.pipelines",
    "LoopCallback": "optix_bus.interfaces",
    "LoopController": "optix_bus.runtime.controller",
    "LoopState": "optix_bus.types",
    "MetaAction": "optix_bus.evolution",
    "MetaController": "optix_bus.evolution",
    "MomentumOptimizer": "optix_bus.optimizers",
    "NodeContract": "optix_bus.testing",
    "NoisyLinear": "optix_bus.agents",
    "ObsNormalizer": "optix_bus.rl",
    "PBTOptimizer": "optix_bus.optimizers",
    "PipelineContract": "optix_bus.testing",
    "PolicyManager": "optix_bus.evolution",
    "PolicyManagerCallback": "optix_bus.evolution",
    "PolicySnapshot": "optix_bus.types",
    "PrioritizedReplayBuffer": "optix_bus.rl",
    "RLOptimizer": "optix_bus.optimizer",
    "RainbowQNetwork": "optix_bus.agents",
    "RegimeDetector": "optix_bus.evolution",
    "RewardNormalizer": "optix_bus.rl",
    "RunningMeanStd": "optix_bus.rl",
    "SPSAOptimizer": "optix_bus.optimizers",
    "Schedule": "optix_bus.rl.schedules",
    "TFAgent": "optix_bus.agents",
    "TFDQNAgent": "optix_bus.agents",
    "TFEvaluator": "optix_bus.evaluators",
    "TFGaussianPPOAgent": "optix_bus.agents",
    "TFPPOAgent": "optix_bus.agents",
    "TFSACAgent": "optix_bus.agents",
    "TFTD3Agent": "optix_bus.agents",
    "TFTDDAgent": "optix_bus.agents",
    "TorchAgent": "optix_bus.agents",
    "TorchDQNAgent": "optix_bus.agents",
    "TorchRainbowDQNAgent": "optix_bus.agents",
    "TorchEvaluator": "optix_bus.evaluators",
    "TorchGaussianPPOAgent": "optix_bus.agents",
    "TorchPPOAgent": "optix_bus.agents",
    "TorchRecurrentPPOAgent": "optix_bus.agents",
    "TorchSACAgent": "optix_bus.agents",
    "TorchTD3Agent": "optix_bus.agents",
    "TrialOrchestrator": "optix_bus.trials",
    "VectorBatchPipeline": "optix_bus.pipelines",
    "compute_gae": "optix_bus.rl",
    "compute_vtrace_targets": "optix_bus.rl",
    "make_agent": "optix_bus.agents",
    "make_minibatches": "optix_bus.rl",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
