"""Names of blobs: logical, deterministic, and safe as file names."""

from __future__ import annotations

import re

from optix_bus.errors import BlobError
from optix_bus.types import BlobRef

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}")
_NUMBER = re.compile(r"-\d+$")


def owner_of(name: str) -> str:
    """The node that a name belongs to: its first part.

    Raises:
        BlobError: the name is none.
    """
    parts = name.split("/")
    if not 2 <= len(parts) <= 4 or not all(_PART.fullmatch(part) for part in parts):
        raise BlobError(
            f"{name!r} is no blob name: expected OWNER/KIND-NUMBER of A-Z a-z 0-9 _ . : -, no part "
            "beginning with a dot"
        )
    return parts[0]


def kind_of(name: str) -> str:
    """A name without its number: blobs of one kind replace each other over time."""
    return _NUMBER.sub("", name)


def check_reference(ref: BlobRef) -> None:
    """Refuse a reference whose owner is not the one in its name.

    Raises:
        BlobError: as said; or the name is none.
    """
    if owner_of(ref.name) != ref.owner:
        raise BlobError(f"blob {ref.name} is said to be {ref.owner!r}'s, but its name says otherwise")
