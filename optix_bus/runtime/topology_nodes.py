"""The ``nodes`` section: every entry is checked against the settings of the class that it names."""

from __future__ import annotations

import re
from typing import Any

from optix_bus.errors import ConfigurationError
from optix_bus.messages import Event, PolicyUpdated, WindowCollected
from optix_bus.optimizers.settings import METHODS
from optix_bus.runtime.names import HUB, NURSERY, SUPERVISOR
from optix_bus.runtime.node import Node
from optix_bus.runtime.problems import did_you_mean
from optix_bus.runtime.restarts import POLICIES
from optix_bus.runtime.topology_classes import load_node_class
from optix_bus.runtime.topology_entry import NodeEntry, idle_options
from optix_bus.runtime.topology_source import Entry, Tree
from optix_bus.runtime.topology_wiring import check_restarts, check_roles, check_variants, check_wiring
from optix_bus.runtime.validation import FAILED, Checker

#: Whoever emits one of these holds the agent: it collects or it learns.
HOLDS_AGENT: frozenset[type[Event]] = frozenset({WindowCollected, PolicyUpdated})
AGENT_PROCESS = "agent"
OWN_KEYS: tuple[str, ...] = ("node", "role", "process", "restart")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,47}")
_RESERVED = (SUPERVISOR, HUB, NURSERY)


def check_nodes(tree: Tree, checker: Checker, shared_agent: bool) -> tuple[NodeEntry, ...]:
    """Every entry that is right; what is wrong goes to the checker.

    Args:
        tree: the ``nodes`` mapping.
        checker: collects the problems.
        shared_agent: whether nodes that hold the agent go into one process unless they say otherwise.
    """
    if tree.kind != "mapping" or not tree.entries:
        checker.add(
            tree.place, f"'nodes' takes a mapping of nodes by name, found {tree.described}", path="nodes"
        )
        return ()
    before = len(checker.problems)
    entries = [_check_entry(name, entry, checker, shared_agent) for name, entry in tree.entries.items()]
    whole = tuple(entry for entry in entries if entry is not None)
    if len(checker.problems) == before:  # with an entry missing the wiring would only repeat that
        check_roles(whole, tree, checker)
        check_wiring(whole, tree, checker)
        check_restarts(whole, tree, checker)
        check_variants(whole, tree, checker)
        if shared_agent:
            _refuse_lookahead(whole, tree, checker)
    return whole


def _refuse_lookahead(entries: tuple[NodeEntry, ...], tree: Tree, checker: Checker) -> None:
    """One agent object cannot collect the next window while it learns from the last."""
    for entry in entries:
        written = tree.get(entry.name, "lookahead")
        if written is not None and getattr(entry.settings, "lookahead", None):
            message = "lookahead needs an agent whose policy travels (state, load_state, policy, reseed)"
            checker.add(written.place, message, "write 0", f"nodes.{entry.name}.lookahead")


def _check_entry(name: str, entry: Entry, checker: Checker, shared_agent: bool) -> NodeEntry | None:
    tree, path, owner = entry.value, f"nodes.{name}", f"node '{name}'"
    if not _NAME.fullmatch(name) or name in _RESERVED:
        checker.add(
            entry.place,
            f"'{name}' cannot be the name of a node",
            "use letters, digits, '-' and '_', a letter first, at most 48, and not " + " or ".join(_RESERVED),
            path,
        )
    if tree.kind != "mapping":
        message = f"{owner} takes a mapping with at least 'node: module:Class', found {tree.described}"
        named = name == "optimizer" and isinstance(tree.scalar, str)
        hint = did_you_mean(tree.scalar, METHODS, "methods of the optimizer") if named else ""
        checker.add(tree.place, message, hint, path)
        return None
    own = {key: tree.entries[key] for key in OWN_KEYS if key in tree.entries}
    if "node" not in own:
        near = did_you_mean(
            "node", [key for key in tree.entries if key in ("nodes", "class", "type", "kind")]
        )
        hint = "write 'node: nodes.learner:LearnerNode'" if not near else "the key is called 'node'"
        checker.add(tree.place, f"{owner} lacks 'node', the class that it runs", hint, path)
        return None
    class_path = checker.value(str, own["node"].value, f"'node' of {owner}", f"{path}.node", {})
    if class_path is FAILED:
        return None
    try:
        cls = load_node_class(class_path)
    except ConfigurationError as error:
        checker.add(own["node"].value.place, f"{owner}: {error}", path=f"{path}.node")
        return None
    role = _check_role(cls, own, tree, checker, owner, path)
    default = AGENT_PROCESS if shared_agent and HOLDS_AGENT & set(cls.emits) else name
    process = _check_process(own, checker, owner, path, default)
    restart = _check_restart(own, checker, owner, path)
    settings = _check_settings(cls, tree, own, role, checker, owner, path)
    if FAILED in (role, process, restart) or settings is FAILED:
        return None
    return NodeEntry(name, class_path, settings, role, process, restart)


def _check_settings(
    cls: type[Node], tree: Tree, own: dict[str, Entry], role: Any, checker: Checker, owner: str, path: str
) -> Any:
    rest = {key: entry for key, entry in tree.entries.items() if key not in own}
    idle = {} if role is FAILED else idle_options(cls, role)
    for key in [key for key in rest if key in idle]:
        message = f"'{key}' of {owner} has no effect in the role '{role}', only in '{idle[key]}'"
        checker.add(rest.pop(key).place, message, "remove it", f"{path}.{key}")
    also = [key for key in OWN_KEYS if key != "node" and (key != "role" or cls.roles)]
    return checker.settings(cls.settings, Tree("mapping", tree.place, rest), owner, path, also=also)


def _check_role(
    cls: type[Node], own: dict[str, Entry], tree: Tree, checker: Checker, owner: str, path: str
) -> Any:
    if "role" not in own:
        if len(cls.roles) < 2:
            return cls.roles[0] if cls.roles else ""
        words = ", ".join(cls.roles)
        checker.add(tree.place, f"{owner} lacks a role", f"add role: one of {words}", f"{path}.role")
        return FAILED
    label = f"'role' of {owner}"
    if not cls.roles:
        checker.add(own["role"].place, f"{label}: {cls.__name__} has no roles", "remove it", f"{path}.role")
        return FAILED
    return checker.value(str, own["role"].value, label, f"{path}.role", {"choices": cls.roles})


def _check_process(own: dict[str, Entry], checker: Checker, owner: str, path: str, default: str) -> Any:
    if "process" not in own:
        return default
    tree, path = own["process"].value, f"{path}.process"
    process = checker.value(str, tree, f"'process' of {owner}", path, {})
    if process is not FAILED and (not _NAME.fullmatch(process) or process in _RESERVED):
        checker.add(
            tree.place, f"'{process}' cannot be the name of a process", "use letters, digits, '-', '_'", path
        )
        return FAILED
    return process


def _check_restart(own: dict[str, Entry], checker: Checker, owner: str, path: str) -> Any:
    if "restart" not in own:
        return NodeEntry.restart
    label = f"'restart' of {owner}"
    return checker.value(str, own["restart"].value, label, f"{path}.restart", {"choices": POLICIES})
