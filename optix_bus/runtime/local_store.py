"""Blobs that never leave the process: objects by reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from optix_bus.errors import BlobError
from optix_bus.types import BlobRef, NamedArrays


class LocalStore:
    """Keeps windows as the user's pipeline made them and copies policies.

    A policy is copied because its arrays may be the live weights of the agent that goes on learning; a
    window belongs to whoever collected it and is never written to again.
    """

    keeps_objects = True

    def __init__(self) -> None:
        self._objects: dict[str, Any] = {}

    def write(self, name: str, content: Any) -> BlobRef:
        """Keep an object under its name."""
        size = 0
        if isinstance(content, NamedArrays):
            content = NamedArrays(
                {key: np.array(value, copy=True) for key, value in content.arrays.items()},
                dict(content.metadata),
            )
            size = sum(array.nbytes for array in content.arrays.values())
        self._objects[name] = content
        return BlobRef(name=name, bytes=size, checksum="", owner=name.partition("/")[0])

    def read(self, ref: BlobRef) -> Any:
        """The object itself."""
        try:
            return self._objects[ref.name]
        except KeyError:
            raise BlobError(
                f"blob {ref.name} is gone: it was read after the event that announced it"
            ) from None

    def retire(self, name: str) -> None:
        """Forget an object."""
        self._objects.pop(name, None)
