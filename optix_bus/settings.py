"""Settings as frozen dataclasses whose fields carry their own description and bounds.

One declaration serves the topology file (validation with suggestions), the JSON Schema for editors,
`optix-bus init` (comments) and Python users (keyword arguments).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, field
from typing import Any


def setting(
    default: Any = MISSING,
    description: str = "",
    *,
    factory: Callable[[], Any] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[Any] | None = None,
    unit: str = "",
) -> Any:
    """A dataclass field with its documentation and its bounds.

    Args:
        default: the value when the user says nothing; leave out for a required setting.
        description: one sentence, shown by ``optix-bus init``, in the schema and in errors.
        factory: makes the default where it is mutable.
        minimum, maximum: inclusive bounds for numbers.
        above, below: exclusive bounds for numbers.
        choices: the only values allowed.
        unit: of a number, e.g. ``seconds``.
    """
    metadata = {
        "description": description,
        "minimum": minimum,
        "maximum": maximum,
        "above": above,
        "below": below,
        "choices": tuple(choices) if choices is not None else None,
        "unit": unit,
    }
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)
