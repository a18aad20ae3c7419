"""One node of a topology, as the supervisor and the runners read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optix_bus.runtime.node import Node
from optix_bus.runtime.restarts import Policy
from optix_bus.runtime.topology_classes import load_node_class
from optix_bus.runtime.validation import as_options

ABOUT_RESTART = (
    "Whether it comes back when it has died: permanent always, transient unless it ended in order, "
    "temporary never (for nodes that nobody waits for)."
)


def idle_options(cls: type[Node], role: str) -> dict[str, str]:
    """Options of a class that do nothing in a role, with the role in which they do.

    A class says so by ``only_in_role``, a mapping from option to role; without it all options count.
    """
    only_in: dict[str, str] = getattr(cls, "only_in_role", {})
    return {option: needs for option, needs in only_in.items() if needs != role}


@dataclass(frozen=True)
class NodeEntry:
    """One node of a topology.

    Attributes:
        name: its name on the bus and in the journal.
        class_path: ``module:Name``.
        settings: instance of the class's settings, checked.
        role: one of the class's roles, or empty where it has none.
        process: nodes with the same process name live in one process.
        restart: what happens when it dies, see `restarts`.
    """

    name: str
    class_path: str
    settings: Any
    role: str
    process: str
    restart: Policy = "transient"

    def in_force(self) -> dict[str, Any]:
        """The options that have an effect in its role, in the form of the file."""
        idle = idle_options(self.node_class(), self.role)
        return {key: value for key, value in as_options(self.settings).items() if key not in idle}

    def node_class(self) -> type[Node]:
        """The class, imported."""
        return load_node_class(self.class_path)
