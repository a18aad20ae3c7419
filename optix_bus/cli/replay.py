"""``optix-bus replay``: play a recorded run again and find where it differs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from optix_bus.cli.command import command, say
from optix_bus.cli.runs import find_run

if TYPE_CHECKING:
    from optix_bus.cli.replay_steps import Looker
    from optix_bus.runtime.replay_filter import EventFilter
    from optix_bus.runtime.replay_run import RecordedRun
    from optix_bus.runtime.replay_session import Report

R = TypeVar("R")


@dataclass(frozen=True)
class _Asked:
    """What was asked for, beside the run."""

    nodes: tuple[str, ...]
    first: int
    last: int | None
    step: bool
    when: EventFilter | None
    debug: bool
    as_json: bool


@command(
    "replay",
    example="""optix-bus replay
               optix-bus replay runs/tonight --node learner --from 4000 --to 5000
               optix-bus replay runs/tonight --node scheduler --break 'WindowScored and score > 400' --pdb
               optix-bus replay runs/tonight --node scheduler --with other.yaml
               optix-bus replay runs/tonight --live --rate 10 --events WindowScored,WindowJudged""",
)
@click.argument("run", required=False)
@click.option("--node", "nodes", multiple=True, metavar="NAME", help="Play this node only; repeatable.")
@click.option("--all", "everything", is_flag=True, help="Play every node that emits something (the default).")
@click.option("--from", "first", type=click.IntRange(1), metavar="SEQ", help="First event to compare.")
@click.option("--to", "last", type=click.IntRange(1), metavar="SEQ", help="Last event to compare.")
@click.option("--step", is_flag=True, help="Stop behind every event; Enter goes on.")
@click.option("--break", "when", metavar="EXPR", help="Stop at events for which this holds.")
@click.option("--pdb", "debug", is_flag=True, help="Where it stops, or differs, be in the handler.")
@click.option(
    "--with",
    "other",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="TOPOLOGY",
    help="What if the node were as in this topology?",
)
@click.option("--patch", metavar="MODULE:CLASS", help="What if the node were of this class?")
@click.option("--live", is_flag=True, help="Publish the run on a hub of its own, for subscribers.")
@click.option(
    "--rate", type=click.FloatRange(0.0), help="With --live: times its speed, 0 for all it can [1]."
)
@click.option("--loop", is_flag=True, help="With --live: again and again, until Ctrl-C.")
@click.option("--events", metavar="TYPE,...", help="With --live: publish these event types only.")
@click.option(
    "--hold",
    type=click.FloatRange(0.0),
    metavar="SECONDS",
    help="With --live: how long the hub stays for those who are behind [2].",
)
@click.pass_context
def replay(
    ctx: click.Context,
    /,
    run: str | None,
    nodes: tuple[str, ...],
    everything: bool,
    first: int | None,
    last: int | None,
    step: bool,
    when: str | None,
    debug: bool,
    other: Path | None,
    patch: str | None,
    live: bool,
    **publishing: Any,
) -> None:
    """Play nodes of RUN (by default the newest) again and compare all that they emit, byte for byte.

    The nodes get the recorded events in a process of their own; the run itself is not touched. Exit code 0
    where everything is equal, 1 at the first difference, 2 where something cannot be replayed. With --with or
    --patch it is a question, what one node would have done, and the answer is 0. EXPR is an expression over
    the event: names of event types, its fields, and type, node and seq.
    """
    as_json = bool(ctx.meta.get("optix_bus.json"))
    what_if = other is not None or patch is not None
    _refuse_together(ctx, live=live, what_if=what_if, nodes=nodes, publishing=publishing)
    folder = find_run(run)
    # Modules beside the topology are found through the plan, those of a patch where the person stands.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    from optix_bus.errors import ConfigurationError, JournalError
    from optix_bus.runtime.replay_filter import EventFilter
    from optix_bus.runtime.replay_run import RecordedRun

    expression = EventFilter(when) if when is not None else None
    try:
        recorded = RecordedRun(folder.root)
        asked = _Asked(nodes, first or 1, last, step, expression, debug, as_json)
        if live:
            code = _publish(recorded, asked, **publishing)
        elif what_if:
            code = _ask(recorded, asked, other, patch)
        else:
            code = _compare(recorded, asked)
    except JournalError as error:
        raise ConfigurationError(f"cannot be replayed: {error}") from error
    ctx.exit(code)


def _refuse_together(
    ctx: click.Context, *, live: bool, what_if: bool, nodes: tuple[str, ...], publishing: dict[str, Any]
) -> None:
    """An option that does nothing is an error."""
    given = {
        name
        for name in ctx.params
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    names = {"everything": "--all", "when": "--break", "other": "--with", "debug": "--pdb", "nodes": "--node"}
    if not live and (alone := sorted(given & set(publishing))):
        raise click.UsageError(f"--{alone[0]} has an effect with --live only")
    if live:
        playing = {"nodes", "everything", "step", "when", "debug", "other", "patch"}
        if clash := sorted(given & playing):
            raise click.UsageError(
                f"{names.get(clash[0], '--' + clash[0])} has no effect with --live, which plays no node"
            )
    if nodes and "everything" in given:
        raise click.UsageError("--node and --all ask for different things: leave one out")
    if what_if and len(nodes) != 1:
        raise click.UsageError("--with and --patch ask about one node: name it with --node NAME")
    if what_if and "first" in given:
        raise click.UsageError("--with and --patch begin at the first event: leave out --from")
    if ctx.meta.get("optix_bus.json") and (talking := sorted(given & {"step", "debug"})):
        option = names.get(talking[0], f"--{talking[0]}")
        raise click.UsageError(f"{option} talks to a person: leave out --json")


def _compare(run: RecordedRun, asked: _Asked) -> int:
    from optix_bus.cli.replay_answers import clean, report_data, report_lines
    from optix_bus.cli.replay_steps import Looker
    from optix_bus.runtime.replay_session import replay as play

    looker = Looker(
        asked.last or run.head, step=asked.step, when=asked.when, debug=asked.debug, quiet=asked.as_json
    )
    report = _looking(
        looker, lambda: play(run, asked.nodes, first=asked.first, last=asked.last, watch=looker)
    )
    if report is None:
        return 0
    data = report_data(run, report)
    if asked.when is not None:
        data["stops"] = clean(looker.stops)
    say(data, "\n".join(report_lines(run, report)))
    if report.obstacle and not asked.as_json:
        click.echo(f"error: {report.obstacle}", err=True)
    if asked.debug and asked.when is None and report.divergence is not None:
        _debug(run, asked, report)
    return report.exit_code


def _debug(run: RecordedRun, asked: _Asked, report: Report) -> None:
    """What differs was made in a handler that has returned long ago: play up to there again."""
    from optix_bus.cli.replay_steps import Looker
    from optix_bus.runtime.replay_session import replay as play

    divergence = report.divergence
    assert divergence is not None
    if divergence.kind == "missing" and divergence.found is not None:
        return  # it raised, and the debugger was there
    if divergence.type == "CutTaken":
        click.echo("a state is made in no handler: there is nothing to stop in", err=True)
        return
    where = f"event {divergence.cause}, which {divergence.node!r} was answering"
    click.echo(f"\nplaying again up to {where}", err=True)
    looker = Looker(divergence.cause, debug=True, within=(divergence.node, divergence.cause))
    first = min(asked.first, divergence.cause)
    _looking(looker, lambda: play(run, asked.nodes, first=first, last=divergence.cause, watch=looker))


def _ask(run: RecordedRun, asked: _Asked, other: Path | None, patch: str | None) -> int:
    from optix_bus.cli.replay_answers import answer_data, answer_lines
    from optix_bus.cli.replay_steps import Looker
    from optix_bus.runtime.replay_what_if import as_in_topology, of_class, what_if

    entry = run.entry(asked.nodes[0])
    if other is not None:
        entry = as_in_topology(entry, other)
    if patch is not None:
        entry = of_class(entry, patch)
    looker = Looker(
        asked.last or run.head, step=asked.step, when=asked.when, debug=asked.debug, quiet=asked.as_json
    )
    answer = _looking(looker, lambda: what_if(run, entry, last=asked.last, watch=looker))
    if answer is not None:
        say(answer_data(run, answer), "\n".join(answer_lines(run, answer)))
    return 0


def _looking(looker: Looker, play: Callable[[], R]) -> R | None:
    """Play; None where the person has left the debugger."""
    from optix_bus.cli.replay_steps import LeftDebugger

    try:
        return play()
    except LeftDebugger:
        click.echo("left the debugger: nothing more was played", err=True)
        return None
    finally:
        looker.clear()


def _publish(
    run: RecordedRun, asked: _Asked, rate: float | None, loop: bool, events: str | None, hold: float | None
) -> int:
    from optix_bus.cli.replay_publish import publish

    return publish(
        run,
        rate=1.0 if rate is None else rate,
        loop=loop,
        types=[name.strip() for name in (events or "").split(",") if name.strip()],
        hold=2.0 if hold is None else hold,
        first=asked.first,
        last=asked.last,
    )
