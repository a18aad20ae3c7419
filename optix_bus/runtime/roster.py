"""Which variants have nodes in a run at which event. The journal alone says so; the plan says what nodes."""

from __future__ import annotations

from collections.abc import Iterable

from optix_bus.bus.codec import Codec
from optix_bus.bus.record import Record
from optix_bus.messages import VariantAdmitted, VariantDismissed
from optix_bus.runtime.plan import variant_number

_TYPES = (VariantAdmitted, VariantDismissed)
NAMES = frozenset(kind.__name__ for kind in _TYPES)
_codec = Codec(_TYPES)


class Roster:
    """Variants by number, each with the event of its dismissal, or 0 while it is there.

    Args:
        nodes: names of the nodes of variants that were there at the beginning.
    """

    def __init__(self, nodes: Iterable[str] = ()) -> None:
        self.variants: dict[int, int] = {number: 0 for number in sorted(map(variant_number, nodes)) if number}

    def note(self, record: Record) -> None:
        """Take in an event of the journal."""
        if record.type in NAMES:
            event: VariantAdmitted | VariantDismissed = _codec.decode(record.type, record.body)
            self.variants[event.variant] = record.seq if isinstance(event, VariantDismissed) else 0

    @classmethod
    def of(cls, records: Iterable[Record], nodes: Iterable[str] = ()) -> Roster:
        """Everybody who was there at some time during these events."""
        roster = cls(nodes)
        for record in records:
            roster.note(record)
        return roster
