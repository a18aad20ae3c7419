"""Which events a replay stops at: an expression over the event, evaluated without running any code.

    WindowScored and score > 400
    node == "learner" and window >= 3
    type in ("PolicyPromoted", "SnapshotSaved") or seq == 1200

The name of an event type is true for events of that type; ``type``, ``node`` (who sent it) and ``seq`` are
known of every event; all other names are fields of the event, with dots for what lies within them
(``data.bytes``). A comparison with a field that the event does not have is false.
"""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable
from typing import Any

import msgspec

from optix_bus.bus.record import Record
from optix_bus.errors import ConfigurationError
from optix_bus.messages import VOCABULARY

_TYPES = frozenset(kind.__name__ for kind in VOCABULARY)
_FIELDS = frozenset(field for kind in VOCABULARY for field in kind.__struct_fields__)
_OF_EVERY = ("type", "node", "seq")
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, group: item in group,
    ast.NotIn: lambda item, group: item not in group,
}
_MAX_LENGTH = 1000


class _Absent(Exception):
    """The event has no such field."""


class EventFilter:
    """An expression, checked once.

    Raises:
        ConfigurationError: it is no expression, or uses what events do not have.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            if len(text) > _MAX_LENGTH:
                raise ValueError(f"it is longer than {_MAX_LENGTH} characters")
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self._wrong(getattr(error, "msg", None) or str(error)) from None
        self._check(self._tree)

    def matches(self, record: Record) -> bool:
        """Whether the expression holds for a recorded event.

        Raises:
            ConfigurationError: it compares what cannot be compared, as a text with a number.
        """
        values: dict[str, Any] = {
            **msgspec.msgpack.decode(record.body),
            "type": record.type,
            "node": record.node,
            "seq": record.seq,
        }
        return self._holds(self._tree, values)

    def _holds(self, tree: ast.expr, values: dict[str, Any]) -> bool:
        if isinstance(tree, ast.BoolOp):
            parts = (self._holds(part, values) for part in tree.values)
            return all(parts) if isinstance(tree.op, ast.And) else any(parts)
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not):
            return not self._holds(tree.operand, values)
        try:
            if isinstance(tree, ast.Compare):
                return self._compare(tree, values)
            return bool(self._value(tree, values))
        except _Absent:
            return False

    def _compare(self, tree: ast.Compare, values: dict[str, Any]) -> bool:
        sides = [self._value(side, values) for side in (tree.left, *tree.comparators)]
        for compare, left, right in zip(tree.ops, sides, sides[1:], strict=False):
            try:
                if not _COMPARISONS[type(compare)](left, right):
                    return False
            except TypeError as error:
                raise self._wrong(f"{left!r} and {right!r} cannot be compared: {error}") from None
        return True

    def _value(self, tree: ast.expr, values: dict[str, Any]) -> Any:
        if isinstance(tree, ast.Constant):
            return tree.value
        if isinstance(tree, ast.UnaryOp):
            value = self._value(tree.operand, values)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise self._wrong(f"{value!r} is no number")
            return -value if isinstance(tree.op, ast.USub) else value
        if isinstance(tree, ast.Tuple | ast.List):
            return [self._value(item, values) for item in tree.elts]
        if isinstance(tree, ast.Attribute):
            inner = self._value(tree.value, values)
            if not isinstance(inner, dict) or tree.attr not in inner:
                raise _Absent
            return inner[tree.attr]
        assert isinstance(tree, ast.Name)
        if tree.id in _TYPES:
            return values["type"] == tree.id
        if tree.id not in values:
            raise _Absent
        return values[tree.id]

    def _check(self, tree: ast.expr) -> None:
        """Everything in the expression is known, so that it cannot fail, nor do anything, later."""
        below: list[ast.expr] = []
        if isinstance(tree, ast.BoolOp):
            below = tree.values
        elif isinstance(tree, ast.Compare):
            below = [tree.left, *tree.comparators]
            for compare in tree.ops:
                if type(compare) not in _COMPARISONS:
                    raise self._wrong("only == != < <= > >= in and `not in` compare")
        elif isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not | ast.USub | ast.UAdd):
            below = [tree.operand]
        elif isinstance(tree, ast.Tuple | ast.List):
            below = tree.elts
        elif isinstance(tree, ast.Attribute):
            below = [tree.value]
        elif isinstance(tree, ast.Name):
            self._check_name(tree.id)
        elif not (isinstance(tree, ast.Constant) and isinstance(tree.value, str | int | float | None)):
            raise self._wrong(f"{ast.unparse(tree)!r} is neither a comparison, nor a name, number or text")
        for part in below:
            self._check(part)

    def _check_name(self, name: str) -> None:
        known = _TYPES | _FIELDS | set(_OF_EVERY)
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise self._wrong(f"{name!r} is neither an event type nor a field of one{hint}")

    def _wrong(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.text!r} is no expression over an event: {why}. Expected for example "
            "'WindowScored and score > 400'"
        )
