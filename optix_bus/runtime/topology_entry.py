"""One node of a topology, as the supervisor and the runners read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optix_bus.runtime.node import Node
from optix_bus.runtime.topology_classes import load_node_class


@dataclass(frozen=True)
class NodeEntry:
    """One node of a topology.

    Attributes:
        name: its name on the bus and in the journal.
        class_path: ``module:Name``.
        settings: instance of the class's settings, checked.
        role: one of the class's roles, or empty where it has none.
        process: nodes with the same process name live in one process.
    """

    name: str
    class_path: str
    settings: Any
    role: str
    process: str

    def node_class(self) -> type[Node]:
        """The class, imported."""
        return load_node_class(self.class_path)
