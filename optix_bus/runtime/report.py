"""The report at the end of a run, as lines of text. One place for the command line and for Python."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optix_bus.messages import RunFinished
from optix_bus.versions import first_version, variant_of

_WIDTH = 64
_REASONS = {
    "converged": "converged: the loop decided that training is done",
    "target_score": "the target score was reached",
    "max_episodes": "the limit of windows was reached (max_episodes)",
    "max_steps": "the limit of environment steps was reached (max_steps)",
}


def report_lines(finished: RunFinished, remarks: Sequence[str] = ()) -> list[str]:
    """What happened, in the order in which a person asks; remarks are what restarts could not bring back."""
    rule = "─" * _WIDTH
    rows = [
        ("Reason", _REASONS.get(finished.reason, finished.reason)),
        ("Best score", _score(finished.best_score, finished.best_standard_error)),
        ("Earned by", _earned(finished)),
        ("Last training score", _number(finished.train_score)),
        ("Generalization gap", f"{_number(finished.generalization_gap)} (training − validation)"),
        ("Windows", f"{finished.windows} ({finished.evaluations} evaluated)"),
        ("Steps", f"{finished.steps:,}"),
    ]
    if math.isnan(finished.generalization_gap):
        rows = [row for row in rows if row[0] != "Generalization gap"]
    lines = [rule, "  Training complete", rule]
    lines += [f"  {name:<20} {value}" for name, value in rows]
    lines += [f"  {line}" for line in finished.report]
    lines += [f"  after a restart, {remark}" for remark in remarks]
    return [*lines, rule]


def _score(value: float, error: float) -> str:
    if math.isnan(value):
        return "none: no policy was evaluated"
    if math.isnan(error):
        return _number(value)
    return f"{_number(value)} ± {1.96 * error:.2f} (95 % interval of the mean)"


def _earned(finished: RunFinished) -> str:
    if finished.best_policy_version < 0:
        return "nobody"
    variant = variant_of(finished.best_policy_version)
    version = finished.best_policy_version - first_version(variant)
    whose = f" of variant {variant}" if variant else ""
    return f"policy {version}{whose}, evaluated at window {finished.best_window}; restored"


def _number(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.2f}"
