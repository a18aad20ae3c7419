"""The vocabulary: every event that travels on the bus. Frozen, typed, under 64 KiB.

Commands are imperative (`CollectWindow`), facts are past tense (`WindowCollected`). Bodies hold no
process facts (pids, paths of a machine, stamps) and no sequence numbers, so that the same seed gives the
same bodies in every run; `RunStarted`, `RunResumed`, `NodeReady` and `NodeLost`, which speak of processes,
are the exception. Arrays never travel in events: a `BlobRef` says where they are.

A field may be added with a default; nothing is ever renamed or removed within one protocol version.
"""

from __future__ import annotations

from optix_bus.messages.base import Event
from optix_bus.messages.collection import CollectWindow, EvaluationRequested, WindowCollected
from optix_bus.messages.evaluation import WindowScored
from optix_bus.messages.evolution import (
    EnsembleReweighted,
    EvolutionDecided,
    EvolutionReported,
    VariantPruned,
    VariantRequested,
    VariantSpawned,
)
from optix_bus.messages.learning import (
    AgentDescribed,
    ExternallyScored,
    HyperparametersChanged,
    HyperparametersProposed,
    OptimizerSwitched,
    PolicyUpdated,
)
from optix_bus.messages.loop import (
    Degraded,
    Dormant,
    Improved,
    LoopStateChanged,
    Plateaued,
    PolicyPromoted,
    WindowJudged,
)
from optix_bus.messages.run import (
    CutAnnounced,
    CutTaken,
    NodeLost,
    NodeReady,
    RunFinished,
    RunResumed,
    RunStarted,
    StopRequested,
    TimerFired,
    TimerSet,
)
from optix_bus.messages.snapshots import RollbackRequested, RolledBack, SnapshotSaved
from optix_bus.messages.variants import (
    VariantAdmitted,
    VariantCollected,
    VariantDismissed,
    VariantEvaluationRequested,
    VariantScored,
    VariantSeeded,
    VariantUpdated,
)

VOCABULARY: tuple[type[Event], ...] = (
    RunStarted,
    RunResumed,
    NodeReady,
    NodeLost,
    StopRequested,
    RunFinished,
    CutAnnounced,
    CutTaken,
    TimerSet,
    TimerFired,
    AgentDescribed,
    CollectWindow,
    EvaluationRequested,
    WindowCollected,
    PolicyUpdated,
    ExternallyScored,
    WindowScored,
    WindowJudged,
    Improved,
    Plateaued,
    Degraded,
    Dormant,
    LoopStateChanged,
    PolicyPromoted,
    SnapshotSaved,
    RollbackRequested,
    RolledBack,
    HyperparametersProposed,
    HyperparametersChanged,
    EvolutionDecided,
    EnsembleReweighted,
    VariantPruned,
    VariantRequested,
    VariantSpawned,
    EvolutionReported,
    OptimizerSwitched,
    VariantAdmitted,
    VariantSeeded,
    VariantUpdated,
    VariantCollected,
    VariantEvaluationRequested,
    VariantScored,
    VariantDismissed,
)

#: They speak of processes, not of learning: two runs with the same seed differ in them.
PROCESS_FACTS: tuple[type[Event], ...] = (RunStarted, RunResumed, NodeReady, NodeLost)

__all__ = [
    "PROCESS_FACTS",
    "VOCABULARY",
    "AgentDescribed",
    "CollectWindow",
    "CutAnnounced",
    "CutTaken",
    "Degraded",
    "Dormant",
    "EnsembleReweighted",
    "EvaluationRequested",
    "Event",
    "EvolutionDecided",
    "EvolutionReported",
    "ExternallyScored",
    "HyperparametersChanged",
    "HyperparametersProposed",
    "Improved",
    "LoopStateChanged",
    "NodeLost",
    "NodeReady",
    "OptimizerSwitched",
    "Plateaued",
    "PolicyPromoted",
    "PolicyUpdated",
    "RollbackRequested",
    "RolledBack",
    "RunFinished",
    "RunResumed",
    "RunStarted",
    "SnapshotSaved",
    "StopRequested",
    "TimerFired",
    "TimerSet",
    "VariantAdmitted",
    "VariantCollected",
    "VariantDismissed",
    "VariantEvaluationRequested",
    "VariantPruned",
    "VariantRequested",
    "VariantScored",
    "VariantSeeded",
    "VariantSpawned",
    "VariantUpdated",
    "WindowCollected",
    "WindowJudged",
    "WindowScored",
]
