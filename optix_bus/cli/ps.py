"""``optix-bus ps``: what runs."""

from __future__ import annotations

from typing import Any

import click
import psutil

from optix_bus.cli.command import command, say
from optix_bus.cli.runs import find_run
from optix_bus.runtime.run_directory import ProcessRecord, RunRecord


@command("ps", example="optix-bus ps\noptix-bus ps runs/tonight --json")
@click.argument("run", required=False)
def ps(run: str | None) -> None:
    """Show the processes of RUN (by default the newest): pid, state, restarts, incarnation, memory.

    The hub and the supervisor are in the list as well.
    """
    folder = find_run(run)
    record = folder.read()
    alive = record.supervisor.alive()
    state = record.state if alive or record.state in ("finished", "failed") else "dead"
    rows = [row for process in [record.supervisor, *record.processes] for row in _rows(process, record)]
    text = [f"{record.run_id}  {state.upper()}  seed {record.seed}  {folder.root}"]
    wide = max(16, *(len(row["name"]) for row in rows))
    text.append(
        f"{'NAME':<{wide}} {'PID':>8}  {'STATE':<9} {'RESTARTS':>8} "
        f"{'INCARNATION':>11} {'MEMORY':>9}  PROCESS"
    )
    for row in rows:
        memory = f"{row['rss_bytes'] / 2**20:.0f} MiB" if row["rss_bytes"] else "—"
        text.append(
            f"{row['name']:<{wide}} {row['pid']:>8}  {row['state']:<9} {row['restarts']:>8} "
            f"{row['incarnation']:>11} {memory:>9}  {row['process']}"
        )
    say(
        {
            "run": str(folder.root),
            "run_id": record.run_id,
            "state": state,
            "reason": record.reason,
            "nodes": rows,
        },
        "\n".join(text),
    )


def _rows(process: ProcessRecord, record: RunRecord) -> list[dict[str, Any]]:
    """One row for each node; nodes of one process share its pid."""
    alive = process.alive()
    over = process.state in ("ended", "lost") or (process.state == "waiting" and record.supervisor.alive())
    state = process.state if alive or over else "gone"
    if process is record.supervisor and not alive:
        state = "ended" if record.state in ("finished", "failed") else "gone"
    memory = 0
    if alive:
        try:
            memory = psutil.Process(process.pid).memory_info().rss
        except psutil.Error:
            state = "gone"
    return [
        {
            "name": node,
            "process": process.name,
            "pid": process.pid,
            "state": state,
            "restarts": process.restarts,
            "incarnation": process.incarnation,
            "reason": process.reason,
            "rss_bytes": memory,
        }
        for node in (process.nodes or [process.name])
    ]
