"""``optix-bus init``: a topology to start from."""

from __future__ import annotations

from pathlib import Path

import click

from optix_bus.cli.command import command, say
from optix_bus.errors import ConfigurationError


@command(
    "init",
    example="""optix-bus init
               optix-bus init experiment/topology.yaml --template custom_agent""",
)
@click.argument("path", default="topology.yaml", type=click.Path(path_type=Path))
@click.option(
    "--template",
    "template_name",
    default="cartpole_ppo",
    show_default=True,
    metavar="NAME",
    help="cartpole_ppo, evolving, one_pipeline or custom_agent.",
)
@click.option("--force", is_flag=True, help="Write over files that are there.")
def init(path: Path, template_name: str, force: bool) -> None:
    """Write a commented topology to PATH (topology.yaml).

    Every option stands in it with its description: those that the template chooses in force, the others as
    comments with their defaults. custom_agent also writes my_agent.py, an agent of fifty lines.
    """
    from optix_bus.runtime.topology_templates import template, write_topology

    chosen = template(template_name)
    beside = {path.parent / name: text for name, text in chosen.files.items()}
    there = [str(file) for file in (path, *beside) if file.exists()]
    if there and not force:
        raise ConfigurationError(f"{' and '.join(there)} exists already; give another path, or --force")
    texts = {path: write_topology(chosen), **beside}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write {error.filename}: {error.strerror}") from error
    written = [str(file) for file in texts]
    next_steps = f"check it:  optix-bus validate {path}\nstart it:  optix-bus up {path}"
    say({"template": template_name, "files": written}, f"wrote {' and '.join(written)}\n{next_steps}")
