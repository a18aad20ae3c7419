"""YAML with positions: a text becomes a tree in which every key and value knows its line and column.

The tree is made from the composer of ruamel.yaml (YAML 1.2: ``1e-4`` is a number, ``yes`` is text), not
from its constructor, because only the composer knows the place of *every* scalar, and because nothing in a
file may construct an object.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from optix_bus.runtime.problems import Place, Problem, Source

MAX_DEPTH = 32
_TAG = "tag:yaml.org,2002:"


@dataclass
class Tree:
    """A value with its place. Exactly one of the three parts is in use, as ``kind`` says.

    Attributes:
        kind: ``mapping``, ``sequence`` or ``scalar``.
        entries: of a mapping, in the order of the file.
        items: of a sequence.
        scalar: None, bool, int, float or str.
    """

    kind: str
    place: Place
    entries: dict[str, Entry] = field(default_factory=dict)
    items: list[Tree] = field(default_factory=list)
    scalar: Any = None

    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        if self.kind == "mapping":
            return {key: entry.value.plain() for key, entry in self.entries.items()}
        return [item.plain() for item in self.items] if self.kind == "sequence" else self.scalar

    def get(self, *path: str) -> Tree | None:
        """The value below these keys, or None."""
        tree: Tree | None = self
        for key in path:
            entry = tree.entries.get(key) if tree is not None else None
            tree = entry.value if entry is not None else None
        return tree

    @property
    def described(self) -> str:
        """What was found, in words."""
        if self.kind == "mapping":
            return "a mapping"
        if self.kind == "sequence":
            return "a list"
        return describe(self.scalar)


@dataclass
class Entry:
    """One key of a mapping; ``place`` is the key's."""

    place: Place
    value: Tree


def describe(scalar: Any) -> str:
    """A scalar in words: ``the text 'abc'``, ``the number 3``, ``true``, ``nothing``."""
    if scalar is None:
        return "nothing"
    if isinstance(scalar, bool):
        return "true" if scalar else "false"
    if isinstance(scalar, int | float):
        return f"the number {scalar}"
    return f"the text {scalar!r}"


def read_source(path: Path) -> tuple[Source | None, list[Problem]]:
    """The text of a file, or why it cannot be read. A byte-order mark is dropped."""
    name = str(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        near = sorted(str(found) for found in [*Path().glob("*.y*ml"), *Path().glob("topologies/*.y*ml")])
        hint = f"topologies here: {', '.join(near)}" if near else "write one with: optix-bus init"
        return None, [Problem(name, 0, 0, f"cannot read this file ({error.strerror})", hint)]
    try:
        return Source(name, raw.decode("utf-8-sig")), []
    except UnicodeDecodeError as error:
        source = Source(name, raw.decode("utf-8", "replace"))
        before = raw[: error.start].decode("utf-8", "replace")
        place = _place_of(source, len(before))
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8"
        return None, [Problem.at(place, message, "save the file as UTF-8")]


def parse(source: Source) -> tuple[Tree | None, list[Problem]]:
    """The tree of a text. Mistakes of the syntax leave no tree; duplicate keys and odd tags do."""
    try:
        node = YAML(typ="rt", pure=True).compose(source.text)
    except ReaderError as error:
        message = f"the character {error.character!r} is not allowed in YAML"
        return None, [Problem.at(_place_of(source, error.position), message, "remove it")]
    except MarkedYAMLError as error:
        return None, _syntax_problems(source, error)
    except YAMLError as error:
        return None, [Problem(source.name, 0, 0, f"not YAML: {error}")]
    if node is None:
        return None, [Problem(source.name, 0, 0, "the file is empty", "write one with: optix-bus init")]
    problems: list[Problem] = []
    return _convert(node, source, problems, 0), problems


def _place_of(source: Source, position: int) -> Place:
    before = source.text[:position]
    return Place(source, before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)


def _syntax_problems(source: Source, error: MarkedYAMLError) -> list[Problem]:
    """The parser stops at its first error; but where that is a tab, the other tabs are found by looking."""
    mark: Any = error.problem_mark or error.context_mark
    at = Place(source, mark.line + 1, mark.column + 1) if mark else Place(source, 1, 1)
    if r"'\t'" in str(error.problem):
        tabs = [Problem.at(place, "a tab in the indentation", "use spaces") for place in _tabs(source)]
        if any(problem.line == at.line for problem in tabs):
            return tabs
        return [Problem.at(at, "a tab where only spaces may stand", "use spaces")]
    said = str(error.problem or error.context or "not YAML")
    hint = ""
    if "mapping values are not allowed" in said:
        said, hint = "a ':' where no key can stand", "check the indentation, or quote a text that holds ': '"
    elif "expected a single document" in str(error.context):
        said, hint = "a second document begins here", "one file holds one topology"
    elif "expected <block end>" in said:
        said, hint = "this line does not fit the indentation of the lines above", "align it with its siblings"
    elif error.context:
        said = f"{said} {error.context}"
        if error.context_mark:
            said += f" that begins at line {error.context_mark.line + 1}"
    return [Problem.at(at, said, hint)]


def _tabs(source: Source) -> Iterator[Place]:
    """Every run of tabs between the start of a line and its first word."""
    for number, line in enumerate(source.text.splitlines(), 1):
        found = re.match(r" *(\t\s*)\S", line)
        if found:
            yield Place(source, number, found.start(1) + 1, len(found[1]))


def _convert(node: Any, source: Source, problems: list[Problem], depth: int) -> Tree:
    start, end = node.start_mark, node.end_mark
    width = end.column - start.column if end.line == start.line else 1
    place = Place(source, start.line + 1, start.column + 1, max(width, 1))
    if depth > MAX_DEPTH:
        problems.append(Problem.at(place, f"nested deeper than {MAX_DEPTH} levels, or an alias of itself"))
        return Tree("scalar", place)
    if isinstance(node, MappingNode):
        tree = Tree("mapping", place)
        _fill_mapping(tree, node, source, problems, depth)
        return tree
    if isinstance(node, SequenceNode):
        items = [_convert(item, source, problems, depth + 1) for item in node.value]
        return Tree("sequence", place, items=items)
    return Tree("scalar", place, scalar=_scalar(node, place, problems))


def _fill_mapping(tree: Tree, node: Any, source: Source, problems: list[Problem], depth: int) -> None:
    merged: dict[str, Entry] = {}
    for key_node, value_node in node.value:
        if key_node.tag == f"{_TAG}merge":
            parts = value_node.value if isinstance(value_node, SequenceNode) else [value_node]
            for part in parts:
                below = _convert(part, source, problems, depth + 1)
                if below.kind != "mapping":
                    problems.append(Problem.at(below.place, f"'<<' takes a mapping, found {below.described}"))
                merged = {**below.entries, **merged}  # the first of several merged mappings wins
            continue
        mark, end = key_node.start_mark, key_node.end_mark
        place = Place(source, mark.line + 1, mark.column + 1, max(end.column - mark.column, 1))
        if not isinstance(key_node, ScalarNode) or key_node.tag != f"{_TAG}str":
            shown = key_node.value if isinstance(key_node, ScalarNode) else "a list or mapping"
            hint = f'write "{shown}"' if isinstance(key_node, ScalarNode) else ""
            problems.append(Problem.at(place, f"a key must be text, found {shown}", hint))
            continue
        key = key_node.value
        if key in tree.entries:
            message = f"'{key}' stands twice, first in line {tree.entries[key].place.line}"
            problems.append(Problem.at(place, message, "remove one of them"))
            continue
        tree.entries[key] = Entry(place, _convert(value_node, source, problems, depth + 1))
    for key, entry in merged.items():
        tree.entries.setdefault(key, entry)


def _scalar(node: Any, place: Place, problems: list[Problem]) -> Any:
    tag, text = str(node.tag).removeprefix(_TAG), node.value
    try:
        if tag in ("str", "timestamp"):
            return text
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() in ("true", "yes", "on", "y")
        bare = text.replace("_", "")
        if tag == "int":
            return int(bare, 0 if re.match(r"[-+]?0[xob]", bare) else 10)
        if tag == "float":
            bare = bare.lower()
            if bare.lstrip("+-") == ".inf":
                return -math.inf if bare.startswith("-") else math.inf
            return math.nan if bare == ".nan" else float(bare)
    except ValueError:
        problems.append(Problem.at(place, f"{text!r} is not of the kind !!{tag}", "remove the tag"))
        return None
    problems.append(Problem.at(place, f"the tag {node.tag} means nothing here", "remove it"))
    return None
