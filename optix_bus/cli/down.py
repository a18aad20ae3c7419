"""``optix-bus down``: end a run."""

from __future__ import annotations

import contextlib
import signal
import time

import click
import psutil

from optix_bus.cli.command import command, say
from optix_bus.cli.runs import find_run
from optix_bus.errors import NodeFailure
from optix_bus.runtime.outside import remove_outside, sweep, swept_line
from optix_bus.runtime.run_directory import RunDirectory, RunRecord, end_processes


@command("down", example="optix-bus down\noptix-bus down runs/tonight --seconds 60")
@click.argument("run", required=False)
@click.option(
    "--seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0.0),
    help="How long the loop may take to end in order.",
)
@click.option("--now", is_flag=True, help="Do not wait for the best policy to be restored.")
def down(run: str | None, seconds: float, now: bool) -> None:
    """End RUN (by default the newest): the loop stops, the best policy is restored, all processes end.

    Where the supervisor is already gone, what it left is swept: processes, sockets, shared memory. What other
    dead runs left is swept as well.
    """
    folder = find_run(run)
    record = folder.read()
    if record.supervisor.alive():
        deadline = time.monotonic() + seconds
        with contextlib.suppress(psutil.Error):
            supervisor = psutil.Process(record.supervisor.pid)
            # As Ctrl-C does: also a run inline then restores its best policy.
            supervisor.send_signal(signal.SIGINT)
            if now:
                # Another signal, because two of the same kind that come together are one.
                supervisor.send_signal(signal.SIGTERM)
        while record.supervisor.alive():
            if time.monotonic() > deadline:
                raise NodeFailure(
                    f"the supervisor (pid {record.supervisor.pid}) has not ended in {seconds:g} s; use --now"
                )
            time.sleep(0.02)
        record = folder.read()
        _answer(folder, record, [], f"{record.run_id} has ended: {record.reason}")
        return
    swept = end_processes(record)
    remove_outside(record)
    left = f"; ended what was left: {', '.join(swept)}" if swept else ""
    _answer(folder, record, swept, f"{record.run_id} was not running{left}")


def _answer(folder: RunDirectory, record: RunRecord, swept: list[str], text: str) -> None:
    folders = sweep()
    say(
        {
            "run": str(folder.root),
            "swept": swept,
            "swept_folders": folders,
            "reason": record.reason,
            "exit_code": record.exit_code,
        },
        "\n".join(filter(None, [text, swept_line(folders)])),
    )
