"""``optix-bus log``: the journal of a run: what is in it, whether it is whole, and other forms of it."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from optix_bus.cli.command import command, say
from optix_bus.cli.journal_text import damage_lines, info_lines, repair_lines, report_data, summary_data
from optix_bus.cli.runs import find_journal
from optix_bus.errors import ConfigurationError


@click.group(
    "log",
    epilog="\b\nExample:\n  optix-bus log info\n  optix-bus log verify runs/tonight\n"
    "  optix-bus log export runs/tonight --type WindowJudged --json",
)
def log() -> None:
    """Look into the journal of a run, verify, repair and export it."""


@command("info", example="optix-bus log info\noptix-bus log info runs/tonight --json")
@click.argument("run", required=False)
def info(run: str | None) -> None:
    """Show what is in the journal of RUN: a run (by default the newest), or a folder of segments.

    Also while the run goes on, and where the journal is damaged.
    """
    from optix_bus.runtime.journal_summary import summarise

    summary = summarise(find_journal(run)[0])
    say(summary_data(summary), "\n".join(info_lines(summary)))


@command("verify", example="optix-bus log verify\noptix-bus log verify runs/tonight/journal --json")
@click.argument("run", required=False)
@click.option("--no-bodies", is_flag=True, help="Compare checksums of bodies, but do not decode them.")
@click.pass_context
def verify(ctx: click.Context, run: str | None, no_bodies: bool) -> None:
    """Read all of a journal and name everything in it that is not as a hub wrote it.

    RUN is a run (by default the newest), or a folder of segments. The exit code is 0 where the journal is
    whole and 1 where it is damaged. The beginning of a record at the end of a journal that was not closed is
    no damage: that is how a killed hub leaves it, and the next one cuts it off. Of what stands there nothing
    was ever published.
    """
    from optix_bus.bus.codec import Codec
    from optix_bus.bus.journal_verify import verify_journal
    from optix_bus.messages import VOCABULARY

    decode = None if no_bodies else Codec(VOCABULARY).decode
    report = verify_journal(find_journal(run)[0], decode=decode)
    say({"ok": report.is_clean, **report_data(report)}, "\n".join(damage_lines(report)))
    if not report.is_clean:
        ctx.exit(1)


@command(
    "repair",
    example="optix-bus log repair runs/tonight\noptix-bus log repair runs/tonight --in-place",
)
@click.argument("run")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the repaired copy [JOURNAL.repaired]."
)
@click.option(
    "--in-place", is_flag=True, help="Put it in the place of the damaged one, which stays as JOURNAL.damaged."
)
def repair(run: str, out: Path | None, in_place: bool) -> None:
    """Write a repaired copy of the journal of RUN, which a hub can go on with. RUN itself is left as it is.

    A journal has no holes: the copy ends where the first event is lost. What can be read behind that goes to
    JOURNAL.salvage, where every row of events without a hole is a small journal of its own.
    """
    from optix_bus.bus.journal_repair import free_name, repair_journal, replace_journal
    from optix_bus.bus.journal_verify import verify_journal
    from optix_bus.runtime.cuts import CutFolder

    if out is not None and in_place:
        raise click.UsageError("--out and --in-place exclude each other")
    journal, folder = find_journal(run)
    run_id = ""
    if folder is not None:
        with contextlib.suppress(ConfigurationError):
            run_id = folder.read().run_id
    target = out or journal.with_name(f"{journal.name}.repaired")
    salvage = free_name(journal.with_name(f"{journal.name}.salvage")) if out is None else None
    done = repair_journal(journal, target, salvage=salvage, run=run_id)
    report = verify_journal(target)
    backup = None
    if in_place:
        backup = replace_journal(journal, target)
        if done.moved and folder is not None:
            CutFolder(folder.root).forget_places()
        target = journal
    data = {
        "journal": str(target),
        "backup": None if backup is None else str(backup),
        "kept": [done.kept.first, done.kept.last],
        "salvaged": [{"first": s.first, "last": s.last, "path": str(s.path)} for s in done.salvaged],
        "lost": [list(each) for each in done.lost],
        "remarks": done.remarks,
        "clean": report.is_clean,
    }
    say(data, "\n".join(repair_lines(done, target, backup, report)))


@command(
    "export",
    example="""optix-bus log export runs/tonight --json --type WindowJudged
               optix-bus log export runs/tonight --parquet --output tonight.parquet""",
)
@click.argument("run", required=False)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="File to write [stdout].")
@click.option("--parquet", is_flag=True, help="A Parquet table instead of JSON lines; needs --output.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only events of this type; repeatable.")
@click.option("--node", "nodes", multiple=True, metavar="NODE", help="Only events of this node; repeatable.")
@click.option("--from", "first", type=click.IntRange(1), default=1, metavar="SEQ", help="First event.")
@click.option("--to", "last", type=click.IntRange(0), default=0, metavar="SEQ", help="Last event.")
@click.pass_context
def export(
    ctx: click.Context,
    run: str | None,
    output: Path | None,
    parquet: bool,
    types: tuple[str, ...],
    nodes: tuple[str, ...],
    first: int,
    last: int,
) -> None:
    """Write the events of RUN, a run (by default the newest) or a folder of segments, in another form.

    Without --parquet it is one JSON object a line: the fields of the header and the body. NaN and the
    infinities become null. Of a damaged journal all that can be read is written, and the exit code is 1.
    """
    from optix_bus.bus.journal_export import Selection, export_json, export_parquet

    journal = find_journal(run)[0]
    selection = Selection(types=types, nodes=nodes, first=first, last=last)
    if parquet:
        if output is None:
            raise click.UsageError("--parquet needs --output FILE")
        export_parquet(journal, output, selection)
    elif output is None:
        export_json(journal, sys.stdout.buffer, selection)
    else:
        try:
            with output.open("wb") as file:
                export_json(journal, file, selection)
        except OSError as error:
            raise ConfigurationError(f"{output} cannot be written: {error.strerror}") from None
    if output is not None:
        answer = {"output": str(output), "events": selection.taken, "damages": selection.damages}
        say(answer, f"{selection.taken} events -> {output}")
    if selection.damages:
        text = f"warning: the journal has {selection.damages} damaged places; optix-bus log verify names them"
        click.echo(text, err=True)
        ctx.exit(1)


for _command in (info, verify, repair, export):
    log.add_command(_command)
