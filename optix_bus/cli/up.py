"""``optix-bus up``: start a topology and see it through."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optix_bus.cli.command import command, say

if TYPE_CHECKING:
    from optix_bus.runtime.run_directory import RunDirectory
    from optix_bus.runtime.supervisor import Outcome


@command(
    "up",
    example="""optix-bus up topology.yaml
               optix-bus up topology.yaml --seed 3 --set agent.hyperparameters.learning_rate=1e-3
               optix-bus up topology.yaml -d --run-dir runs/tonight && optix-bus logs runs/tonight -f
               optix-bus up --resume runs/tonight""",
)
@click.argument("path", default="topology.yaml")
@click.option(
    "--resume", is_flag=True, help="PATH is the folder of a run whose processes are gone: go on with it."
)
@click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Change one value; repeatable.")
@click.option("--seed", type=int, default=None, help="Seed of every random stream of the run.")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Folder of the run [runs/NAME-DATE].")
@click.option("--quiet", "-q", is_flag=True, help="Print the report only.")
@click.option("--detach", "-d", is_flag=True, help="Go on in the background; see ps, logs and down.")
@click.option("--inline", is_flag=True, help="Run all nodes in this process: for debuggers and for Windows.")
@click.pass_context
def up(
    ctx: click.Context,
    path: str,
    resume: bool,
    overrides: tuple[str, ...],
    seed: int | None,
    run_dir: Path | None,
    quiet: bool,
    detach: bool,
    inline: bool,
) -> None:
    """Run the topology PATH until its loop has decided that training is done.

    With --resume PATH is the folder of a run whose processes are all gone, by a power cut or a killed
    supervisor: it goes on from its last cut and ends as it would have ended.

    Ctrl-C stops the loop and restores the best policy; a second one ends everything at once. Exit code 0
    when the loop ended by itself, 130 after an interrupt, 3 when a node died: its cause is the last line.
    """
    from optix_bus.cli.views import choose_view
    from optix_bus.runtime.run_directory import RunDirectory, default_run_directory
    from optix_bus.runtime.supervisor import Supervisor
    from optix_bus.runtime.topology import load_topology

    as_json = bool(ctx.meta.get("optix_bus.json"))
    if resume:
        _refuse_changes(overrides, seed, run_dir, inline=inline)
        path, run_dir = _topology_of(Path(path)), Path(path)
    if seed is not None:
        overrides = (*overrides, f"seed={seed}")
    topology = load_topology(path, overrides)
    folder = run_dir if run_dir is not None else default_run_directory(topology.name)
    if detach:
        _detach(path, overrides, folder, as_json, resume=resume)
        return
    if not inline:
        _require_posix()
    run = RunDirectory(folder) if resume else RunDirectory.create(folder)
    view = choose_view(f"{topology.name}  seed {topology.seed}  {folder}", quiet=quiet, as_json=as_json)
    try:
        if inline:
            from optix_bus.runtime.inline_run import run_inline

            outcome = run_inline(topology, run, view)
        else:
            outcome = Supervisor(topology, run, view, resume=resume).run()
    finally:
        view.close()
    report(outcome, run, as_json)
    ctx.exit(outcome.exit_code)


def report(outcome: Outcome, run: RunDirectory, as_json: bool) -> None:
    """Say how a run ended."""
    from optix_bus.runtime.report import report_lines

    if outcome.finished is not None:
        if not as_json:
            click.echo("\n".join(report_lines(outcome.finished, outcome.remarks)))
            click.echo(f"  best policy: optix-bus checkpoint evaluate {run.root} --episodes 100")
        return
    if outcome.log_lines:
        click.echo(f"last lines of {run.logs / (outcome.lost + '.log')}:", err=True)
        for line in outcome.log_lines:
            click.echo(f"  | {line}", err=True)
    if as_json:
        say({"ok": False, "error": outcome.reason, "exit_code": outcome.exit_code}, "")
    click.echo(f"error: {outcome.reason}", err=True)


def _refuse_changes(
    overrides: tuple[str, ...], seed: int | None, run_dir: Path | None, *, inline: bool
) -> None:
    """A resumed run is the run that it was."""
    if overrides or seed is not None or run_dir is not None:
        raise click.UsageError(
            "--resume goes on with the run as it was: to change something use `optix-bus fork RUN --set ...`"
        )
    if inline:
        raise click.UsageError("a run is resumed in processes, also one that was inline: leave out --inline")


def _topology_of(folder: Path) -> str:
    """The topology file of a run; modules beside the original file are found again."""
    from optix_bus.runtime.plan import RunPlan
    from optix_bus.runtime.run_directory import RunDirectory

    run = RunDirectory(folder)
    run.read()
    RunPlan.read(run.root / "plan.json")
    return str(run.topology)


def _detach(path: str, overrides: tuple[str, ...], folder: Path, as_json: bool, *, resume: bool) -> None:
    """Start `up` again in a session of its own and wait until it runs or has failed."""
    from optix_bus.errors import NodeFailure
    from optix_bus.runtime.run_directory import RunDirectory

    run = RunDirectory(folder)
    run.logs.mkdir(parents=True, exist_ok=True)
    log = run.logs / "supervisor.log"
    arguments = [sys.executable, "-m", "optix_bus.cli", "up"]
    arguments += ["--resume", str(folder)] if resume else [path, "--run-dir", str(folder)]
    for override in overrides:
        arguments += ["--set", override]
    with log.open("ab") as output:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    while True:
        if run.record.exists():
            begun = run.read()  # of a run that is resumed, it may still be that of the earlier life
            if begun.supervisor.pid == process.pid and begun.state in ("running", "finished"):
                break
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines()
            raise NodeFailure(
                f"the run did not start: {lines[-1] if lines else 'it said nothing'} (see {log})"
            )
        time.sleep(0.05)
    record = run.read()
    say(
        {"run": str(folder), "pid": process.pid, "run_id": record.run_id},
        f"{record.run_id} runs in the background (pid {process.pid})\n"
        f"  optix-bus ps {folder}\n  optix-bus logs {folder} -f\n  optix-bus down {folder}",
    )


def _require_posix() -> None:
    """Processes need Unix sockets; elsewhere the same topology runs inline."""
    from optix_bus.errors import ConfigurationError

    if sys.platform == "win32":
        raise ConfigurationError(
            "nodes run as processes on Linux and macOS; on Windows use: optix-bus up --inline"
        )
