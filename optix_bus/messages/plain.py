"""Events as plain values and back, for nodes that remember one in their state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from optix_bus.messages.base import Event

E = TypeVar("E", bound=Event)


def as_plain(event: Event) -> dict[str, Any]:
    """The fields of an event as numbers, texts, lists and mappings."""
    plain: dict[str, Any] = msgspec.to_builtins(event)
    return plain


def from_plain(kind: type[E], values: Mapping[str, Any]) -> E:
    """The event that `as_plain` took apart, also after a journey as JSON."""
    return msgspec.convert(values, kind)
