"""Going on with a run whose processes are all gone.

Nothing is taken from what lay in shared memory: every node begins at the newest cut that is whole and handles
the journal from there on, which makes the same arrays again. A node that cannot do the same again
(`Node.repeats`) would contradict what the journal has of it; then the run goes back to the cut, and what came
after it is set aside.
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
from optix_bus.runtime.repeating import unrepeatable
from optix_bus.runtime.retirement import ANNOUNCING, references
from optix_bus.runtime.roster import Roster
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
        variants: those with nodes of their own at some time behind the cut, each with the event of its
            dismissal, or 0.
    """

    plan: RunPlan
    cut: Cut | None
    head: int
    started: bool
    incarnations: dict[str, int]
    roots: int
    remarks: list[str] = field(default_factory=list)
    variants: dict[int, int] = field(default_factory=dict)

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
    ledger, head = _mend(run, plan)
    folder = CutFolder(run.root)
    names = plan.lasting
    cuts = complete_cuts(folder, run.journal, names)
    cut, remarks = usable_cut(folder, cuts, [*names, *(name for cut in cuts for name in cut.nodes)])
    _refuse_finished(run, cut)
    # All nodes must begin at the same cut: one that is damaged for one is gone for all. One that was never
    # complete is taken again, and where it says that its announcement was, there may be nothing now.
    folder.remove_after(cut.number if cut is not None else 0)
    if _contradicts(run, plan, cut):
        remarks.append(_go_back(run, plan, cut))
        ledger, head = _mend(run, plan, before=ledger)
    # Who has left since the cut has said something since: its arrays have to be made again.
    since = _records(run, cut.sequence + 1 if cut is not None else 1)
    return Resumption(
        variants=Roster.of(since, cut.nodes if cut is not None else ()).variants,
        plan=plan,
        cut=cut,
        head=head,
        started=any(record.type == RunStarted.__name__ for record in _first(run)),
        incarnations={name: state.incarnation for name, state in ledger.nodes.items()},
        roots=ledger.nodes[SUPERVISOR].root + 1 if SUPERVISOR in ledger.nodes else 0,
        remarks=remarks,
    )


def _mend(run: RunDirectory, plan: RunPlan, before: Ledger | None = None) -> tuple[Ledger, int]:
    """Cut off a torn tail as a hub would, and read back who has spoken and the number of the last event;
    lives of ``before`` count as well."""
    ledger = Ledger()
    journal = JournalWriter(run.journal, ledger, run=plan.run_id)
    journal.close()
    for name, state in before.nodes.items() if before is not None else ():
        known = ledger.nodes.get(name, NodeState()).incarnation
        ledger.note_hello(name, max(state.incarnation, known), state.session)
    return ledger, journal.head


def _refuse_finished(run: RunDirectory, cut: Cut | None) -> None:
    for record in _records(run, cut.sequence if cut is not None else 1):
        if record.type == RunFinished.__name__:
            finished: RunFinished = _codec.decode(record.type, record.body)
            raise ConfigurationError(
                f"{run.root} has ended ({finished.reason}) at event {record.seq}, there is nothing to "
                f"resume; to go on from an earlier event: optix-bus fork {run.root} --at SEQ --run-dir NEW"
            )


def _contradicts(run: RunDirectory, plan: RunPlan, cut: Cut | None) -> bool:
    """Whether a node that cannot do the same again has done something since the cut."""
    since = cut.sequence if cut is not None else 0
    answered = {record.node for record in _records(run, since + 1) if record.cause > since}
    # Asked last: without a cut it takes a process.
    return bool(answered) and not answered.isdisjoint(unrepeatable(run, plan, cut))


def _go_back(run: RunDirectory, plan: RunPlan, cut: Cut | None) -> str:
    """Make the journal end where the cut was taken; what came after it is set aside.

    Raises:
        ConfigurationError: it is a fork, and what it has in common with its original would be gone.
    """
    sequence = cut.sequence if cut is not None else 0
    if plan.past is not None and sequence < plan.past.sequence:
        raise ConfigurationError(
            f"{run.root} branches off at event {plan.past.sequence}, and no whole cut is left there: its "
            "agent or its environment cannot repeat what came before; fork the original once more"
        )
    aside = _new_aside(run)
    dropped: list[Record] = []
    recorded: set[str] = set()
    if sequence:
        copied = run.root / _COPIED
        copy_past(
            run.journal,
            copied,
            plan.run_id,
            sequence,
            kept=lambda record: recorded.update(_blobs(record)),
            dropped=dropped.append,
        )
    else:
        (run.root / _COPIED).mkdir()
        dropped = list(_records(run, 1))
    # The journal is exchanged last: until then it says what there is to set aside.
    CutFolder(run.root).forget_places()
    # Also what was recorded, and not announced any more: others will be made under the same names.
    for path in list(run.blobs.rglob("*.safetensors")):
        if path.relative_to(run.blobs).as_posix() not in recorded:
            _move(path, aside / "blobs" / path.relative_to(run.blobs))
    for record in dropped:
        if record.type == SnapshotSaved.__name__:
            saved: SnapshotSaved = _codec.decode(record.type, record.body)
            snapshot = plan.checkpoint_directory(run.root) / saved.snapshot_id
            _move(snapshot, aside / "checkpoints" / saved.snapshot_id)
    run.journal.rename(aside / "journal")
    (run.root / _COPIED).rename(run.journal)
    where = f"the cut after window {cut.window}" if cut is not None else "its beginning"
    return (
        f"the run went back to {where}, because its agent or its environment keeps more than a cut can hold; "
        f"{len(dropped)} events were set aside in {aside}"
    )


def _blobs(record: Record) -> list[str]:
    """Files of the arrays that an event announces."""
    if record.type not in ANNOUNCING:
        return []
    return [f"{ref.name}.safetensors" for ref in references(_codec.decode(record.type, record.body))]


def _move(source: Path, target: Path) -> None:
    """Move what is there; snapshots may lie on another file system."""
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)


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
