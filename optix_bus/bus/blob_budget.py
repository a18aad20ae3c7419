"""How much of an owner's blobs may be alive at once."""

from __future__ import annotations

from optix_bus.bus.blob_names import kind_of


class BlobBudget:
    """Counts living blobs. Pressure, never loss: who is over it waits.

    One blob of each kind is always admitted, or ``always`` of them. Without that rule a window larger than
    what is left would wait for a consumer that waits for the window.
    """

    def __init__(self, limit_bytes: int, always: int = 1) -> None:
        self.limit_bytes = limit_bytes
        self._always = always
        self._sizes: dict[str, int] = {}
        self._used = 0

    @property
    def used_bytes(self) -> int:
        """Bytes of all living blobs."""
        return self._used

    @property
    def names(self) -> list[str]:
        """Living blobs, oldest first."""
        return list(self._sizes)

    def admits(self, name: str, size: int) -> bool:
        """Whether a blob may be written now. One of the same name would be replaced."""
        if self._used - self._sizes.get(name, 0) + size <= self.limit_bytes:
            return True
        alike = [other for other in self._sizes if other != name and kind_of(other) == kind_of(name)]
        return len(alike) < self._always

    def add(self, name: str, size: int) -> None:
        """A blob was written."""
        self._used += size - self._sizes.get(name, 0)
        self._sizes[name] = size

    def remove(self, name: str) -> None:
        """A blob is gone."""
        self._used -= self._sizes.pop(name, 0)
