"""``optix-bus replay --live``: a recorded run for subscribers."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType

import click

from optix_bus.bus.record import Record
from optix_bus.cli.command import say
from optix_bus.runtime.replay_live import LiveReplay, Published
from optix_bus.runtime.replay_run import RecordedRun

_DRAWN_EVERY_SECONDS = 0.1
_CONNECT = """\
from optix_bus.bus.endpoints import HubEndpoints
from optix_bus.bus.link import Link
link = Link(HubEndpoints.in_directory({sockets!r}), from_seq={first})
for record in link.poll(1.0): print(record.seq, record.node, record.type, record.body)"""


def publish(
    run: RecordedRun,
    *,
    rate: float,
    loop: bool,
    types: Sequence[str],
    hold: float,
    first: int,
    last: int | None,
) -> int:
    """Publish, verify, stay a while; returns the exit code."""
    live = LiveReplay(run, types=types, rate=rate, first=first, last=last)
    try:
        with _stopping(live):
            _say_where(run, live, loop)
            result = live.publish(loop=loop, after=_Progress(run))
            if not result.problem:
                live.serve(hold)
    finally:
        live.close()
    say(_data(run, result), "\n".join(_lines(result)))
    if result.problem:
        click.echo(f"error: {result.problem}", err=True)
    return 1 if result.problem else 0


def _say_where(run: RecordedRun, live: LiveReplay, loop: bool) -> None:
    """On stderr: stdout belongs to the answer."""
    # What lies before the last pass is forgotten: who comes late to a loop begins with what is new.
    code = _CONNECT.format(sockets=str(live.sockets), first=None if loop else 1)
    click.echo(f"{run.plan.run_id} is published in {live.sockets}; subscribe with", err=True)
    click.echo("\n".join(f"    {line}" for line in code.splitlines()), err=True)


class _Progress:
    def __init__(self, run: RecordedRun) -> None:
        self._head = run.head
        self._drawn = 0.0

    def __call__(self, record: Record) -> None:
        if sys.stderr.isatty() and time.monotonic() - self._drawn > _DRAWN_EVERY_SECONDS:
            self._drawn = time.monotonic()
            print(f"\revent {record.seq} of {self._head} ", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _stopping(live: LiveReplay) -> Iterator[None]:
    """Ctrl-C and SIGTERM end it in order; elsewhere than in the main thread nobody sends them."""

    def stop(number: int, frame: FrameType | None) -> None:
        live.stop()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lines(result: Published) -> list[str]:
    left = f", {result.left_out:,} of other types left out" if result.left_out else ""
    if result.problem:
        verdict = "NOT all arrived as they were recorded"
    elif result.same_numbers:
        verdict = "all in the new journal, in order, with the same content and the same numbers"
    else:
        verdict = "all in the new journal, in order, with the same content; numbers and causes are new"
    passes = f" in {result.passes} whole passes" if result.passes != 1 else ""
    return [
        f"published {result.events:,} events{passes}{left}: {verdict}",
        f"  time      {result.seconds:.2f} s",
    ]


def _data(run: RecordedRun, result: Published) -> dict[str, object]:
    return {
        "ok": not result.problem,
        "exit_code": 1 if result.problem else 0,
        "run": str(run.directory.root),
        "events": result.events,
        "passes": result.passes,
        "left_out": result.left_out,
        "verified": not result.problem,
        "same_numbers": result.same_numbers,
        "seconds": result.seconds,
        "error": result.problem,
    }
