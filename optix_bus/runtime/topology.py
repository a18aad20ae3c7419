"""The topology file: what runs, with which settings, in which processes.

    topology = load_topology("topology.yaml", overrides=["nodes.pipeline.window_steps=512"])

A file is right as a whole or refused with *every* mistake in it (`TopologyError.problems`). Wiring is not
written down anywhere: it follows from the event types of the node classes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from optix_bus.runtime.problems import Problem, Source, TopologyError
from optix_bus.runtime.topology_agent import check_agent
from optix_bus.runtime.topology_classes import add_search_path
from optix_bus.runtime.topology_entry import NodeEntry
from optix_bus.runtime.topology_environment import check_environment
from optix_bus.runtime.topology_nodes import check_nodes
from optix_bus.runtime.topology_overrides import OVERRIDE, apply_to_document, graft, parse_overrides
from optix_bus.runtime.topology_settings import (
    FORMAT_VERSION,
    AgentSettings,
    DocumentSettings,
    EnvironmentSettings,
    RunSettings,
    TuneSettings,
)
from optix_bus.runtime.topology_short import expand, expand_document
from optix_bus.runtime.topology_source import Tree, parse, read_source
from optix_bus.runtime.validation import FAILED, Checker, as_options

__all__ = ["Topology", "TopologyError", "load_topology", "parse_topology"]

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Topology:
    """A checked topology. Immutable; `dump` and `digest` speak of the resolved content.

    Attributes:
        version: of the file format.
        name: names the runs; the file's name where the file gives none.
        seed: every random stream of the run derives from it.
        environment, agent, run: the sections of the file.
        nodes: in the order of the file, which is the order in which they act inline.
        shares_agent: whether pipelines and learner use one agent object in one process.
        text: the file as it was read.
        path: where it was read from.
        overrides: the ``--set`` arguments that were applied.
        tune: what a search over its settings tries; no part of `resolved`, because no run depends on it.
        modules: further folders whose modules the file may name.
    """

    version: int
    name: str
    seed: int
    environment: EnvironmentSettings
    agent: AgentSettings
    nodes: tuple[NodeEntry, ...]
    run: RunSettings
    shares_agent: bool
    text: str
    path: Path
    overrides: tuple[str, ...] = ()
    tune: TuneSettings = field(default_factory=TuneSettings)
    modules: tuple[Path, ...] = ()

    def node(self, name: str) -> NodeEntry:
        """The node of this name; KeyError where there is none."""
        for entry in self.nodes:
            if entry.name == name:
                return entry
        raise KeyError(name)

    @property
    def processes(self) -> dict[str, tuple[NodeEntry, ...]]:
        """Nodes by the process that they live in."""
        names = dict.fromkeys(entry.process for entry in self.nodes)
        return {name: tuple(entry for entry in self.nodes if entry.process == name) for name in names}

    @property
    def search_path(self) -> tuple[str, ...]:
        """Folders whose modules the file may name; a process of the run has them on its PYTHONPATH."""
        own = (self.path.parent.resolve(), *self.modules, Path.cwd())
        return tuple(dict.fromkeys(map(str, own)))

    def resolved(self) -> dict[str, Any]:
        """The content with all defaults, as plain values in the form of the file."""
        return {
            "topology": self.version,
            "name": self.name,
            "seed": self.seed,
            "environment": as_options(self.environment),
            "agent": self.agent.in_force(),
            "nodes": {
                entry.name: {
                    "node": entry.class_path,
                    **({"role": entry.role} if entry.role else {}),
                    "process": entry.process,
                    "restart": entry.restart,
                    **entry.in_force(),
                }
                for entry in self.nodes
            },
            "run": as_options(self.run),
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the resolved content: the same for two files that ask for the same thing."""
        canonical = json.dumps(self.resolved(), sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def dump(self) -> str:
        """The resolved topology as YAML: overrides applied, defaults written out, comments kept.

        What a run directory keeps, so that a later version with other defaults still does the same.
        """
        folders = {"modules": [str(folder) for folder in self.modules]} if self.modules else {}
        return self._written(self.overrides, {**self.resolved(), **folders})

    def rewrite(self, *overrides: str) -> str:
        """The file with its overrides and these further ones written into it; everything else, also its
        comments, as it was. From another folder it finds the modules that it names in this one."""
        own = {"modules": [str(folder) for folder in (self.path.parent.resolve(), *self.modules)]}
        return self._written((*self.overrides, *overrides), own if self._names_modules else {})

    @property
    def _names_modules(self) -> bool:
        """Whether something in it is imported that comes neither with the library nor with an environment."""
        own_nodes = any(not entry.class_path.startswith("nodes.") for entry in self.nodes)
        return self.agent.class_ is not None or ":" in self.environment.id or own_nodes

    def _written(self, overrides: Sequence[str], content: dict[str, Any]) -> str:
        yaml = YAML(typ="rt", pure=True)
        yaml.width = 110
        document = yaml.load(self.text)
        expand_document(document)
        apply_to_document(document, parse_overrides(overrides)[0])
        expand_document(document)
        if "modules" in content:
            document.pop("modules", None)
        _fill(document, content)
        out = io.StringIO()
        yaml.dump(document, out)
        return out.getvalue()


def load_topology(
    path: str | Path, overrides: Sequence[str] = (), *, build_environment: bool = True
) -> Topology:
    """Read and check a topology file.

    Args:
        path: the file.
        overrides: ``a.b=c`` each, as given to ``--set``.
        build_environment: whether the environment is made once, to see that it exists and that the agent
            fits it. A process that loads what `up` has checked leaves that out.

    Raises:
        TopologyError: with all problems.
    """
    source, problems = read_source(Path(path))
    if source is None:
        raise TopologyError(problems)
    return parse_topology(source, overrides, path=Path(path), build_environment=build_environment)


def parse_topology(
    source: Source, overrides: Sequence[str] = (), *, path: Path, build_environment: bool = True
) -> Topology:
    """As `load_topology`, for a text that was read already; modules beside ``path`` can be named in it."""
    root, problems = parse(source)
    parsed, found = parse_overrides(overrides)
    problems += found
    if root is None:
        raise TopologyError(problems)
    expand(root)
    problems += graft(root, parsed) if root.kind == "mapping" else []
    expand(root)
    add_search_path(path.parent)
    checker = Checker()
    checker.problems += problems
    document = checker.settings(DocumentSettings, root, "the topology", "")
    modules = () if document is FAILED else tuple((path.parent / m).resolve() for m in document.modules)
    for folder in modules:
        add_search_path(folder)
    environment = _section(checker, EnvironmentSettings, root, "environment")
    agent = _section(checker, AgentSettings, root, "agent")
    run = RunSettings() if root.get("run") is None else _section(checker, RunSettings, root, "run")
    tune = TuneSettings() if root.get("tune") is None else _section(checker, TuneSettings, root, "tune")
    _check_head(root, checker)
    spaces = None
    if environment is not FAILED and build_environment:
        environment_tree = root.get("environment")
        assert environment_tree is not None
        need_spaces = root.get("agent", "algorithm") is not None
        spaces = check_environment(environment, environment_tree, checker, need_spaces=need_spaces)
    agent_tree = root.get("agent")
    shares = agent_tree is not None and check_agent(agent_tree, spaces, checker)
    nodes_tree = root.get("nodes")
    nodes = () if nodes_tree is None else check_nodes(nodes_tree, checker, shares)
    if checker.problems or document is FAILED:
        raise TopologyError(_in_order(checker.problems, overrides))
    return Topology(
        version=document.topology,
        name=document.name or path.stem,
        seed=document.seed,
        environment=environment,
        agent=agent,
        nodes=nodes,
        run=run,
        shares_agent=shares,
        text=source.text,
        path=path,
        overrides=tuple(overrides),
        tune=tune,
        modules=modules,
    )


def _section(checker: Checker, cls: type, root: Tree, key: str) -> Any:
    tree = root.get(key)
    return FAILED if tree is None else checker.settings(cls, tree, f"the {key}", key)


def _check_head(root: Tree, checker: Checker) -> None:
    version = root.get("topology")
    if version is not None and type(version.scalar) is int and version.scalar != FORMAT_VERSION:
        checker.add(
            version.place,
            f"format version {version.scalar} is unknown, this optix-bus reads version {FORMAT_VERSION}",
            f"write topology: {FORMAT_VERSION}",
            "topology",
        )
    name = root.get("name")
    if name is not None and isinstance(name.scalar, str) and not _RUN_NAME.fullmatch(name.scalar):
        hint = "use letters, digits, '.', '-' and '_', at most 64"
        checker.add(name.place, f"{name.scalar!r} cannot name a run (it names folders)", hint, "name")


def _in_order(problems: Sequence[Problem], overrides: Sequence[str]) -> list[Problem]:
    """The order of the file, then of the arguments; what was found twice (through an alias) only once."""

    def key(problem: Problem) -> tuple[int, int, int]:
        of_argument = problem.file == OVERRIDE and problem.source_line in overrides
        return (overrides.index(problem.source_line) + 1 if of_argument else 0, problem.line, problem.column)

    return sorted(dict.fromkeys(problems), key=key)


def _fill(document: Any, resolved: dict[str, Any]) -> None:
    """Write into a round-trip document what it left to defaults."""
    for key, value in resolved.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            _fill(document[key], value)
        elif key not in document or document[key] is None:
            document[key] = value
