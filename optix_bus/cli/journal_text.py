"""How journals are shown: what is in one, what is wrong with it, what a repair did; as text and as JSON."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optix_bus.bus.journal_repair import Repair
    from optix_bus.bus.journal_report import Damage, JournalReport
    from optix_bus.runtime.journal_summary import CutSeen, JournalSummary

#: More lines than this say no more.
_SHOWN = 20


def range_text(first: int, last: int) -> str:
    """``events 3 to 7``."""
    if last < first:
        return "no events"
    return f"event {first}" if first == last else f"events {first} to {last}"


def info_lines(summary: JournalSummary) -> list[str]:
    """A journal at a glance."""
    report = summary.report
    first, last = _ends(report)
    lines = [
        f"run       {report.run or '—'}",
        f"journal   {report.directory}",
        f"holds     {report.events} events ({first} to {last}), {report.size} bytes",
        f"from      {_time(report.first_ns)}",
        f"to        {_time(report.last_ns)} ({(report.last_ns - report.first_ns) / 1e9:.1f} s)",
        f"the run   {summary.ending}",
        f"closed    {'in order' if report.closed else 'no'}"
        + (f", torn tail of {report.torn_bytes} bytes" if report.torn_bytes else ""),
    ]
    lines += [f"resumed   behind window {window}" for window in summary.resumes]
    lines += [f"lost      {node}: {reason}" for node, reason in summary.lost]
    lines += ["", f"{'SEGMENT':<26} {'EVENTS':>9} {'HEAD':>9} {'BYTES':>12}  ENDING"]
    for segment in report.segments:
        name = f"{segment.first_seq:020d}.mcap"
        lines.append(
            f"{name:<26} {segment.events:>9} {segment.head:>9} {segment.size:>12}  {segment.ending}"
            + (f", {segment.damages} damaged" if segment.damages else "")
        )
    lines += ["", f"{'NODE':<26} {'EVENTS':>9}  INCARNATIONS"]
    counts = report.by_node()
    for node in [*counts, *(name for name in report.incarnations if name not in counts)]:
        lives = ", ".join(str(number) for number in report.incarnations.get(node, []))
        lines.append(f"{node:<26} {counts.get(node, 0):>9}  {lives or '—'}")
    lines += ["", f"{'TYPE':<26} {'EVENTS':>9}"]
    lines += [f"{kind:<26} {count:>9}" for kind, count in report.by_type().items()]
    if summary.cuts:
        lines += ["", f"{'CUT':<6} {'WINDOW':>7} {'EVENT':>9}  TAKEN BY"]
        lines += [_cut_line(cut, len(summary.nodes)) for cut in summary.cuts[-_SHOWN:]]
        if len(summary.cuts) > _SHOWN:
            lines.append(f"({len(summary.cuts) - _SHOWN} older cuts are not shown)")
    if report.damages:
        lines += ["", *_damages(report), f"readable from the start: {range_text(*report.usable)}"]
    return lines


def damage_lines(report: JournalReport) -> list[str]:
    """What verifying has found."""
    first, last = _ends(report)
    files = f"{len(report.segments)} segment{'s' if len(report.segments) > 1 else ''}"
    lines = [f"{report.directory}: {report.events} events ({first} to {last}), {files}, {report.size} bytes"]
    lines += [f"note: {note}" for note in report.notes]
    unknown = ", ".join(f"{count} {kind}" for kind, count in report.unknown.items())
    if unknown:
        lines.append(f"note: types that this version does not know: {unknown}")
    if report.is_clean:
        return [*lines, "whole"]
    rest = [f"behind a hole: {range_text(*piece)}" for piece in report.pieces[1 : _SHOWN + 1]]
    return [
        *lines,
        *_damages(report),
        f"readable from the start: {range_text(*report.usable)}",
        *rest,
        "optix-bus log repair makes a whole journal of it, and saves what is behind holes",
    ]


def _damages(report: JournalReport) -> list[str]:
    lines = [f"damaged: {damage}" for damage in report.damages[:_SHOWN]]
    more = len(report.damages) + report.further - len(lines)
    return [*lines, f"(and {more} more; --json lists the first {len(report.damages)})"] if more else lines


def repair_lines(done: Repair, target: Path, backup: Path | None, report: JournalReport) -> list[str]:
    """What a repair did."""
    lines = [f"kept      {range_text(done.kept.first, done.kept.last)} in {target}"]
    lines += [f"salvaged  {range_text(each.first, each.last)} in {each.path}" for each in done.salvaged]
    lines += [f"lost      {range_text(*each)}" for each in done.lost]
    lines += [f"note      {remark}" for remark in done.remarks[:_SHOWN]]
    if backup is not None:
        lines.append(f"backup    {backup}")
    state = "whole" if report.is_clean else f"{len(report.damages)} damages are left"
    return [*lines, f"verified  {state}; a hub goes on with event {done.kept.last + 1}"]


def summary_data(summary: JournalSummary) -> dict[str, Any]:
    """A journal at a glance, for programs."""
    report, finished = summary.report, summary.finished
    return {
        **report_data(report),
        "first_stamp_ns": report.first_ns,
        "last_stamp_ns": report.last_ns,
        "nodes": report.by_node(),
        "incarnations": report.incarnations,
        "types": report.by_type(),
        "cuts": [
            {
                "cut": cut.number,
                "window": cut.window,
                "event": cut.sequence,
                "nodes": cut.nodes,
                "complete": cut.complete,
            }
            for cut in summary.cuts
        ],
        "resumed_behind_windows": summary.resumes,
        "seed": summary.starts[-1].seed if summary.starts else None,
        "lost_nodes": [{"node": node, "reason": reason} for node, reason in summary.lost],
        "stop_requested": summary.stops,
        "finished": None
        if finished is None
        else {
            "reason": finished.reason,
            "windows": finished.windows,
            "best_score": finite(finished.best_score),
        },
    }


def report_data(report: JournalReport) -> dict[str, Any]:
    """What reading a journal has found, for programs."""
    first, last = _ends(report)
    return {
        "journal": str(report.directory),
        "run": report.run,
        "events": report.events,
        "first": first,
        "last": last,
        "bytes": report.size,
        "closed": report.closed,
        "torn_bytes": report.torn_bytes,
        "clean": report.is_clean,
        "segments": [
            {
                "first": segment.first_seq,
                "events": segment.events,
                "head": segment.head,
                "bytes": segment.size,
                "ending": segment.ending,
                "damages": segment.damages,
            }
            for segment in report.segments
        ],
        "readable": [list(piece) for piece in report.pieces],
        "damages": [_damage_data(damage) for damage in report.damages],
        "further_damages": report.further,
        "unknown_types": dict(report.unknown),
        "notes": report.notes,
    }


def finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _damage_data(damage: Damage) -> dict[str, Any]:
    return {
        "segment": damage.segment,
        "offset": damage.offset,
        "end": damage.end,
        "event": damage.event,
        "kind": damage.kind,
        "text": damage.text,
        "lost": None if damage.lost is None else list(damage.lost),
        "readable_before": damage.before,
        "readable_behind": damage.after or None,
    }


def _ends(report: JournalReport) -> tuple[int, int]:
    return (report.pieces[0][0], report.pieces[-1][1]) if report.pieces else (0, 0)


def _cut_line(cut: CutSeen, nodes: int) -> str:
    taken = "all nodes" if cut.complete else f"{len(cut.nodes)} of {nodes or '?'} nodes"
    return f"{cut.number:<6} {cut.window:>7} {cut.sequence:>9}  {taken}"


def _time(stamp_ns: int) -> str:
    if stamp_ns == 0:
        return "—"
    return datetime.fromtimestamp(stamp_ns / 1e9, UTC).isoformat(sep=" ", timespec="milliseconds")
