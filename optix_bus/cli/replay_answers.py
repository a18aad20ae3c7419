"""What `optix-bus replay` answers, as text for people and as data for programs."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from optix_bus.runtime.playback import Divergence, shortened
from optix_bus.runtime.replay_run import RecordedRun
from optix_bus.runtime.replay_session import Report
from optix_bus.runtime.replay_what_if import Answer, Change

D = TypeVar("D")


def report_data(run: RecordedRun, report: Report) -> dict[str, Any]:
    """The verdict as JSON-able data."""
    return clean(
        {
            "ok": report.exit_code == 0,
            "equal": report.divergence is None,
            "exit_code": report.exit_code,
            "run": str(run.directory.root),
            "run_id": run.plan.run_id,
            "nodes": report.nodes,
            "from": report.first,
            "to": report.last,
            "since": report.since,
            "events": report.events,
            "outputs": report.outputs,
            "cuts": report.cuts,
            "seconds": report.seconds,
            "recorded_seconds": report.recorded_seconds,
            "speed": report.speed,
            "tolerance": report.tolerance,
            "divergence": None if report.divergence is None else _divergence_data(report.divergence),
            "failure": report.failure,
            **({"error": report.obstacle} if report.obstacle else {}),
            "missing": report.missing,
            "unrecorded": [
                {"node": e.node, "cause": e.cause, "index": e.index, "type": e.type}
                for e in report.unrecorded
            ],
            "notes": report.notes,
        }
    )


def report_lines(run: RecordedRun, report: Report) -> list[str]:
    """The verdict in lines."""
    divergence = report.divergence
    lines = [f"{run.plan.run_id}: events {report.first} to {report.last} of {run.head}"]
    lines.append(f"  played    {', '.join(report.nodes)}")
    if report.since:
        lines.append(f"  begun     with the states of the cut at event {report.since}")
    lines += [f"  note      {note}" for note in report.notes]
    how = f"within {report.tolerance:g}" if report.tolerance else "byte for byte"
    states = "state at a cut" if report.cuts == 1 else "states at cuts"
    counts = f"{report.events:,} events, {report.outputs:,} outputs and {report.cuts:,} {states}"
    verdict = "all equal" if report.exit_code == 0 else "equal up to there"
    lines.append(
        f"  compared  {counts}, {how}" + (f": {verdict}" if divergence is None else ", the last one differs")
    )
    lines.append(
        f"  time      {report.recorded_seconds:.2f} s of the run in {report.seconds:.2f} s: "
        f"{report.speed:.1f} times its speed"
    )
    lines += [
        f"  ahead     {e.node} emits {e.type}, answering event {e.cause}: behind the end of the journal"
        for e in report.unrecorded
    ]
    if report.failure:
        lines.append(f"  as then   {report.failure}")
    if divergence is not None:
        lines += ["", f"DIFFERENT {divergence}", *_divergence_lines(run, divergence)]
    return lines


def _divergence_lines(run: RecordedRun, divergence: Divergence) -> list[str]:
    lines = []
    if divergence.kind == "differs":
        lines += [
            f"  field     {divergence.field}",
            f"  expected  {shortened(divergence.expected, 500)}",
            f"  found     {shortened(divergence.found, 500)}",
        ]
    if divergence.type != "CutTaken":
        lines.append(
            f"  look      optix-bus replay {run.directory.root} --node {divergence.node} --pdb   "
            f"(stops in the handler of event {divergence.cause})"
        )
    return lines


def _divergence_data(divergence: Divergence) -> dict[str, Any]:
    return {
        "sequence": divergence.sequence,
        "node": divergence.node,
        "kind": divergence.kind,
        "type": divergence.type,
        "cause": divergence.cause,
        "field": divergence.field,
        "expected": divergence.expected,
        "found": divergence.found,
    }


def answer_data(run: RecordedRun, answer: Answer) -> dict[str, Any]:
    """What one node would have done, as JSON-able data."""
    return clean(
        {
            "ok": True,
            "exit_code": 0,
            "equal": answer.first is None,
            "run": str(run.directory.root),
            "node": answer.node,
            "to": answer.last,
            "outputs": answer.outputs,
            "same": answer.equal,
            "first": None if answer.first is None else _change_data(answer.first),
            "differences": [
                {
                    "type": kind.type,
                    "field": kind.field,
                    "count": kind.count,
                    "first": _change_data(kind.first),
                }
                for kind in answer.kinds
            ],
            "void_from": None if answer.void is None else _change_data(answer.void),
            "readers": answer.readers,
            "notes": answer.notes,
        }
    )


def answer_lines(run: RecordedRun, answer: Answer) -> list[str]:
    """What one node would have done, in lines."""
    lines = [f"{run.plan.run_id}: what {answer.node} would have done"]
    lines += [f"  note      {note}" for note in answer.notes]
    if answer.first is None:
        lines.append(f"  the same in all {answer.outputs:,} outputs up to event {answer.last}")
        return lines
    lines.append(f"  first     {_change_text(answer.first)}")
    lines.append(f"  same      {answer.equal:,} of {answer.outputs:,} outputs while the answer holds")
    lines.append("  otherwise, as long as the answer holds:")
    for kind in answer.kinds:
        times = "once" if kind.count == 1 else f"{kind.count:,} times, first"
        lines.append(f"    {_name(kind.type, kind.field)}  {times} at {_change_text(kind.first, short=True)}")
    if answer.void is None:
        lines.append(f"  the answer holds up to event {answer.last}: nobody else acts on what is otherwise")
    else:
        lines.append(
            f"  void      from event {answer.void.sequence} on: {', '.join(answer.readers)} would have acted "
            f"on this {answer.void.type}, and the log cannot know what would have followed"
        )
        lines.append(
            f"  to know   optix-bus fork {run.directory.root} --at {answer.void.cause - 1} --run-dir NEW"
        )
    return lines


def _change_text(change: Change, *, short: bool = False) -> str:
    window = f", window {change.window}" if change.window is not None else ""
    place = f"event {change.sequence}{window}"
    if change.field == "type":
        what = "not emitted now" if change.new is None else "emitted now, not recorded"
    else:
        what = f"recorded {shortened(change.recorded)}, now {shortened(change.new)}"
    return f"{place}: {what}" if short else f"{place}: {_name(change.type, change.field)}: {what}"


def _name(event_type: str, field: str) -> str:
    return event_type if field == "type" else f"{event_type}.{field}"


def _change_data(change: Change) -> dict[str, Any]:
    return {
        "sequence": change.sequence,
        "cause": change.cause,
        "window": change.window,
        "type": change.type,
        "field": change.field,
        "recorded": change.recorded,
        "new": change.new,
    }


def clean(data: D) -> D:
    """The same as JSON can say it: numbers that are not finite become texts, bytes become hex."""
    cleaned: D = _clean(data)
    return cleaned


def _clean(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list | tuple) else value
