"""``--set nodes.pipeline.window_steps=512``: changes to a topology that leave its file alone.

An override is grafted into the tree before anything is checked, and keeps its own place. So it is
validated exactly like the file, and a mistake in it is shown in the argument itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from optix_bus.runtime.problems import Place, Problem, Source, did_you_mean
from optix_bus.runtime.topology_short import is_short
from optix_bus.runtime.topology_source import Entry, Tree, parse

#: The name of the source of an override, in the place of a file's.
OVERRIDE = "--set"


@dataclass(frozen=True)
class Override:
    """One parsed argument: the keys from the root of the document, with their places, and the value."""

    keys: tuple[str, ...]
    places: tuple[Place, ...]
    value: Tree

    @property
    def path(self) -> str:
        """The keys with dots, as the user wrote them."""
        return ".".join(self.keys)


def parse_overrides(arguments: Iterable[str]) -> tuple[list[Override], list[Problem]]:
    """All ``a.b=value`` arguments; the value is YAML, so ``[64, 64]`` is a list and ``"3"`` a text."""
    overrides, problems = [], []
    for argument in arguments:
        source = Source(OVERRIDE, argument)
        path, equals, text = argument.partition("=")
        keys = tuple(key.strip() for key in path.split("."))
        if not equals or not all(keys):
            place = Place(source, 1, 1, max(len(argument), 1))
            problems.append(Problem.at(place, "no override", "write it as nodes.pipeline.window_steps=512"))
            continue
        places, column = [], 1
        for part in path.split("."):
            lead = len(part) - len(part.lstrip())
            places.append(Place(source, 1, column + lead, len(part.strip())))
            column += len(part) + 1
        value, found = _parse_value(source, text, len(path) + 1)
        problems += found
        if value is not None:
            overrides.append(Override(keys, tuple(places), value))
    return overrides, problems


def graft(root: Tree, overrides: Iterable[Override]) -> list[Problem]:
    """Put every override into the tree, later ones over earlier ones.

    Sections that the file leaves out come into being; an item of a list, or a node, must already exist
    (a whole new node can be given as a mapping).
    """
    problems: list[Problem] = []
    for override in overrides:
        _graft(root, override, problems)
    return problems


def _parse_value(source: Source, text: str, offset: int) -> tuple[Tree | None, list[Problem]]:
    tree, problems = (
        parse(Source(source.name, text)) if text.strip() else (Tree("scalar", Place(source, 1, 1)), [])
    )
    moved = [
        dataclasses.replace(problem, column=problem.column + offset, source_line=source.text)
        if problem.line == 1
        else problem
        for problem in problems
    ]
    if tree is not None:
        _move(tree, source, offset)
    return tree, moved


def _move(tree: Tree, source: Source, offset: int) -> None:
    """From places in the value to places in the whole argument."""

    def moved(place: Place) -> Place:
        return Place(source, place.line, place.column + (offset if place.line == 1 else 0), place.width)

    tree.place = moved(tree.place)
    for item in tree.items:
        _move(item, source, offset)
    for entry in tree.entries.values():
        entry.place = moved(entry.place)
        _move(entry.value, source, offset)


def _graft(root: Tree, override: Override, problems: list[Problem]) -> None:
    tree = root
    for depth, (key, place) in enumerate(zip(override.keys, override.places, strict=True)):
        last = depth == len(override.keys) - 1
        so_far = ".".join(override.keys[:depth])
        if tree.kind == "scalar" and tree.scalar is None:
            tree.kind = "mapping"
        if tree.kind == "sequence":
            if not key.isdigit() or int(key) >= len(tree.items):
                message = f"'{so_far}' is a list of {len(tree.items)} items, found '{key}'"
                problems.append(Problem.at(place, message, "count items from 0", override.path))
                return
            if last:
                tree.items[int(key)] = override.value
                return
            tree = tree.items[int(key)]
            continue
        if tree.kind == "scalar":
            message = f"'{so_far}' is {tree.described}, it has nothing called '{key}'"
            problems.append(Problem.at(place, message, path=override.path))
            return
        if depth == 1 and override.keys[0] == "nodes" and key not in tree.entries:
            whole = last and (override.value.kind == "mapping" or is_short(override.value.scalar))
            if not whole:
                hint = did_you_mean(key, tree.entries, "nodes of this topology")
                problems.append(Problem.at(place, f"no node is called '{key}'", hint, override.path))
                return
        if last:
            tree.entries[key] = Entry(place, override.value)
            return
        below = tree.entries.get(key)
        if below is None:
            below = tree.entries[key] = Entry(place, Tree("mapping", place))
        tree = below.value


def apply_to_document(document: Any, overrides: Iterable[Override]) -> None:
    """The same changes to a round-trip document, whose comments stay. The tree has accepted them before."""
    for override in overrides:
        below = document
        for key in override.keys[:-1]:
            if isinstance(below, list):
                below = below[int(key)]
                continue
            if below.get(key) is None:
                below[key] = {}
            below = below[key]
        last = override.keys[-1]
        below[int(last) if isinstance(below, list) else last] = override.value.plain()
