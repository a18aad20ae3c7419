"""A policy's weights below a snapshot's folder: named arrays as safetensors, or the agent's own form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from optix_bus.errors import CheckpointError
from optix_bus.portable import read_opaque, write_opaque
from optix_bus.types import NamedArrays

#: Where weights lie. Agents of this project read the folder ``weights`` with their `load_weights`.
FOLDER = "weights"
ARRAYS = "agent.safetensors"
#: As `save_weights` of the agents writes it, so that they read each other's files.
_METADATA = "state"


def write(policy: NamedArrays, folder: Path) -> tuple[str, str]:
    """Write weights below ``folder``; returns their path relative to it and their form.

    The single array ``opaque`` is what an agent's `save_weights` wrote: it is laid out again as it was.

    Raises:
        CheckpointError: the arrays cannot be written.
    """
    place = folder / FOLDER
    place.mkdir()
    if "opaque" in policy.arrays:
        return write_opaque(policy, place).relative_to(folder).as_posix(), "own"
    # One key: the library writes several in an order that differs from process to process.
    header = {_METADATA: json.dumps(dict(policy.metadata), sort_keys=True)}
    try:
        # np.ascontiguousarray makes vectors of single numbers.
        arrays = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in policy.arrays.items()}
        content = save(arrays, header)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the policy holds arrays that safetensors cannot write: {error}") from error
    (place / ARRAYS).write_bytes(content)
    return FOLDER, "arrays"


def read(folder: Path, form: str) -> NamedArrays:
    """Read what `write` wrote below ``folder``.

    Raises:
        CheckpointError: it is damaged.
    """
    place = folder / FOLDER
    if form == "own":
        return read_opaque(place)
    try:
        with safe_open(str(place / ARRAYS), framework="numpy") as content:
            header: dict[str, str] = content.metadata() or {}
            arrays: dict[str, np.ndarray[Any, Any]] = {n: content.get_tensor(n) for n in content.keys()}  # noqa: SIM118
        return NamedArrays(arrays, json.loads(header[_METADATA]))
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"the weights in {place} are damaged: {error}") from error
