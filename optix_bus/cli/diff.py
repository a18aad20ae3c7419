"""``optix-bus diff``: two runs side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from optix_bus.cli.command import command, say
from optix_bus.cli.journal_text import finite
from optix_bus.cli.runs import find_journal

if TYPE_CHECKING:
    from optix_bus.runtime.run_diff import Divergence, Outcome, RunDiff

_WIDTH = 200


@command("diff", example="optix-bus diff runs/monday runs/tuesday\noptix-bus diff runs/a runs/b --json")
@click.argument("run_a")
@click.argument("run_b")
@click.pass_context
def diff(ctx: click.Context, run_a: str, run_b: str) -> None:
    """Compare what the nodes of two runs said, and name the first difference in the order of RUN_A.

    Compared are the types and bodies of each node's events, in the node's own order. Stamps and sequence
    numbers are left out, and facts of processes: when they were started, ready and lost. The exit code is 0
    where the runs are equal and 1 where they are not.
    """
    from optix_bus.runtime.run_diff import diff_runs

    found = diff_runs(find_journal(run_a)[0], find_journal(run_b)[0])
    say(_data(found), "\n".join(_lines(found)))
    if not found.equal:
        ctx.exit(1)


def _lines(found: RunDiff) -> list[str]:
    lines = ["equal: every node said the same"] if found.first is None else _first_lines(found.first)
    lines += ["", f"{'NODE':<20} {'IN A':>9} {'IN B':>9} {'EQUAL':>9}"]
    for stream in found.nodes:
        mark = "" if stream.same else "  <"
        lines.append(f"{stream.node:<20} {stream.a:>9} {stream.b:>9} {stream.equal:>9}{mark}")
    a, b = found.a, found.b
    lines += ["", f"{'':<20} {'A':>20} {'B':>20}"]
    lines.append(f"{'windows judged':<20} {a.windows:>20} {b.windows:>20}")
    lines.append(f"{'ended':<20} {a.reason or '—':>20} {b.reason or '—':>20}")
    lines.append(f"{'best score':<20} {_score(a):>20} {_score(b):>20}")
    lines.append(f"{'snapshots':<20} {len(a.snapshots):>20} {len(b.snapshots):>20}")
    if a.snapshots or b.snapshots:
        lines.append(f"the last snapshots are {'equal' if _same_snapshot(found) else 'different'}")
    return lines


def _first_lines(first: Divergence) -> list[str]:
    at_a, at_b = first.sequences
    what = f"first difference: the {_ordinal(first.number)} event of {first.node}"
    if not (at_a and at_b):
        having, kind, sequence = ("A", first.types[0], at_a) if at_a else ("B", first.types[1], at_b)
        other = "B" if at_a else "A"
        return [f"{what}: {having} has a {kind} (event {sequence}), {other} has no such event"]
    kind = first.types[0] if first.types[0] == first.types[1] else ""
    return [
        f"{what} (event {at_a} in A, {at_b} in B): {kind}{'.' if kind else ''}{first.field}",
        f"  A: {_value(first.values[0])}",
        f"  B: {_value(first.values[1])}",
    ]


def _data(found: RunDiff) -> dict[str, Any]:
    return {
        "equal": found.equal,
        "first": None if found.first is None else _first_data(found.first),
        "nodes": {
            stream.node: {"a": stream.a, "b": stream.b, "equal": stream.equal} for stream in found.nodes
        },
        "a": _outcome(found.a),
        "b": _outcome(found.b),
        "same_snapshot": _same_snapshot(found),
    }


def _first_data(first: Divergence) -> dict[str, Any]:
    return {
        "node": first.node,
        "number": first.number,
        "events": {"a": first.sequences[0] or None, "b": first.sequences[1] or None},
        "types": {"a": first.types[0] or None, "b": first.types[1] or None},
        "field": first.field,
        "values": {"a": _plain(first.values[0]), "b": _plain(first.values[1])},
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "windows": outcome.windows,
        "reason": outcome.reason or None,
        "best_score": None if outcome.best_score is None else finite(outcome.best_score),
        "snapshots": outcome.snapshots,
    }


def _same_snapshot(found: RunDiff) -> bool | None:
    """Whether the last snapshots are the same to the byte; None where nobody has one."""
    if not (found.a.snapshots or found.b.snapshots):
        return None
    return found.a.snapshots[-1:] == found.b.snapshots[-1:]


def _score(outcome: Outcome) -> str:
    return "—" if outcome.best_score is None else f"{outcome.best_score:.6g}"


def _value(value: Any) -> str:
    text = "(not there)" if value is None else repr(value)
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}..."


def _plain(value: Any) -> Any:
    """What JSON can say; floats that are not finite, and bytes, as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | bool | None) else repr(value)


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"
