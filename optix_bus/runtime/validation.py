"""From YAML to settings: a tree with places is checked against a dataclass, and every mistake is kept.

The dataclasses are declared with `optix_bus.settings.setting`, whose metadata gives bounds and choices.
A field that is a Python keyword is declared with a trailing underscore: ``class_`` is written ``class``.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from optix_bus.errors import ConfigurationError, OptixError
from optix_bus.runtime.problems import Place, Problem, did_you_mean
from optix_bus.runtime.topology_source import Tree
from optix_bus.runtime.wording import broken_bound, cure, in_words, shape, shape_of

T = TypeVar("T")


class _Failed:
    """Stands for a value that was refused, so that its siblings are still checked."""


FAILED = _Failed()


def validate(cls: type[T], tree: Tree, owner: str, path: str = "") -> tuple[T | None, list[Problem]]:
    """An instance of the dataclass and no problem, or None and all of them.

    Args:
        cls: a dataclass; a class that is none has no options at all.
        tree: what the user wrote.
        owner: whose options these are, for messages: ``node 'pipeline'``.
        path: where in the document, e.g. ``nodes.pipeline``.
    """
    checker = Checker()
    found = checker.settings(cls, tree, owner, path)
    return (None if isinstance(found, _Failed) else found), checker.problems


def options(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """The options of a settings class by the name they have in a file."""
    if not dataclasses.is_dataclass(cls):
        return {}
    return {field.name.rstrip("_"): field for field in dataclasses.fields(cls) if field.init}


def hints(cls: type) -> dict[str, Any]:
    """The resolved types of a settings class, by field name."""
    try:
        return typing.get_type_hints(cls)
    except NameError as error:
        raise ConfigurationError(
            f"the settings {cls.__module__}.{cls.__qualname__} use a type that is not imported at run time "
            f"({error}); import it outside TYPE_CHECKING"
        ) from error


def as_options(settings: Any) -> dict[str, Any]:
    """Settings in the form of the file: by option name, tuples as lists, nested settings as mappings."""
    return {key: as_plain(getattr(settings, field.name)) for key, field in options(type(settings)).items()}


def as_plain(value: Any) -> Any:
    """A value of an option in the form of the file."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_options(value)
    if isinstance(value, Mapping):
        return {str(key): as_plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value.value if isinstance(value, enum.Enum) else value


def required(field: dataclasses.Field[Any]) -> bool:
    """Whether an option has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def in_full(option: dataclasses.Field[Any]) -> str:
    """The description of an option, with its unit where the words or the name do not hold it."""
    words, unit = str(option.metadata.get("description", "")), str(option.metadata.get("unit") or "")
    if not unit or unit in words or unit in option.name:
        return words
    return f"{words.rstrip('.')} ({unit})."


class Checker:
    """Walks a type and a tree side by side and collects what does not agree."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, place: Place, message: str, suggestion: str = "", path: str = "") -> None:
        """Keep one problem."""
        self.problems.append(Problem.at(place, message, suggestion, path))

    def settings(
        self, cls: type, tree: Tree, owner: str, path: str, *, also: Sequence[str] = (), word: str = "option"
    ) -> Any:
        """An instance of a settings class, or FAILED.

        As `validate`; ``also`` are further keys that a user may have meant by an unknown one, ``word`` is
        what a key is called.
        """
        if tree.kind == "scalar" and tree.scalar is None:
            tree = Tree("mapping", tree.place)  # "learner:" with nothing below asks for the defaults
        if tree.kind != "mapping":
            self.add(tree.place, f"{owner} takes a mapping of {word}s, found {tree.described}", path=path)
            return FAILED
        known = options(cls)
        before = len(self.problems)
        values: dict[str, Any] = {}
        resolved = hints(cls) if known else {}
        for key, entry in tree.entries.items():
            below = f"{path}.{key}" if path else key
            if key not in known:
                hint = did_you_mean(key, [*known, *also], f"known {word}s") or f"it has no {word}s"
                self.add(entry.place, f"unknown {word} '{key}' of {owner}", hint, below)
                continue
            field = known[key]
            label = f"'{key}' of {owner}"
            values[field.name] = self.value(resolved[field.name], entry.value, label, below, field.metadata)
        for key, field in known.items():
            if required(field) and key not in tree.entries:
                what = field.metadata.get("description", "")
                self.add(
                    tree.place,
                    f"{owner} lacks the required {word} '{key}'",
                    f"add it: {what[:1].lower()}{what[1:].rstrip('.')}" if what else "add it",
                    f"{path}.{key}" if path else key,
                )
        if len(self.problems) > before:
            return FAILED
        try:
            return cls(**values)
        except (ValueError, TypeError, OptixError) as error:
            self.add(tree.place, f"{owner}: {error}", path=path)
            return FAILED

    def value(self, expected: Any, tree: Tree, label: str, path: str, rules: Mapping[str, Any]) -> Any:
        """One value of an expected type within the bounds of its declaration, or FAILED."""
        if expected is Any:
            return tree.plain()
        origin, arguments = typing.get_origin(expected), typing.get_args(expected)
        if origin in (Union, types.UnionType):
            return self._union(expected, tree, label, path, rules)
        if dataclasses.is_dataclass(expected) and isinstance(expected, type):
            return self.settings(expected, tree, label, path)
        if origin in (list, tuple, Sequence) or expected in (list, tuple):
            return self._sequence(expected, tree, label, path, rules)
        if origin in (dict, Mapping) or expected is dict:
            return self._mapping(arguments[1] if arguments else Any, tree, label, path, rules)
        if tree.kind != "scalar":
            return self._refuse(expected, tree, label, path)
        return self._scalar(expected, tree, label, path, rules)

    def _sequence(self, expected: Any, tree: Tree, label: str, path: str, rules: Mapping[str, Any]) -> Any:
        if tree.kind != "sequence":
            return self._refuse(expected, tree, label, path)
        made = tuple if typing.get_origin(expected) is tuple or expected is tuple else list
        inner = typing.get_args(expected)
        if made is tuple and inner and inner[-1] is not Ellipsis:
            if len(inner) != len(tree.items):
                message = f"{label}: expected {len(inner)} values, found {len(tree.items)}"
                self.add(tree.place, message, path=path)
                return FAILED
            wanted = list(inner)
        else:
            wanted = [inner[0] if inner else Any] * len(tree.items)
        parts = [
            self.value(kind, item, f"item {number + 1} of {label}", f"{path}.{number}", rules)
            for number, (kind, item) in enumerate(zip(wanted, tree.items, strict=True))
        ]
        return FAILED if any(part is FAILED for part in parts) else made(parts)

    def _mapping(self, inner: Any, tree: Tree, label: str, path: str, rules: Mapping[str, Any]) -> Any:
        if tree.kind == "scalar" and tree.scalar is None:
            return {}
        if tree.kind != "mapping":
            return self._refuse(dict, tree, label, path)
        parts = {
            key: self.value(inner, entry.value, f"'{key}' in {label}", f"{path}.{key}", rules)
            for key, entry in tree.entries.items()
        }
        return FAILED if any(part is FAILED for part in parts.values()) else parts

    def _union(self, expected: Any, tree: Tree, label: str, path: str, rules: Mapping[str, Any]) -> Any:
        arguments = typing.get_args(expected)
        if tree.kind == "scalar" and tree.scalar is None and type(None) in arguments:
            return None
        candidates = [argument for argument in arguments if argument is not type(None)]
        attempts = []
        for candidate in candidates:
            attempt = Checker()
            found = attempt.value(candidate, tree, label, path, rules)
            if not attempt.problems:
                return found
            attempts.append((candidate, attempt))
        # The member of the right shape knows best what is wrong; without one, all are named.
        near = [attempt for candidate, attempt in attempts if shape(candidate) == shape_of(tree)]
        if len(near) == 1:
            self.problems += near[0].problems
            return FAILED
        return self._refuse(expected, tree, label, path)

    def _scalar(self, expected: Any, tree: Tree, label: str, path: str, rules: Mapping[str, Any]) -> Any:
        value = tree.scalar
        allowed = rules.get("choices")
        if typing.get_origin(expected) is Literal:
            allowed = typing.get_args(expected)
        elif isinstance(expected, type) and issubclass(expected, enum.Enum):
            members = {member.value: member for member in expected}
            if _among(value, tuple(members)):
                return members[value]
            allowed = tuple(members)
        elif expected is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        elif expected is Path and isinstance(value, str):
            return Path(value)
        elif type(value) is not expected:
            return self._refuse(expected, tree, label, path)
        if allowed is not None and not _among(value, allowed):
            words = ", ".join(repr(choice) if isinstance(choice, str) else str(choice) for choice in allowed)
            hint = did_you_mean(str(value), [str(choice) for choice in allowed])
            self.add(tree.place, f"{label}: expected one of {words}, found {tree.described}", hint, path)
            return FAILED
        broken = broken_bound(value, rules)
        if broken:
            self.add(tree.place, f"{label}: expected {broken}, found {tree.scalar}", path=path)
            return FAILED
        return value

    def _refuse(self, expected: Any, tree: Tree, label: str, path: str) -> _Failed:
        message = f"{label}: expected {in_words(expected)}, found {tree.described}"
        self.add(tree.place, message, cure(expected, tree), path)
        return FAILED


def _among(value: Any, choices: Sequence[Any]) -> bool:
    """Membership that keeps True apart from 1 and 1 from 1.0."""
    return any(type(value) is type(choice) and value == choice for choice in choices)
