"""What all commands have in common: ``--json``, ``--debug``, an example in the help, and how they fail."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from optix_bus.errors import OptixError

_JSON, _DEBUG = "optix_bus.json", "optix_bus.debug"


class Command(click.Command):
    """A command that answers in text or, with ``--json``, in one JSON object.

    What the project raises on purpose becomes ``error: ...`` on stderr and its exit code; with ``--json``
    the same is an object ``{"ok": false, "error": ..., "exit_code": ...}`` on stdout.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; errors of the project end here."""
        try:
            return super().invoke(ctx)
        except OptixError as error:
            if ctx.meta.get(_DEBUG):
                traceback.print_exc()
            _print_error(error, as_json=bool(ctx.meta.get(_JSON)))
            ctx.exit(error.exit_code)


def command(name: str, *, example: str) -> Callable[[Callable[..., Any]], Command]:
    """Declares a command.

    Args:
        name: as typed.
        example: one or more command lines for the help.
    """
    lines = "\n".join(f"  {line.strip()}" for line in example.strip().splitlines())

    def declare(function: Callable[..., Any]) -> Command:
        for flag, key, text in (
            ("--debug", _DEBUG, "Show the traceback of an error."),
            ("--json", _JSON, "Answer with one JSON object on stdout."),
        ):
            function = click.option(
                flag, is_flag=True, expose_value=False, is_eager=True, help=text, callback=_remember(key)
            )(function)
        made = click.command(name, cls=Command, epilog=f"\b\nExample:\n{lines}")(function)
        assert isinstance(made, Command)
        return made

    return declare


def say(data: dict[str, Any], text: str) -> None:
    """The answer of a command: the object with ``--json``, otherwise the text."""
    ctx = click.get_current_context()
    click.echo(json.dumps({"ok": True, **data}, indent=2) if ctx.meta.get(_JSON) else text)


def print_usage_error(error: click.ClickException, *, as_json: bool) -> None:
    """A command line that click cannot read."""
    if not as_json:
        error.show()
        return
    click.echo(json.dumps(_failure("UsageError", error.format_message(), error.exit_code), indent=2))


def print_unforeseen(error: Exception, *, debug: bool) -> None:
    """An error that nobody foresaw: one line; the traceback is behind ``--debug``."""
    if debug:
        traceback.print_exception(error)
    hint = "this is a defect of optix-bus; --debug shows where"
    click.echo(f"internal error: {type(error).__name__}: {error} ({hint})", err=True)


def colour_wanted() -> bool:
    """Whether stderr is a terminal whose user has not refused colour (https://no-color.org)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def _remember(key: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.meta[key] = value

    return remember


def _print_error(error: OptixError, *, as_json: bool) -> None:
    problems = getattr(error, "problems", ())
    if as_json:
        answer = _failure(type(error).__name__, str(error), error.exit_code)
        answer["problems"] = [problem.as_dict() for problem in problems]
        click.echo(json.dumps(answer, indent=2))
        return
    if not problems:
        click.echo(f"error: {error}", err=True)
        return
    colour = colour_wanted()
    for problem in problems:
        click.echo(problem.render(colour), err=True)
    count = len(problems)
    click.echo(f"error: {count} problem{'s' if count > 1 else ''}, nothing was started", err=True)


def _failure(kind: str, error: str, exit_code: int) -> dict[str, Any]:
    return {"ok": False, "kind": kind, "error": error, "exit_code": exit_code}
