"""Keeping policy versions for as long as somebody may still ask for them, and no longer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from optix_bus.errors import NodeFailure

T = TypeVar("T")

#: Policy versions of variant ``n`` that is trained beside the learner count up from ``n`` times this.
_VARIANT = 1_000_000_000


def first_version(variant: int) -> int:
    """The version of a variant's first policy; 0 for variant 0, the learner of the topology."""
    return variant * _VARIANT


def variant_of(version: int) -> int:
    """The variant that a policy version belongs to."""
    return max(version, 0) // _VARIANT


class VersionShelf(Generic[T]):
    """Items by version.

    A version can be asked for while it is the newest, or while its evaluation is not judged. Versions grow.
    """

    def __init__(self) -> None:
        self._items: dict[int, T] = {}
        self._evaluated: list[int] = []

    def put(self, version: int, item: T) -> None:
        """Keep the newest version."""
        self._items[version] = item

    def plan(self, version: int, evaluate: bool) -> None:
        """Version ``version`` acts from now on; with ``evaluate`` its score is to come.

        Older ones go, except the last two whose scores may still be under way: with one window of lookahead
        an evaluation is planned before the one before it is judged.
        """
        if evaluate:
            self._evaluated = [*self._evaluated[-1:], version]
        self._items = {v: item for v, item in self._items.items() if v >= version or v in self._evaluated}

    @property
    def items(self) -> Mapping[int, T]:
        """What is kept, by version."""
        return self._items

    @property
    def evaluated(self) -> list[int]:
        """The versions whose scores may still be under way, oldest first."""
        return self._evaluated

    def load(self, items: Mapping[int, T], evaluated: Iterable[int]) -> None:
        """Keep exactly this: `items` and `evaluated` of another shelf."""
        self._items = dict(sorted(items.items()))
        self._evaluated = list(evaluated)

    def __contains__(self, version: int) -> bool:
        return version in self._items

    def get(self, version: int) -> T:
        """The item of a version that is kept."""
        try:
            return self._items[version]
        except KeyError:
            kept = ", ".join(map(str, self._items)) or "none"
            raise NodeFailure(f"policy version {version} was asked for, but these are kept: {kept}") from None
