"""The words of the validator: types, bounds and cures as people read them."""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union

from optix_bus.runtime.topology_source import Tree, describe

_SWITCHES = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def in_words(expected: Any) -> str:
    """A type in words: ``a whole number``, ``a list of texts or nothing``."""
    simple = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Any: "anything"}
    if expected in simple:
        return simple[expected]
    if expected is type(None):
        return "nothing"
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (Union, types.UnionType):
        return " or ".join(in_words(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(repr(argument) for argument in arguments)
    if origin in (list, tuple, Sequence) or expected in (list, tuple):
        inner = [argument for argument in arguments if argument is not Ellipsis]
        return f"a list of {in_words(inner[0]).removeprefix('a ')}s" if len(set(inner)) == 1 else "a list"
    if isinstance(expected, type) and issubclass(expected, enum.Enum):
        return "one of " + ", ".join(repr(member.value) for member in expected)
    return "a text" if expected is Path else "a mapping"


def broken_bound(value: Any, rules: Mapping[str, Any]) -> str:
    """The bound that a number breaks, in words; empty where it keeps them all. NaN breaks every one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if math.isnan(value):
        return "a number"
    unit = f" {rules['unit']}" if rules.get("unit") else ""
    low, high, above, below = (rules.get(name) for name in ("minimum", "maximum", "above", "below"))
    if low is not None and value < low:
        return f"at least {low}{unit}"
    if high is not None and value > high:
        return f"at most {high}{unit}"
    if above is not None and value <= above:
        return f"more than {above}{unit}"
    return f"less than {below}{unit}" if below is not None and value >= below else ""


def shape(expected: Any) -> str:
    """The form in which a type is written: mapping, sequence, number, bool or text."""
    origin = typing.get_origin(expected) or expected
    if origin in (list, tuple, Sequence):
        return "sequence"
    if origin in (dict, Mapping) or dataclasses.is_dataclass(origin):
        return "mapping"
    if origin in (int, float):
        return "number"
    return "bool" if origin is bool else "text"


def shape_of(tree: Tree) -> str:
    """The form in which a value was written."""
    if tree.kind != "scalar":
        return tree.kind
    if isinstance(tree.scalar, bool):
        return "bool"
    return "number" if isinstance(tree.scalar, int | float) else "text"


def cure(expected: Any, tree: Tree) -> str:
    """What to write instead, where that can be guessed."""
    value = tree.scalar
    members = [member for member in typing.get_args(expected) if member is not type(None)]
    if typing.get_origin(expected) in (Union, types.UnionType) and len(members) == 1:
        expected = members[0]
    wanted = shape(expected)
    if wanted == "sequence" and tree.kind == "scalar" and value is not None:
        return f"write [{value}]"
    if tree.kind != "scalar":
        return ""
    if isinstance(value, str):
        if expected is bool and value.lower() in _SWITCHES:
            return f"write {_SWITCHES[value.lower()]}"
        if expected is bool and value.lower() in ("true", "false"):
            return "remove the quotes" if value in ("true", "false") else f"write {value.lower()}"
        if wanted == "number" and _is_number(value):
            return "remove the quotes" if expected is float or float(value).is_integer() else ""
    if expected is int and isinstance(value, float) and value.is_integer():
        return f"write {int(value)}"
    if expected is str and isinstance(value, int | float):
        return f'write "{describe(value).removeprefix("the number ")}"'
    return ""


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
