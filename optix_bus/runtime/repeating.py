"""Which nodes of a run could not do again what they have done.

python -m optix_bus.runtime.repeating RUN

A cut says so of each node. Before the first one is complete nobody has said it, and a pipeline has to try its
environments. It does so in a process of its own: nothing that a user's environment does, or imports, reaches
whoever asks.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import msgspec

from optix_bus.messages import WindowCollected
from optix_bus.runtime import lifeline
from optix_bus.runtime.cuts import Cut
from optix_bus.runtime.plan import RunPlan
from optix_bus.runtime.run_directory import RunDirectory
from optix_bus.runtime.site import build_nodes, load


def unrepeatable(run: RunDirectory, plan: RunPlan, cut: Cut | None) -> set[str]:
    """Names of nodes that cannot do the same again from a cut on: those that said so there. From the first
    event on, all that share an agent, and pipelines whose environments do not keep to their seeds.

    Nodes that cannot even be built are not among them: they will say why when they are started.
    """
    if cut is not None:
        return {name for name, taken in cut.taken.items() if not taken.repeats}
    if plan.shares_agent:
        return {node.name for node in plan.nodes}
    try:
        asked = subprocess.run(
            [sys.executable, "-m", "optix_bus.runtime.repeating", str(run.root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=float(plan.run["start_seconds"]),
            check=True,
        )
        # What a user's environment prints comes before it.
        return set(msgspec.json.decode(asked.stdout.splitlines()[-1], type=list[str]))
    except (subprocess.SubprocessError, OSError, IndexError, msgspec.DecodeError):
        return set()


def main(arguments: list[str]) -> int:
    """Print the names as JSON, on the last line; returns the exit code."""
    lifeline.die_with_parent()
    plan = RunPlan.read(Path(arguments[0]) / "plan.json")
    collecting = [node for node in plan.nodes if WindowCollected in load(node.class_path).emits]
    found = []
    for name, node in build_nodes(msgspec.structs.replace(plan, nodes=collecting)).items():
        node.setup()
        try:
            if not node.repeats:
                found.append(name)
        finally:
            with contextlib.suppress(Exception):  # it is about the next life, not about this one
                node.teardown()
    print(f"\n{msgspec.json.encode(found).decode()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
