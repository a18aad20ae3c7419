"""An agent's state on disk: one safetensors file, its metadata as a JSON text in the header."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from optix_bus.errors import CheckpointError
from optix_bus.types import NamedArrays

FILE = "agent.safetensors"
_KEY = "state"


def save_state(state: NamedArrays, path: str) -> None:
    """Write a state to a file (``*.safetensors``) or into a folder; never half a file.

    Raises:
        CheckpointError: the place cannot be written.
    """
    target = _file(path)
    # One entry: safetensors writes several in an order that differs from call to call.
    header = {_KEY: json.dumps(dict(state.metadata), sort_keys=True)}
    # np.ascontiguousarray makes vectors of single numbers.
    arrays = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in state.arrays.items()}
    write_whole(target, save(arrays, header), "the weights")


def write_whole(target: Path, content: bytes, what: str) -> None:
    """Write a file beside its place and put it there, so that there is never half of it.

    Raises:
        CheckpointError: the place cannot be written; ``what`` names the content.
    """
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        os.replace(beside, target)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            beside.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write {what} to {target}: {error}") from error


def read_state(path: str) -> NamedArrays:
    """Read what `save_state` wrote.

    Raises:
        CheckpointError: there is no such file, or it is damaged.
    """
    source = _file(path)
    if not source.is_file():
        raise CheckpointError(f"found no weights at {source}; expected a file that save_weights wrote")
    try:
        with safe_open(str(source), framework="numpy") as content:
            header = content.metadata() or {}
            arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - no mapping
        return NamedArrays(arrays, json.loads(header.get(_KEY, "{}")))
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"the weights at {source} are damaged: {error}") from error


def mean_arrays(states: Sequence[NamedArrays], prefixes: tuple[str, ...]) -> dict[str, np.ndarray[Any, Any]]:
    """Mean over states of every floating-point array whose name starts with one of the prefixes.

    Raises:
        CheckpointError: the states hold different arrays.
    """
    if not states:
        raise CheckpointError("found no saved weights to average, expected at least one path")
    first = states[0].arrays
    names = [name for name in first if name.startswith(prefixes)]
    for number, other in enumerate(states[1:], start=2):
        for name in names:
            found = other.arrays[name].shape if name in other.arrays else None
            if found != first[name].shape:
                raise CheckpointError(
                    f"cannot average: {name} has shape {first[name].shape} in the first set of weights and "
                    f"{found or 'is missing'} in number {number}"
                )
    return {
        name: np.mean([s.arrays[name].astype(np.float64) for s in states], axis=0).astype(first[name].dtype)
        if first[name].dtype.kind == "f"
        else first[name]
        for name in names
    }


def _file(path: str) -> Path:
    place = Path(path)
    return place if place.suffix == ".safetensors" and not place.is_dir() else place / FILE
