"""Search over independent trials: settings are tried in short runs before a long one is paid for.

The study is Optuna's, the runs are the loop's own. Optuna is imported when a search begins, never before.
"""

from __future__ import annotations

from optix_bus.trials.best import BestTrial
from optix_bus.trials.orchestrator import TrialOrchestrator
from optix_bus.trials.space import ParamSpace

__all__ = ["BestTrial", "ParamSpace", "TrialOrchestrator"]
