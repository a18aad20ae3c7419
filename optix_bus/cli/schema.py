"""``optix-bus schema``: what an editor needs to complete and check topologies."""

from __future__ import annotations

import json
from pathlib import Path

import click

from optix_bus.cli.command import command, say
from optix_bus.errors import ConfigurationError


@command(
    "schema",
    example="""optix-bus schema --output topology.schema.json
               optix-bus schema --node my_nodes:CurriculumNode""",
)
@click.option(
    "--node", "nodes", multiple=True, metavar="MODULE:CLASS", help="Include a node class of your own."
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to this file.")
def schema(nodes: tuple[str, ...], output: Path | None) -> None:
    """Print the JSON Schema (draft 2020-12) of topology files; with or without --json it is JSON.

    In an editor with a YAML language server put this line at the top of a topology:
    # yaml-language-server: $schema=topology.schema.json
    """
    from optix_bus.runtime.topology_classes import add_search_path
    from optix_bus.runtime.topology_schema import topology_schema

    add_search_path(Path.cwd())
    text = json.dumps(topology_schema(nodes), indent=2)
    if output is None:
        click.echo(text)
        return
    try:
        output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write {output}: {error.strerror}") from error
    say({"files": [str(output)]}, f"wrote {output}")
