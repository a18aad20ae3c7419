"""`EpisodeData` as named arrays and back: the form in which windows travel between processes.

What cannot be an array of numbers, ragged observations or arbitrary objects, stays where it is: such
pipelines run in the process of their learner, or inline, where windows are handed over as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from optix_bus.errors import ConfigurationError
from optix_bus.types import EpisodeData, NamedArrays

_ARRAYS = (
    "observations",
    "actions",
    "rewards",
    "terminated",
    "truncated",
    "final_observations",
    "log_probs",
    "values",
    "episode_starts",
    "hidden_states",
    "valid",
    "action_masks",
    "final_action_masks",
)

_LEAVES = frozenset({float, int, str, bool})


def pack(data: EpisodeData) -> NamedArrays:
    """The arrays of a window, by field name; the rest in the metadata. Nothing is copied.

    The timestamp stays behind, so that the same window has the same bytes in every run: the stamp of the
    event that announces it says when.

    Raises:
        ConfigurationError: a field is no rectangular array of numbers.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name in _ARRAYS:
        value = getattr(data, name)
        if value is None:
            continue
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise _not_an_array(name, str(error)) from error
        if array.dtype == object:
            raise _not_an_array(name, "objects")
        arrays[name] = array
    infos = [[step, _plain(info)] for step, info in enumerate(data.infos) if info]
    metadata = {
        "episode_id": data.episode_id,
        "facts": _plain(data.metadata),
        "infos": infos,
        "infos_length": len(data.infos),
    }
    return NamedArrays(arrays, metadata)


def unpack(content: NamedArrays | EpisodeData, timestamp: float) -> EpisodeData:
    """The window behind what `pack` made; a window that never left its process is returned as it is.

    ``timestamp`` (seconds since the epoch) is that of the event that announced it.
    """
    if isinstance(content, EpisodeData):
        return content
    infos: list[dict[str, Any]] = [{} for _ in range(int(content.metadata["infos_length"]))]
    for step, info in content.metadata["infos"]:
        infos[step] = info
    return EpisodeData(
        **{name: content.arrays.get(name) for name in _ARRAYS},
        infos=infos,
        episode_id=int(content.metadata["episode_id"]),
        timestamp=timestamp,
        metadata=dict(content.metadata["facts"]),
    )


def _plain(value: Any) -> Any:
    """The JSON-able part of a value: numbers, texts, lists and mappings of them; other leaves become None."""
    if type(value) in _LEAVES:  # most are, and there are thousands
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool) else None


def _not_an_array(name: str, found: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} of a window cannot leave its process: found {found}, expected a rectangular array of "
        "numbers; put pipeline, learner and evaluator under one `process:`, or run inline"
    )
