"""A run as it was recorded: its plan, its journal, its cuts, and what it ran on."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from optix_bus.bus.codec import Codec
from optix_bus.bus.journal_files import segments
from optix_bus.bus.journal_reader import JournalCursor
from optix_bus.bus.record import Record
from optix_bus.errors import ConfigurationError, JournalError
from optix_bus.messages import (
    VOCABULARY,
    Event,
    PolicyUpdated,
    RunStarted,
    VariantCollected,
    VariantUpdated,
    WindowCollected,
)
from optix_bus.runtime.cuts import Cut, CutFolder, complete_cuts
from optix_bus.runtime.fingerprint import fingerprint
from optix_bus.runtime.node import Node
from optix_bus.runtime.plan import NodePlan, RunPlan
from optix_bus.runtime.roster import NAMES as ROSTER
from optix_bus.runtime.roster import Roster
from optix_bus.runtime.run_directory import RunDirectory
from optix_bus.runtime.site import load

#: What only those say who act in an environment, and those who learn.
COLLECTED: frozenset[type[Event]] = frozenset({WindowCollected, VariantCollected})
LEARNT: frozenset[type[Event]] = frozenset({PolicyUpdated, VariantUpdated})

#: `RunStarted` comes when all nodes are ready, long before this.
_BEGINNING = 10_000


class RecordedRun:
    """Reads a run directory, wherever it lies now; writes nothing into it.

    Attributes:
        boundaries: events behind which the nodes went on under another plan, in a run that was forked.
        head: the last event that was in the journal when the run was opened. A run that is still alive can be
            replayed up to there.

    Raises:
        ConfigurationError: there is no plan or no journal.
    """

    def __init__(self, root: Path) -> None:
        self.directory = RunDirectory(root)
        #: People move runs: what the plan refers to lies beside it.
        self.plan = msgspec.structs.replace(RunPlan.read(root / "plan.json"), run_directory=str(root))
        self.boundaries = self.plan.boundaries
        if not segments(self.directory.journal):
            raise ConfigurationError(
                f"{root} holds no journal to replay: expected that of a run on Linux or macOS"
            )
        self.codec = Codec(VOCABULARY)
        self.cuts = CutFolder(root)
        self.head = self._head()
        if not self.head:
            raise ConfigurationError(f"the journal of {root} holds no event: the run ended before it began")
        #: Of the plan, and of all variants that had nodes of their own at some time.
        self.nodes = [*self.plan.nodes, *self._of_variants()]

    def _head(self) -> int:
        cursor = JournalCursor(self.directory.journal, max(1, segments(self.directory.journal)[-1]))
        try:
            with contextlib.suppress(JournalError):
                while cursor.read_raw():
                    pass
                return cursor.seq - 1
            return cursor.seq  # where the damage is: who reads up to there gets to know of it
        finally:
            cursor.close()

    def _of_variants(self) -> Iterator[NodePlan]:
        if self.plan.variant_nodes:
            for variant in Roster.of(self.records(types=ROSTER)).variants:
                yield from self.plan.of_variant(variant)

    def records(
        self, first: int = 1, last: int | None = None, types: Collection[str] | None = None
    ) -> Iterator[Record]:
        """The events from ``first`` to ``last``, both included, or to the head; of these types only.

        Raises:
            JournalError: the journal is damaged there; what comes before it was given out.
        """
        end = self.head if last is None else min(last, self.head)
        near = self.cuts.near(first)
        cursor = JournalCursor(self.directory.journal, first, near[1] if near is not None else None)
        try:
            while batch := cursor.read(up_to=end):
                yield from (record for record in batch if types is None or record.type in types)
        finally:
            cursor.close()

    def decode(self, record: Record) -> Event:
        """The event in a record."""
        event: Event = self.codec.decode(record.type, record.body)
        return event

    def started(self) -> RunStarted | None:
        """How the run began; None where it never did."""
        for record in self.records(last=_BEGINNING):
            if record.type == RunStarted.__name__:
                event = self.decode(record)
                assert isinstance(event, RunStarted)
                return event
        return None

    def foreign(self) -> list[str]:
        """What this machine has otherwise than the one that ran it, one line each; empty where the results
        must be the same to the bit."""
        started = self.started()
        return unlike_here(started.fingerprint) if started is not None else []

    def complete_cuts(self, before: int) -> list[Cut]:
        """Cuts whose states know nothing of event ``before``, newest first."""
        names = self.plan.lasting
        found = complete_cuts(self.cuts, self.directory.journal, names, self.head)
        return [cut for cut in found if cut.sequence < before]

    def entry(self, name: str) -> NodePlan:
        """A node of the plan.

        Raises:
            ConfigurationError: there is none of that name.
        """
        for entry in self.nodes:
            if entry.name == name:
                return entry
        known = ", ".join(entry.name for entry in self.nodes)
        raise ConfigurationError(f"the run has no node {name!r}; its nodes: {known}")

    def choose(self, names: Sequence[str] = ()) -> tuple[list[NodePlan], list[str]]:
        """The nodes to be played, in the order in which they act, and what a person should know about the
        choice. Without names: all that emit something.

        Raises:
            ConfigurationError: an unknown name.
        """
        if not names:
            chosen = {entry.name for entry in self.nodes if node_class(entry).emits}
            silent = [entry.name for entry in self.nodes if entry.name not in chosen]
            return self._in_order(chosen), [
                f"{', '.join(silent)} left out: a node that emits nothing only has effects outside the run; "
                "name it with --node to have them again"
            ] * bool(silent)
        chosen = {self.entry(name).name for name in names}
        more = {other for name in chosen for other in self._sharing(name)} - chosen
        notes = [f"{', '.join(sorted(more))} played too: one agent object is shared by all of them"] * bool(
            more
        )
        return self._in_order(chosen | more), notes

    def _sharing(self, name: str) -> set[str]:
        """The nodes that hold the same agent object."""
        if not self.plan.shares_agent:
            return set()
        holders = {
            entry.name: entry.process
            for entry in self.nodes
            if entry.role or LEARNT & set(node_class(entry).emits)
        }
        return {other for other, process in holders.items() if process == holders.get(name)}

    def _in_order(self, names: set[str]) -> list[NodePlan]:
        return [entry for entry in self.nodes if entry.name in names]


def unlike_here(recorded: Mapping[str, str]) -> list[str]:
    """What this machine has otherwise than a fingerprint says, one line each; nothing without one."""
    here = fingerprint()
    return [
        f"{name}: recorded on {recorded.get(name, 'nothing')}, here {here.get(name, 'nothing')}"
        for name in sorted(recorded.keys() | here.keys())
        if recorded and recorded.get(name) != here.get(name)
    ]


def node_class(entry: NodePlan) -> type[Node]:
    """The class of a node."""
    found: type[Node] = load(entry.class_path)
    return found


def somewhere_else(plan: RunPlan, entries: Sequence[NodePlan], root: Path) -> RunPlan:
    """The plan for these nodes alone, with everything that they write below another folder."""
    from optix_bus.checkpoints.settings import CheckpointSettings

    moved = [
        msgspec.structs.replace(entry, settings={**entry.settings, "directory": None})
        if node_class(entry).settings is CheckpointSettings
        else entry
        for entry in entries
    ]
    return msgspec.structs.replace(plan, run_directory=str(root), nodes=moved, sockets="", shared_memory="")
