"""``optimizer: adaptive`` among the nodes, where a whole entry would say nothing more."""

from __future__ import annotations

from typing import Any

from optix_bus.optimizers.settings import METHODS
from optix_bus.runtime.topology_source import Entry, Tree

#: What the text stands for, with the method as it was written.
NODE = "nodes.optimizer:OptimizerNode"


def is_short(value: Any) -> bool:
    """Whether this, in the place of a node, names a method of the optimizer node."""
    return isinstance(value, str) and value in METHODS


def expand(root: Tree) -> None:
    """Write such nodes of a file out, so that everything behind sees entries only."""
    nodes = root.get("nodes")
    if nodes is None:
        return
    for name, entry in nodes.entries.items():
        if entry.value.kind == "scalar" and is_short(entry.value.scalar):
            nodes.entries[name] = Entry(entry.place, written_out(entry.value))


def written_out(short: Tree) -> Tree:
    """The entry that the name of a method stands for."""
    place = short.place
    node = Entry(place, Tree("scalar", place, scalar=NODE))
    return Tree("mapping", place, {"node": node, "method": Entry(place, short)})


def expand_document(document: Any) -> None:
    """The same in a round-trip document, whose comments stay."""
    nodes = document.get("nodes")
    for name, value in list(nodes.items()) if isinstance(nodes, dict) else []:
        if is_short(value):
            nodes[name] = {"node": NODE, "method": value}
