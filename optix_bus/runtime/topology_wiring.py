"""The wiring of a topology. Nobody writes it down: it follows from the event types of the node classes."""

from __future__ import annotations

from collections.abc import Sequence

from optix_bus.messages import (
    Event,
    NodeLost,
    NodeReady,
    PolicyUpdated,
    RunFinished,
    RunStarted,
    StopRequested,
    TimerFired,
    WindowCollected,
    WindowScored,
)
from optix_bus.runtime.names import SUPERVISOR
from optix_bus.runtime.plan import VARIANT
from optix_bus.runtime.topology_classes import known_node_classes
from optix_bus.runtime.topology_entry import NodeEntry
from optix_bus.runtime.topology_source import Tree
from optix_bus.runtime.validation import Checker

#: Comes from the runner, the supervisor or a person, whatever nodes there are.
SUPPLIED: frozenset[type[Event]] = frozenset({RunStarted, NodeReady, NodeLost, StopRequested, TimerFired})


def check_roles(entries: tuple[NodeEntry, ...], tree: Tree, checker: Checker) -> None:
    """The main role of a class is taken once: not by nobody, and not by two who would do the work twice."""
    first: dict[tuple[str, str], str] = {}
    for entry in entries:
        cls, key = entry.node_class(), (entry.class_path, entry.role)
        if key in first and cls.emits and not getattr(cls, "replicable", False):
            checker.add(
                tree.entries[entry.name].place,
                f"'{entry.name}' and '{first[key]}' are both {cls.__name__}"
                + (f" with the role '{entry.role}'" if entry.role else "")
                + ": everything would be done twice",
                f"remove one of them{', or change its role' if len(cls.roles) > 1 else ''}",
                f"nodes.{entry.name}",
            )
        first.setdefault(key, entry.name)
        main = cls.roles[0] if cls.roles else ""
        if main and not any(other.role == main for other in entries if other.class_path == entry.class_path):
            checker.add(
                tree.entries[entry.name].place,
                f"no {cls.__name__} has the role '{main}'",
                f"add one: {{node: {entry.class_path}, role: {main}}}",
                f"nodes.{entry.name}",
            )


def check_wiring(entries: tuple[NodeEntry, ...], tree: Tree, checker: Checker) -> None:
    """Every event type that a node cannot do without must be emitted by somebody."""
    emitted = {kind for entry in entries for kind in entry.node_class().emits} | SUPPLIED
    missing: dict[type[Event], list[str]] = {}
    for entry in entries:
        cls = entry.node_class()
        for kind in cls.accepts():
            if kind not in emitted and kind not in cls.optional:
                missing.setdefault(kind, []).append(entry.name)
    for kind, names in missing.items():
        verb = "needs" if len(names) == 1 else "need"
        makers = [path for path, cls in known_node_classes().items() if kind in cls.emits]
        who = ", ".join(f"'{name}'" for name in names)
        checker.add(
            tree.entries[names[0]].place,
            f"{who} {verb} {kind.__name__}, which no node of this topology emits",
            f"add a node: {' or '.join(makers)}" if makers else "add a node that emits it",
            f"nodes.{names[0]}",
        )


def waiting_for(entry: NodeEntry, entries: Sequence[NodeEntry]) -> dict[str, str]:
    """Who waits for what a node emits: the name of an event type by the name of the node that handles it."""
    found = {}
    for kind in entry.node_class().emits:
        if kind in SUPPLIED:
            continue
        if kind is RunFinished:
            found[SUPERVISOR] = kind.__name__
        for other in entries:
            if other is not entry and kind in other.node_class().accepts():
                found.setdefault(other.name, kind.__name__)
    return found


def has_variant_nodes(entries: Sequence[NodeEntry]) -> bool:
    """Whether variants of this topology are trained by nodes of their own."""
    return _asking_for_variants(entries) is not None


def _asking_for_variants(entries: Sequence[NodeEntry]) -> NodeEntry | None:
    return next((entry for entry in entries if getattr(entry.settings, "variants", "") == "nodes"), None)


def check_variants(entries: tuple[NodeEntry, ...], tree: Tree, checker: Checker) -> None:
    """Variants with nodes of their own are trained in step with the learner, and judged by validation."""
    asking = _asking_for_variants(entries)
    if asking is None:
        return
    place, path = tree.entries[asking.name].value.entries["variants"].place, f"nodes.{asking.name}.variants"
    working: set[type[Event]] = {PolicyUpdated, WindowCollected, WindowScored}
    for entry in entries:
        if working & set(entry.node_class().emits) and not entry.node_class().for_variants:
            message = f"variants: nodes: {entry.class_path} has no counterpart for variants"
            checker.add(place, message, "write continue, or give the class for_variants", path)
    if not any(entry.role == "validation" for entry in entries):
        message = "variants: nodes needs a validation pipeline: variants are weighed by validation scores"
        checker.add(place, message, "add a pipeline with role: validation, or write continue", path)
    if any(getattr(entry.settings, "lookahead", 0) for entry in entries):
        message = "variants: nodes needs a loop that waits for each window"
        checker.add(place, message, "write lookahead: 0 for the scheduler, or variants: continue", path)
    for entry in entries:
        if entry.name.startswith(VARIANT) or entry.process.startswith(VARIANT):
            message = f"'{entry.name}': names that begin with '{VARIANT}' are those of variants"
            checker.add(tree.entries[entry.name].place, message, "use another", f"nodes.{entry.name}")


def check_restarts(entries: tuple[NodeEntry, ...], tree: Tree, checker: Checker) -> None:
    """A node that never comes back must not be waited for: the run would stand still for ever."""
    for entry in entries:
        waiting = waiting_for(entry, entries) if entry.restart == "temporary" else {}
        if waiting:
            who = ", ".join(f"'{name}' for its {kind}" for name, kind in waiting.items())
            checker.add(
                tree.entries[entry.name].value.entries["restart"].place,
                f"'{entry.name}' cannot be temporary: the run would wait for ever ({who})",
                "write restart: transient, or permanent",
                f"nodes.{entry.name}.restart",
            )
