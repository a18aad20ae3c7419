"""Looking on while a run is replayed: progress, steps, stops where an expression holds, the debugger."""

from __future__ import annotations

import pdb
import sys
import time
from typing import Any

import click
import msgspec

from optix_bus.bus.record import Record
from optix_bus.messages import Event
from optix_bus.runtime.playback import HandlerFailure, Played, shortened
from optix_bus.runtime.replay_filter import EventFilter
from optix_bus.runtime.replay_session import Watch
from optix_bus.runtime.replay_stage import Stage

_DRAWN_EVERY_SECONDS = 0.1
_MAX_STOPS = 1000
_HELP = "Enter: next event   c: go on   q: leave"


class LeftDebugger(BaseException):
    """The person at the debugger has had enough. No `Exception`, so that it is not taken for the node's."""


class Looker(Watch):
    """What a person sees, and where they stop.

    Args:
        last: the last event of the replay, for the progress.
        step: stop behind every event.
        when: stop behind the events for which this holds.
        debug: where it stops, be in the handler of each node, and behind an exception where it was raised.
        within: stop in the handler of this node at this event only.
        quiet: say nothing; `stops` keeps what was found.
    """

    def __init__(
        self,
        last: int,
        *,
        step: bool = False,
        when: EventFilter | None = None,
        debug: bool = False,
        within: tuple[str, int] | None = None,
        quiet: bool = False,
    ) -> None:
        self.stops: list[dict[str, Any]] = []
        self._last = last
        self._step = step
        self._when = when
        self._debug = debug
        self._within = within
        self._quiet = quiet
        self._asks = step or (when is not None and not debug and sys.stdin.isatty())
        self._draws = not quiet and not step and not debug and sys.stderr.isatty()
        self._drawn = 0.0
        self._first_stamp = 0
        self._here = False

    def before(self, record: Record, stage: Stage) -> None:
        """Decide whether to stop at this event; with the debugger, lay the traps."""
        self._first_stamp = self._first_stamp or record.stamp_ns
        found = self._when is not None and self._when.matches(record)
        self._here = self._step or found
        if self._draws and time.monotonic() - self._drawn > _DRAWN_EVERY_SECONDS:
            self._drawn = time.monotonic()
            print(f"\revent {record.seq} of {self._last} ", end="", file=sys.stderr, flush=True)
        if self._debug and (found or (self._within is not None and self._within[1] == record.seq)):
            for name, fold in stage.folds.items():
                if self._within is None or self._within[0] == name:
                    fold.node.__dict__["handle"] = _trapped(fold.node.handle)

    def after(self, played: Played, stage: Stage) -> bool:
        """Show what happened and wait for the person, where that is wanted."""
        for fold in stage.folds.values():
            fold.node.__dict__.pop("handle", None)
        if not self._here or played.event is None:
            return True
        if self._quiet:
            if len(self.stops) < _MAX_STOPS:
                self.stops.append(_as_data(played))
            return True
        self.clear()
        click.echo("\n".join(self._lines(played)))
        return self._ask() if self._asks else True

    def failed(self, failure: HandlerFailure, stage: Stage) -> None:
        """A node raised: look at it where it happened."""
        error = failure.__cause__
        if self._debug and error is not None and error.__traceback__ is not None:
            click.echo(f"{failure}\nthe debugger is where it was raised; q leaves it", err=True)
            pdb.post_mortem(error.__traceback__)

    def clear(self) -> None:
        """Take the progress away."""
        if self._draws and self._drawn:
            print("\r" + " " * 40 + "\r", end="", file=sys.stderr, flush=True)

    def _ask(self) -> bool:
        click.echo(_HELP, err=True)
        answer = sys.stdin.readline()
        if not answer or answer.strip() == "c":
            # The end of the input: nobody is there to step for.
            self._step = False
            self._asks = bool(answer) and self._when is not None
        return answer.strip() != "q"

    def _lines(self, played: Played) -> list[str]:
        record = played.record
        seconds = (record.stamp_ns - self._first_stamp) / 1e9
        answering = f", answering event {record.cause}" if record.cause else ""
        assert played.event is not None
        lines = [f"event {record.seq}  +{seconds:.3f} s  {record.type} of {record.node}{answering}"]
        lines.append(f"    {_fields(played.event)}")
        lines += [f"  -> {e.node}: {e.type}  {_fields(e.event)}" for e in played.emitted]
        return lines


class _Debugger(pdb.Pdb):
    """Knows whether the person has left it: `runcall` itself does not say so."""

    left = False

    def set_quit(self) -> None:
        """``q``, or the end of the input."""
        self.left = True
        super().set_quit()


def _trapped(handle: Any) -> Any:
    def stop(event: Event, ctx: Any) -> None:
        # The dispatch is not what anybody wants to see.
        debugger = _Debugger(skip=["optix_bus.runtime.node"])
        debugger.runcall(handle, event, ctx)
        if debugger.left:
            raise LeftDebugger

    return stop


def _fields(event: Event) -> str:
    plain: dict[str, Any] = msgspec.to_builtins(event)
    return "  ".join(f"{name}={shortened(value, 60)}" for name, value in plain.items())


def _as_data(played: Played) -> dict[str, Any]:
    record = played.record
    return {
        "seq": record.seq,
        "node": record.node,
        "cause": record.cause,
        "type": record.type,
        "event": msgspec.to_builtins(played.event),
        "emitted": [
            {"node": e.node, "type": e.type, "event": msgspec.to_builtins(e.event)} for e in played.emitted
        ],
    }
