"""Going on with a run whose processes are all gone.

Nothing is taken from what lay in shared memory: every node begins at the newest cut that is whole and handles
the journal from there on, which makes the same arrays again. A node that cannot do the same again
(`Node.repeats`) would contradict the journal; then the run goes back to the cut, and what came after it is
set aside.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from optix_bus.bus.codec import Codec
from optix_bus.bus.journal_copy import copy_past
from optix_bus.bus.journal_files import segments
from optix_bus.bus.journal_reader import JournalCursor
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import Ledger, NodeState
from optix_bus.bus.record import Record
from optix_bus.errors import ConfigurationError
from optix_bus.messages import VOCABULARY, RunFinished, RunStarted, SnapshotSaved
from optix_bus.runtime.cuts import Cut, CutFolder, complete_cuts, usable_cut
from optix_bus.runtime.names import SUPERVISOR
from optix_bus.runtime.outside import remove_outside
from optix_bus.runtime.plan import RunPlan
from optix_bus.runtime.retirement import ANNOUNCING, references
from optix_bus.runtime.run_directory import RunDirectory, end_processes

#: What a run leaves behind when it goes back to a cut: RUN/set-aside/1/journal and so on.
SET_ASIDE = "set-aside"
_COPIED = "journal.copied"
_codec = Codec(VOCABULARY)


@dataclass(frozen=True)
class Resumption:
    """How a run goes on.

    Attributes:
        plan: of the run, as it was; places of the machine are those of the earlier life.
        cut: where the nodes begin; None at the first event.
        head: the last event in the journal.
        started: whether the journal has `RunStarted`.
        incarnations: the newest of each node that the journal knows.
        roots: how many roots the supervisor has written.
        remarks: what could not be used.
    """

    plan: RunPlan
    cut: Cut | None
    head: int
    started: bool
    incarnations: dict[str, int]
    roots: int
    remarks: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """For people."""
        if self.cut is None:
            return [*self.remarks, f"resumed: {self.head} events are repeated from the beginning"]
        repeated = self.head - self.cut.sequence
        where = f"cut {self.cut.number}, after window {self.cut.window}"
        return [*self.remarks, f"resumed at {where}: {repeated} events are repeated"]


def prepare(run: RunDirectory) -> Resumption:
    """Clear away what a dead run left, and find out where to go on.

    Raises:
        ConfigurationError: there is no run, it is running, or it has ended.
        JournalError: its journal is damaged.
    """
    record = run.read()
    if record.supervisor.alive():
        raise ConfigurationError(
            f"{run.root} is running (pid {record.supervisor.pid}): see optix-bus ps {run.root}"
        )
    end_processes(record)
    remove_outside(record)
    _finish_exchange(run)
    plan = msgspec.structs.replace(
        RunPlan.read(run.root / "plan.json"), run_directory=str(run.root.resolve())
    )
    ledger = _mend(run, plan)
    folder = CutFolder(run.root)
    names = [node.name for node in plan.nodes]
    cuts = complete_cuts(folder, run.journal, names)
    cut, remarks = usable_cut(folder, cuts, names)
    if remarks:
        # All nodes must begin at the same cut, so one that is damaged for one is gone for all.
        folder.remove_after(cut.number if cut is not None else 0)
    _refuse_finished(run, cut)
    if cut is not None and not all(taken.repeats for taken in cut.taken.values()):
        remarks.append(_go_back(run, plan, cut.sequence, cut))
        ledger = _mend(run, plan, before=ledger)
    elif cut is None and plan.shares_agent:
        remarks.append(_go_back(run, plan, 0, None))
        ledger = _mend(run, plan, before=ledger)
    return Resumption(
        plan=plan,
        cut=cut,
        head=_head(run),
        started=any(record.type == RunStarted.__name__ for record in _first(run)),
        incarnations={name: state.incarnation for name, state in ledger.nodes.items()},
        roots=ledger.nodes[SUPERVISOR].root + 1 if SUPERVISOR in ledger.nodes else 0,
        remarks=remarks,
    )


def _mend(run: RunDirectory, plan: RunPlan, before: Ledger | None = None) -> Ledger:
    """Cut off a torn tail as a hub would, and read back who has spoken; lives of ``before`` count as well."""
    ledger = Ledger()
    JournalWriter(run.journal, ledger, run=plan.run_id).close()
    for name, state in before.nodes.items() if before is not None else ():
        known = ledger.nodes.get(name, NodeState()).incarnation
        ledger.note_hello(name, max(state.incarnation, known), state.session)
    return ledger


def _refuse_finished(run: RunDirectory, cut: Cut | None) -> None:
    for record in _records(run, cut.sequence if cut is not None else 1):
        if record.type == RunFinished.__name__:
            finished: RunFinished = _codec.decode(record.type, record.body)
            raise ConfigurationError(
                f"{run.root} has ended ({finished.reason}) at event {record.seq}, there is nothing to "
                f"resume; to go on from an earlier event: optix-bus fork {run.root} --at SEQ --run-dir NEW"
            )


def _go_back(run: RunDirectory, plan: RunPlan, sequence: int, cut: Cut | None) -> str:
    """Make the journal end where the cut was taken; what came after it is set aside."""
    aside = _new_aside(run)
    dropped: list[Record] = []
    if sequence:
        copy_past(run.journal, run.root / _COPIED, plan.run_id, sequence, dropped=dropped.append)
    else:
        (run.root / _COPIED).mkdir()
        dropped = list(_records(run, 1))
    # The journal is exchanged last: until then it says what there is to set aside.
    CutFolder(run.root).remove_after(cut.number if cut is not None else 0)
    snapshots = plan.checkpoint_directory(run.root)
    for record in dropped:
        if record.type in ANNOUNCING:
            for ref in references(_codec.decode(record.type, record.body)):
                (run.blobs / f"{ref.name}.safetensors").unlink(missing_ok=True)
        elif record.type == SnapshotSaved.__name__:
            saved: SnapshotSaved = _codec.decode(record.type, record.body)
            if (snapshots / saved.snapshot_id).is_dir():
                (snapshots / saved.snapshot_id).rename(aside / saved.snapshot_id)
    run.journal.rename(aside / "journal")
    (run.root / _COPIED).rename(run.journal)
    where = f"the cut after window {cut.window}" if cut is not None else "its beginning"
    return (
        f"the run went back to {where}, because its agent or its environment keeps more than a cut can hold; "
        f"{len(dropped)} events were set aside in {aside}"
    )


def _finish_exchange(run: RunDirectory) -> None:
    """Whoever went back before and died on the way: a whole copy takes its place, a part of one goes."""
    copied = run.root / _COPIED
    if copied.is_dir() and not run.journal.exists():
        copied.rename(run.journal)
    shutil.rmtree(copied, ignore_errors=True)


def _new_aside(run: RunDirectory) -> Path:
    number = 1
    while (run.root / SET_ASIDE / str(number)).exists():
        number += 1
    aside = run.root / SET_ASIDE / str(number)
    aside.mkdir(parents=True)
    return aside


def _records(run: RunDirectory, first: int) -> Iterator[Record]:
    if not segments(run.journal):
        return
    near = CutFolder(run.root).near(first)
    cursor = JournalCursor(run.journal, first, near[1] if near is not None else None)
    try:
        while batch := cursor.read():
            yield from batch
    finally:
        cursor.close()


def _first(run: RunDirectory) -> list[Record]:
    """Enough events to see whether the run was started: before that, only nodes that became ready."""
    if not segments(run.journal):
        return []
    cursor = JournalCursor(run.journal, 1)
    try:
        return cursor.read(1000)
    finally:
        cursor.close()


def _head(run: RunDirectory) -> int:
    cuts = CutFolder(run.root).places()
    head = 0
    for record in _records(run, cuts[0].sequence if cuts else 1):
        head = record.seq
    return head
