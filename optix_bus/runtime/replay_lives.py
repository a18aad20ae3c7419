"""Nodes that died and came back in a run, and could not bring everything with them.

A node that repeats itself goes on from a cut as if nothing had happened, so a replay need not know. One that
does not (its environment cannot be rebuilt, its agent keeps more than its weights) goes on as another: it is
built anew in the replay too, from the state at the same cut, and takes in the recorded events from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from optix_bus.bus import blob_format
from optix_bus.bus.record import Record
from optix_bus.messages import CutAnnounced, CutTaken, Event
from optix_bus.runtime.cuts import Cut, CutBook, Taken
from optix_bus.runtime.fold import Fold
from optix_bus.runtime.plan import RunPlan
from optix_bus.types import BlobRef, NamedArrays


class Lives:
    """Which life of each process the journal speaks of, and what is needed to begin another.

    Args:
        plan: of the run.
        folds: the nodes that are played.
        retire: called with arrays that nobody can ask for any longer.
    """

    def __init__(self, plan: RunPlan, folds: Mapping[str, Fold], retire: Callable[[BlobRef], None]) -> None:
        self._folds = folds
        self._retire = retire
        self._processes = {node.name: node.process for node in plan.named(folds)}
        self._incarnations: dict[str, int] = {}
        self._book = CutBook(plan.lasting)
        self._taken: dict[int, dict[str, Taken]] = {}
        self._announced: list[tuple[int, BlobRef]] = []
        #: The last event that the journal has answers of each node to.
        self.answered = dict.fromkeys(folds, 0)
        #: Whether somebody may have to be built anew, and read arrays again.
        self._matter = plan.has_cuts and not all(fold.node.repeats for fold in folds.values())

    def beginnings(self) -> list[Cut | None]:
        """Where a process may have begun that speaks now for the first time, the likeliest first.

        It begins at the newest cut that is complete when it looks, and that is before it speaks: others may
        have completed a cut in between. None stands for the first event.
        """
        return [*reversed(self._book.complete), None]

    def states(self, cut: Cut | None, names: Collection[str]) -> dict[str, NamedArrays]:
        """The states that nodes had at a cut; nothing for the first event."""
        if cut is None:
            return {}
        taken = self._taken[cut.number]
        return {
            name: blob_format.parse(b"".join(taken[name].pieces), taken[name].event.file) for name in names
        }

    def took(self, taken: Taken) -> None:
        """The state of a node at a cut."""
        if self._matter:
            self._taken.setdefault(taken.event.cut, {})[taken.event.node] = taken

    def same_process(self, node: str, other: str) -> bool:
        """Whether two played nodes live and die together."""
        return node in self._processes and self._processes[node] == self._processes.get(other)

    def begins(self, record: Record) -> list[str]:
        """The played nodes that begin another life with this record and cannot repeat themselves, with all
        that share their process; empty where nothing has to be done."""
        process = self._processes.get(record.node)
        if process is None or not record.cause:
            return []
        known = self._incarnations.setdefault(process, record.incarnation)
        if record.incarnation <= known:
            return []
        self._incarnations[process] = record.incarnation
        names = [name for name, of in self._processes.items() if of == process]
        return names if any(not self._folds[name].node.repeats for name in names) else []

    def note(self, record: Record, event: Event | None, refs: Collection[BlobRef]) -> None:
        """An event was fed; these arrays of played nodes are announced in it."""
        if record.cause and record.node in self.answered:
            self.answered[record.node] = record.cause
        if not self._matter:
            for ref in refs:
                self._retire(ref)
            return
        self._announced += [(record.seq, ref) for ref in refs]
        if isinstance(event, CutAnnounced | CutTaken) and self._book.note(event, record.seq):
            self._forget()

    def _forget(self) -> None:
        """As the run itself does: arrays are kept back to the newest cut but one, states as long as cuts."""
        oldest = self._book.complete[0].number
        self._taken = {number: taken for number, taken in self._taken.items() if number >= oldest}
        boundary = self._book.complete[-2].sequence if len(self._book.complete) > 1 else 0
        for seq, ref in self._announced:
            if seq <= boundary:
                self._retire(ref)
        self._announced = [(seq, ref) for seq, ref in self._announced if seq > boundary]
