"""The training report of a run whose policies evolved, as lines of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

_WIDTH = 64


@dataclass(frozen=True)
class MemberLine:
    """One member as the report shows it."""

    number: int
    weight: float
    mean_score: float
    note: str = ""


@dataclass(frozen=True)
class Evolved:
    """What there is to say.

    Attributes:
        reason: why evolution came to an end; empty while it has not.
        spawns: variants made.
        max_spawns: the budget; None for no limit.
        pruned: members removed.
        regime: of the scores.
        members: of the ensemble.
        best_score: of the best policy; NaN for none.
        val_score: latest validation score; NaN where unknown.
        gap: latest generalisation gap; NaN without validation.
        former: members that are no longer, each with its end.
    """

    reason: str
    spawns: int
    max_spawns: int | None
    pruned: int
    regime: str
    members: Sequence[MemberLine] = field(default_factory=tuple)
    best_score: float = math.nan
    val_score: float = math.nan
    gap: float = math.nan
    former: Sequence[MemberLine] = field(default_factory=tuple)


def evolution_lines(evolved: Evolved) -> list[str]:
    """The part about variants and ensemble, for the end of the loop's own report."""
    limit = "no limit" if evolved.max_spawns is None else str(evolved.max_spawns)
    rows = [
        ("Spawns used", f"{evolved.spawns} / {limit}"),
        ("Pruned agents", str(evolved.pruned)),
        ("Ensemble size", str(len(evolved.members))),
        ("Regime", evolved.regime or "unknown"),
    ]
    if evolved.reason:
        rows.insert(0, ("Evolution ended", evolved.reason))
    lines = [f"{name:<20} {value}" for name, value in rows]
    for member in (*evolved.members, *evolved.former):
        note = f"  ({member.note})" if member.note else ""
        lines.append(
            f"  [{member.number}] weight={member.weight:.4f}  mean_score={_number(member.mean_score)}{note}"
        )
    return lines


def training_report(evolved: Evolved) -> str:
    """The whole report, for who drives evolution without the loop."""
    rule = "─" * _WIDTH
    lines = [rule, "  Training complete", rule]
    lines.append(f"  {'Best score':<20} {_number(evolved.best_score)}")
    if not math.isnan(evolved.val_score):
        lines.append(f"  {'Val score':<20} {_number(evolved.val_score)}")
    if not math.isnan(evolved.gap):
        lines.append(f"  {'Generalization':<20} {_number(evolved.gap)} (training − validation)")
    return "\n".join([*lines, *(f"  {line}" for line in evolution_lines(evolved)), rule])


def _number(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.4f}"
