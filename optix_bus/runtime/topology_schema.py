"""JSON Schema (draft 2020-12) of topology files, from the same dataclasses that validate them.

Editors complete and check with it while a file is written. It says what JSON Schema can say; wiring,
spaces and environments are left to `validate`.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union

from optix_bus.agents.cards import CARDS, Card
from optix_bus.optimizers.settings import METHODS
from optix_bus.rl.schedules import Schedule
from optix_bus.runtime.node import Node
from optix_bus.runtime.restarts import POLICIES
from optix_bus.runtime.topology_classes import known_node_classes, load_node_class
from optix_bus.runtime.topology_entry import ABOUT_RESTART, NodeEntry
from optix_bus.runtime.topology_schedules import SCHEDULE
from optix_bus.runtime.topology_settings import (
    FORMAT_VERSION,
    OF_ALGORITHM,
    AgentSettings,
    DocumentSettings,
    EnvironmentSettings,
    RunSettings,
    TuneSettings,
)
from optix_bus.runtime.topology_short import NODE
from optix_bus.runtime.validation import as_plain, hints, in_full, options, required

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SIMPLE = {
    int: "integer",
    float: "number",
    bool: "boolean",
    str: "string",
    Path: "string",
    type(None): "null",
}
_BOUNDS = {
    "minimum": "minimum",
    "maximum": "maximum",
    "above": "exclusiveMinimum",
    "below": "exclusiveMaximum",
}

Schema = dict[str, Any]

_SHORT: Schema = {
    "enum": list(METHODS),
    "description": f"A method of the optimizer, short for node: {NODE} with this method.",
}


def topology_schema(nodes: Iterable[str] = ()) -> Schema:
    """The schema of a whole file.

    Args:
        nodes: class paths of nodes outside the package ``nodes`` whose settings it shall know.
    """
    classes = {**known_node_classes(), **{path: load_node_class(path) for path in nodes}}
    schema = settings_schema(DocumentSettings)
    sections = schema["properties"]
    sections["topology"]["const"] = FORMAT_VERSION
    sections["environment"] |= settings_schema(EnvironmentSettings)
    sections["agent"] |= _agent_schema()
    sections["run"] |= settings_schema(RunSettings)
    sections["run"]["type"] = ["object", "null"]
    sections["tune"] |= settings_schema(TuneSettings)
    sections["tune"]["type"] = ["object", "null"]
    sections["nodes"] |= {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_-]{0,47}$"},
        "additionalProperties": {"anyOf": [_node_schema(classes), _SHORT]},
    }
    about = {"$schema": DIALECT, "title": "optix-bus topology", "$defs": {"schedule": schedule_schema()}}
    return {**about, **schema}


def settings_schema(cls: type) -> Schema:
    """The schema of one settings class: its options, their types, bounds, defaults and descriptions."""
    known, resolved = options(cls), hints(cls) if dataclasses.is_dataclass(cls) else {}
    properties = {key: _option_schema(field, resolved[field.name]) for key, field in known.items()}
    needed = [key for key, field in known.items() if required(field)]
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": needed} if needed else schema


def _option_schema(field: dataclasses.Field[Any], expected: Any) -> Schema:
    rules = field.metadata
    schema = _type_schema(expected, rules)
    if in_full(field):
        schema["description"] = in_full(field)
    if field.default is not dataclasses.MISSING:
        schema["default"] = as_plain(field.default)
    elif field.default_factory is not dataclasses.MISSING:
        schema["default"] = as_plain(field.default_factory())
    return schema


def _type_schema(expected: Any, rules: Mapping[str, Any]) -> Schema:
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if expected is Any:
        return {}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_type_schema(argument, rules) for argument in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        return settings_schema(expected)
    if isinstance(expected, type) and issubclass(expected, enum.Enum):
        return {"enum": [member.value for member in expected]}
    if origin in (list, tuple, Sequence) or expected in (list, tuple):
        return _list_schema(expected, arguments, rules)
    if origin in (dict, Mapping) or expected is dict:
        return {
            "type": ["object", "null"],
            "additionalProperties": _type_schema((*arguments, Any, Any)[1], rules),
        }
    schema: Schema = {"type": _SIMPLE[expected]} if expected in _SIMPLE else {}
    if expected in (int, float):
        schema |= {word: rules[bound] for bound, word in _BOUNDS.items() if rules.get(bound) is not None}
    if rules.get("choices") is not None and expected is not type(None):
        schema["enum"] = list(rules["choices"])
    return schema


def _list_schema(expected: Any, arguments: tuple[Any, ...], rules: Mapping[str, Any]) -> Schema:
    is_tuple = typing.get_origin(expected) is tuple or expected is tuple
    if is_tuple and arguments and arguments[-1] is not Ellipsis:
        items = [_type_schema(argument, rules) for argument in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    return {"type": "array", "items": _type_schema(arguments[0] if arguments else Any, rules)}


def _agent_schema() -> Schema:
    schema = settings_schema(AgentSettings)
    schema["properties"]["algorithm"] |= {"anyOf": [{"enum": list(CARDS)}, {"type": "null"}]}
    schema["oneOf"] = [
        {"required": ["algorithm"], "not": {"required": ["arguments"]}},
        {
            "required": ["class"],
            "not": {"anyOf": [{"required": [key]} for key in OF_ALGORITHM]},
        },
    ]
    schema["allOf"] = [
        {
            "if": {"properties": {"algorithm": {"const": name}}, "required": ["algorithm"]},
            "then": {"properties": {"hyperparameters": hyperparameters_schema(card)}},
        }
        for name, card in CARDS.items()
    ]
    return schema


def schedule_schema() -> Schema:
    """The schema of what may stand for a number that changes on the way."""
    return {"description": SCHEDULE, **settings_schema(Schedule)}


def hyperparameters_schema(card: Card) -> Schema:
    """The schema of the hyperparameters of an algorithm: values, or schedules of them."""
    schema = settings_schema(card.hyperparameters)
    for name, option in schema["properties"].items():
        if card.can_be_scheduled(name):
            kept = {key: option.pop(key) for key in ("description", "default") if key in option}
            schema["properties"][name] = {"anyOf": [option, {"$ref": "#/$defs/schedule"}], **kept}
    return schema


def _node_schema(classes: Mapping[str, type[Node]]) -> Schema:
    """Any class may be named; the options of the known ones are checked."""
    return {
        "type": "object",
        "required": ["node"],
        "properties": {
            "node": {
                "type": "string",
                "description": "The class that the node runs, as module:Class.",
                "pattern": "^[^:]+:[^:]+$",
                "examples": sorted(classes),
            },
            "process": {
                "type": "string",
                "description": "Nodes with the same process name live in one process.",
            },
            "restart": {"enum": list(POLICIES), "default": NodeEntry.restart, "description": ABOUT_RESTART},
        },
        "allOf": [
            {
                "if": {"properties": {"node": {"const": path}}, "required": ["node"]},
                "then": _entry_schema(cls),
            }
            for path, cls in sorted(classes.items())
        ],
    }


def _entry_schema(cls: type[Node]) -> Schema:
    schema = settings_schema(cls.settings)
    schema["properties"] = {"node": True, "process": True, "restart": True, **schema["properties"]}
    if cls.roles:
        schema["properties"]["role"] = {
            "enum": list(cls.roles),
            "description": "What it does in this topology.",
        }
    if len(cls.roles) > 1:
        schema["required"] = [*schema.get("required", ()), "role"]
    if cls.__doc__:
        schema["description"] = cls.__doc__.strip().split("\n\n")[0].replace("\n", " ")
    return schema
