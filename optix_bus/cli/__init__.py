"""The command line: ``optix-bus COMMAND``. One command a file; a command is imported when it is called.

Importing this module costs click and nothing else, so that ``--help`` and completion answer at once.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence

import click

from optix_bus.cli.command import print_unforeseen, print_usage_error

#: Name -> (module:command, summary). A command appears in the help once its module is there.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("optix_bus.cli.init:init", "Write a commented topology to start from."),
    "validate": ("optix_bus.cli.validate:validate", "Check a topology and name every mistake in it."),
    "schema": ("optix_bus.cli.schema:schema", "Print the JSON Schema of topologies, for editors."),
    "up": ("optix_bus.cli.up:up", "Start a topology and see it through."),
    "down": ("optix_bus.cli.down:down", "End a run and leave its best policy."),
    "ps": ("optix_bus.cli.ps:ps", "Show what runs, and what each node is doing."),
    "logs": ("optix_bus.cli.logs:logs", "Show what the nodes of a run said."),
    "replay": ("optix_bus.cli.replay:replay", "Play a run again, and find where it differs."),
    "tune": ("optix_bus.cli.tune:tune", "Find better settings of a topology in short trials."),
    "fork": ("optix_bus.cli.fork:fork", "Go on from an earlier event with other settings."),
    "log": ("optix_bus.cli.log:log", "Look into a journal; verify, repair and export it."),
    "diff": ("optix_bus.cli.diff:diff", "Compare two runs and name the first difference."),
    "checkpoint": ("optix_bus.cli.checkpoint:checkpoint", "List, show and export the policies of a run."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and summary, and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands that are there, in the order of the table."""
        return [
            name for name, (target, _) in COMMANDS.items() if importlib.util.find_spec(target.split(":")[0])
        ]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported, or None."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module_name, _, attribute = COMMANDS[cmd_name][0].partition(":")
        found = getattr(importlib.import_module(module_name), attribute)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands for ``--help``, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As in click, but an unknown command says which one was probably meant."""
        if args and not args[0].startswith("-") and args[0] not in (known := self.list_commands(ctx)):
            close = difflib.get_close_matches(args[0], known, n=1, cutoff=0.5)
            hint = f"did you mean '{close[0]}'?" if close else f"commands: {', '.join(known)}"
            raise click.UsageError(f"there is no command '{args[0]}'; {hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="\b\nExample:\n  optix-bus init\n  optix-bus validate topology.yaml",
)
@click.version_option(package_name="optix-bus", prog_name="optix-bus")
def cli() -> None:
    """Train, watch and serve agents as a flow of messages.

    A topology file says what runs. Every command takes --help, --json and --debug.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0 all is well, 1 nobody foresaw this, 2 something was asked for wrongly, 3 the run failed, 4 a checkpoint
    cannot be used, 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(args=given, prog_name="optix-bus", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        print_usage_error(error, as_json="--json" in given)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        print_unforeseen(error, debug="--debug" in given)
        return 1
