"""Settings as frozen dataclasses whose fields carry their own description and bounds.

One declaration serves the topology file (validation with suggestions), the JSON Schema for editors,
`optix-bus init` (comments) and Python users (keyword arguments).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, field, fields
from typing import Any

from optix_bus.errors import ConfigurationError


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
        minimum: inclusive lower bound of a number.
        maximum: inclusive upper bound of a number.
        above: exclusive lower bound of a number.
        below: exclusive upper bound of a number.
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


def check(settings: Any) -> None:
    """Hold the fields of a settings object against their bounds and choices.

    The topology validator does the same with line and column; this is for settings built in Python.

    Raises:
        ConfigurationError: names every field that does not fit, what was found and what was expected.
    """
    found = [
        f"found {field.name}={value!r}, expected {expected}"
        for field in fields(settings)
        if (value := getattr(settings, field.name)) is not None
        for expected in _violations(value, field.metadata)
    ]
    if found:
        raise ConfigurationError(f"{type(settings).__name__}: " + "; ".join(found))


def _violations(value: Any, metadata: Any) -> list[str]:
    choices = metadata.get("choices")
    if choices is not None:
        return [] if value in choices else ["one of " + ", ".join(map(repr, choices))]
    limits = {key: metadata.get(key) for key in ("minimum", "maximum", "above", "below")}
    if all(limit is None for limit in limits.values()):
        return []
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return ["a number"]
    low, high, above, below = limits.values()
    wrong = []
    if low is not None and value < low:
        wrong.append(f"at least {low}")
    if high is not None and value > high:
        wrong.append(f"at most {high}")
    if above is not None and value <= above:
        wrong.append(f"more than {above}")
    if below is not None and value >= below:
        wrong.append(f"less than {below}")
    return wrong
