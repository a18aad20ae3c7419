"""``optix-bus fork``: another future for a recorded run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optix_bus.cli.command import command, say

if TYPE_CHECKING:
    from optix_bus.runtime.fork_table import Pair
    from optix_bus.runtime.run_directory import RunDirectory
    from optix_bus.runtime.supervisor import Outcome


@command(
    "fork",
    example="""optix-bus fork runs/demo --at 412 --run-dir runs/again
               optix-bus fork runs/demo --at-window 9 --set nodes.optimizer.method=none --run-dir runs/new
               optix-bus fork runs/demo --at 99 --set nodes.optimizer.method=none --repeat 9 --run-dir new""",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--at", type=click.IntRange(min=0), help="Last event of the common past.")
@click.option("--at-window", type=click.IntRange(min=0), help="Branch off before this window is asked for.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="What is different; repeatable.")
@click.option("--run-dir", type=click.Path(path_type=Path), required=True, help="Folder of the new run.")
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    help="Run both branches, with and without --set, N times with common random numbers, and compare.",
)
@click.option("--prepare", is_flag=True, help="Lay the run out only; `optix-bus up --resume` starts it.")
@click.option("--quiet", "-q", is_flag=True, help="Print the report only.")
@click.pass_context
def fork(
    ctx: click.Context,
    run: Path,
    at: int | None,
    at_window: int | None,
    overrides: tuple[str, ...],
    run_dir: Path,
    repeat: int | None,
    prepare: bool,
    quiet: bool,
) -> None:
    """Go on from an event of RUN with other settings, in a folder of its own. RUN is not changed.

    Up to the fork point everything is as it was, from there on the new settings hold; without --set the
    fork repeats the original to its end. With --repeat a table shows what the change is worth.
    """
    from optix_bus.runtime.fork import before_window
    from optix_bus.runtime.run_directory import RunDirectory

    if (at is None) == (at_window is None):
        raise click.UsageError("say where to branch off: either --at SEQ or --at-window N")
    source = RunDirectory(run)
    source.read()
    sequence = at if at is not None else before_window(source, at_window or 0)
    as_json = bool(ctx.meta.get("optix_bus.json"))
    if repeat is not None:
        pairs = _compare(source, run_dir, sequence, overrides, repeat, quiet=quiet or as_json)
        _say_table(pairs, sequence)
        return
    if prepare:
        _lay_out(source, run_dir, sequence, overrides, 0)
        say(
            {"run": str(run_dir), "at": sequence},
            f"{run_dir} branches off at event {sequence}: optix-bus up --resume {run_dir}",
        )
        return
    outcome = _run(source, run_dir, sequence, overrides, 0, quiet=quiet, as_json=as_json)
    from optix_bus.cli.up import report

    report(outcome, RunDirectory(run_dir), as_json)
    ctx.exit(outcome.exit_code)


def _lay_out(source: RunDirectory, folder: Path, at: int, overrides: tuple[str, ...], branch: int) -> Any:
    from optix_bus.runtime.fork import fork as lay_out
    from optix_bus.runtime.run_directory import RunDirectory

    existed = folder.exists()
    target = RunDirectory.create(folder)
    try:
        return lay_out(source, target, at, overrides, branch=branch)
    except BaseException:
        if not existed:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _run(
    source: RunDirectory,
    folder: Path,
    at: int,
    overrides: tuple[str, ...],
    branch: int,
    *,
    quiet: bool,
    as_json: bool = False,
) -> Outcome:
    from optix_bus.cli.views import choose_view
    from optix_bus.runtime.run_directory import RunDirectory
    from optix_bus.runtime.supervisor import Supervisor

    topology = _lay_out(source, folder, at, overrides, branch)
    view = choose_view(f"{topology.name}  fork at {at}  {folder}", quiet=quiet, as_json=as_json)
    try:
        return Supervisor(topology, RunDirectory(folder), view, resume=True).run()
    finally:
        view.close()


def _compare(
    source: RunDirectory, folder: Path, at: int, overrides: tuple[str, ...], repeat: int, *, quiet: bool
) -> list[Pair]:
    from optix_bus.errors import NodeFailure
    from optix_bus.runtime.fork_table import Pair

    pairs: list[Pair] = []
    for branch in range(1, repeat + 1):
        finished = []
        for name, settings in (("same", ()), ("changed", overrides)):
            outcome = _run(source, folder / f"{name}-{branch:02d}", at, settings, branch, quiet=True)
            if outcome.finished is None or outcome.exit_code:
                raise NodeFailure(f"future {branch} of the branch '{name}' did not end: {outcome.reason}")
            finished.append(outcome.finished)
        pairs.append(Pair(branch, *finished))
        if not quiet:
            click.echo(
                f"future {branch} of {repeat}: {finished[0].best_score:.3f} as it was, "
                f"{finished[1].best_score:.3f} with the change",
                err=True,
            )
    return pairs


def _say_table(pairs: list[Pair], at: int) -> None:
    from dataclasses import asdict

    from optix_bus.runtime.fork_table import differences, table_lines

    rows = [asdict(row) for row in differences(pairs)]
    futures = [
        {"future": p.branch, "same": p.same.best_score, "changed": p.changed.best_score} for p in pairs
    ]
    say({"at": at, "futures": futures, "differences": rows}, "\n".join(table_lines(pairs)))
