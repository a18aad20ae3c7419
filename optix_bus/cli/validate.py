"""``optix-bus validate``: is this topology right, and if not, where is it wrong?"""

from __future__ import annotations

import click

from optix_bus.cli.command import command, say


@command(
    "validate",
    example="""optix-bus validate topology.yaml
               optix-bus validate topology.yaml --set nodes.pipeline.window_steps=512 --json""",
)
@click.argument("path", default="topology.yaml")
@click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Change one value; repeatable.")
@click.option(
    "--skip-environment",
    is_flag=True,
    help="Do not make the environment, for checks where it is not installed.",
)
def validate(path: str, overrides: tuple[str, ...], skip_environment: bool) -> None:
    """Check the topology PATH and name every mistake in it: file:line:column, and what was meant.

    Classes that the file names are imported, and the environment is made once, to see that the agent fits
    it; nothing is started. Exit code 2 where something is wrong.
    """
    from optix_bus.runtime.topology import load_topology

    topology = load_topology(path, overrides, build_environment=not skip_environment)
    processes = topology.processes
    agent = topology.agent.algorithm or topology.agent.class_
    data = {
        "file": path,
        "name": topology.name,
        "digest": topology.digest,
        "nodes": [entry.name for entry in topology.nodes],
        "processes": {name: [entry.name for entry in entries] for name, entries in processes.items()},
        "problems": [],
    }
    counts = f"{len(topology.nodes)} nodes in {len(processes)} processes"
    say(data, f"{path}: valid; {agent} on {topology.environment.id}, {counts}")
