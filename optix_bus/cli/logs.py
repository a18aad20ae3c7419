"""``optix-bus logs``: what the processes of a run said."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from optix_bus.cli.command import command
from optix_bus.cli.runs import find_run
from optix_bus.errors import ConfigurationError
from optix_bus.runtime.run_directory import RunDirectory


@command("logs", example="optix-bus logs\noptix-bus logs runs/tonight learner --follow")
@click.argument("run", required=False)
@click.argument("node", required=False)
@click.option(
    "--tail",
    "-n",
    default=200,
    show_default=True,
    type=click.IntRange(0),
    help="Lines of each process to begin with.",
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until the run has ended.")
@click.pass_context
def logs(ctx: click.Context, run: str | None, node: str | None, tail: int, follow: bool) -> None:
    """Show what the processes of RUN (by default the newest) said, or those of one NODE.

    With --json every line is an object of its own.
    """
    folder = find_run(run)
    as_json = bool(ctx.meta.get("optix_bus.json"))
    places: dict[Path, int] = {}
    for path in _files(folder, node):
        lines = _new_lines(path, places, whole=follow)
        for line in lines[max(len(lines) - tail, 0) :]:
            _print(path, line, as_json)
    while follow:
        running = folder.read().supervisor.alive()
        for path in _files(folder, node):
            for line in _new_lines(path, places, whole=running):
                _print(path, line, as_json)
        if not running:
            return
        time.sleep(0.1)


def _files(folder: RunDirectory, node: str | None) -> list[Path]:
    files = sorted(folder.logs.glob("*.log"))
    if node is None:
        return files
    process = next((p.name for p in folder.read().processes if node in (p.name, *p.nodes)), node)
    chosen = [path for path in files if path.stem == process]
    if not chosen:
        raise ConfigurationError(
            f"{node} has no log; logs: {', '.join(path.stem for path in files) or 'none'}"
        )
    return chosen


def _new_lines(path: Path, places: dict[Path, int], *, whole: bool) -> list[str]:
    """What was written since the last call; with ``whole``, half a line waits for its other half."""
    with path.open("rb") as file:
        file.seek(places.get(path, 0))
        text = file.read()
    if whole:
        text = text[: text.rfind(b"\n") + 1]
    places[path] = places.get(path, 0) + len(text)
    return text.decode("utf-8", "replace").splitlines()


def _print(path: Path, line: str, as_json: bool) -> None:
    click.echo(json.dumps({"process": path.stem, "line": line}) if as_json else f"{path.stem:<12} {line}")
