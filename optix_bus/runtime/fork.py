"""Another future for a recorded run: the same past, other settings or other chance.

The fork is a run of its own. Its journal begins with the events of the original up to the fork point, its
nodes begin at the newest cut before it and handle what lies between under the old settings; then they go on
under the new ones (`RunPlan.past`). Nothing of the original is changed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import msgspec

from optix_bus.bus.codec import Codec
from optix_bus.bus.journal_copy import copy_past
from optix_bus.bus.journal_reader import read_journal
from optix_bus.bus.record import Record
from optix_bus.checkpoints import manifest as manifests
from optix_bus.errors import CheckpointError, ConfigurationError
from optix_bus.messages import VOCABULARY, CollectWindow, RunFinished, SnapshotSaved
from optix_bus.runtime.cuts import FOLDER, Cut, CutFolder, complete_cuts
from optix_bus.runtime.plan import Past, RunPlan
from optix_bus.runtime.planning import make_plan
from optix_bus.runtime.repeating import unrepeatable
from optix_bus.runtime.retirement import ANNOUNCING, references
from optix_bus.runtime.run_directory import ProcessRecord, RunDirectory, RunRecord
from optix_bus.runtime.topology import Topology, load_topology

_codec = Codec(VOCABULARY)
#: What of an agent is fixed by what it has learnt.
_FIXED = ("algorithm", "framework", "hidden_sizes", "rnn", "class")


def fork(
    source: RunDirectory,
    target: RunDirectory,
    at: int,
    overrides: Sequence[str] = (),
    *,
    branch: int = 0,
) -> Topology:
    """Lay out a run that branches off another; `Supervisor(..., resume=True)` then runs it.

    Args:
        source: a run, also one that is still going on.
        target: an empty run directory.
        at: the last event of the common past.
        overrides: ``a.b=c`` each, as for ``--set``.
        branch: which of several futures; other numbers give other random streams, 0 those of the original.

    Returns:
        The topology of the fork.

    Raises:
        ConfigurationError: the settings cannot be changed in the middle of a run, the run cannot branch off
            at this event, or it had ended there.
        JournalError: there is no such event, or the original's journal is damaged.
    """
    original = msgspec.structs.replace(
        RunPlan.read(source.root / "plan.json"), run_directory=str(source.root.resolve())
    )
    # What the event itself was handled under: the original may be a fork, and its past reach behind this.
    before = original.as_of(at - 1)
    # Modules beside the original topology were found above; a fork may lie anywhere.
    topology = load_topology(source.topology, [*overrides, *_own_checkpoints(original)])
    run_id = f"{original.name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-fork{branch or ''}"
    after = make_plan(topology, run_id=run_id, run_directory=target.root.resolve())
    after = msgspec.structs.replace(
        after,
        search_path=list(dict.fromkeys([*before.search_path, *after.search_path])),
        past=Past(sequence=at, plan=_file_of_past(at)),
        branch=branch,
    )
    _refuse_other_shape(before, after)
    cut = _newest_cut(source, original, at)
    # First of all: a run that still goes on removes its older cuts.
    _copy_cut(source, target, cut)
    past = _Past(source, target, original, cut)
    copy_past(source.journal, target.journal, run_id, at, kept=past.keep)
    if past.ended:
        raise ConfigurationError(f"by event {at} the end of the run was decided: fork at an earlier one")
    past.copy_snapshots(after)
    target.topology.write_text(topology.dump(), encoding="utf-8")
    for older in before.boundaries:
        shutil.copy(source.root / _file_of_past(older), target.root)
    before.write(target.root / _file_of_past(at))
    after.write(target.root / "plan.json")
    target.write(
        RunRecord(
            run_id=run_id,
            name=after.name,
            state="forked",
            supervisor=ProcessRecord("supervisor", 0, 0.0, "ended"),
            seed=after.seed,
            sockets="",
            shared_memory="",
            topology=str(topology.path),
            started=time.time(),
        )
    )
    return topology


def _file_of_past(at: int) -> str:
    return f"plan.until-{at}.json"


def before_window(source: RunDirectory, window: int) -> int:
    """The last event before a window was asked for.

    Raises:
        ConfigurationError: the run has no such window.
    """
    for record in read_journal(source.journal):
        if record.type == CollectWindow.__name__:
            asked: CollectWindow = _codec.decode(record.type, record.body)
            if asked.window == window:
                return record.seq - 1
    raise ConfigurationError(f"{source.root} has no window {window}")


def _own_checkpoints(plan: RunPlan) -> Iterator[str]:
    """A fork keeps its snapshots in its own folder, also where the original was given another."""
    for node in plan.nodes:
        if node.settings.get("directory"):
            yield f"nodes.{node.name}.directory="


def _refuse_other_shape(before: RunPlan, after: RunPlan) -> None:
    """A run cannot change on its way what its states were made for. Hyperparameters can: the learner takes
    the new ones after the next window.

    Raises:
        ConfigurationError: with what cannot change.
    """
    shapes = [
        [(node.name, node.class_path, node.role) for node in (*plan.nodes, *plan.variant_nodes)]
        for plan in (before, after)
    ]
    if shapes[0] != shapes[1]:
        raise ConfigurationError(
            "a fork has the nodes of its original: found others, whose states are unknown"
        )
    if before.seed != after.seed:
        raise ConfigurationError(
            f"the seed of a run ({before.seed}) is part of its past; for another future of the same past use "
            "--repeat"
        )
    changed = [f"agent.{key}" for key in _FIXED if before.agent.get(key) != after.agent.get(key)]
    if before.environment["id"] != after.environment["id"]:
        changed.append("environment.id")
    if changed:
        what = ", ".join(changed)
        raise ConfigurationError(f"{what} cannot change in a fork: what was learnt would not fit")


def _newest_cut(source: RunDirectory, plan: RunPlan, at: int) -> Cut | None:
    """Where the nodes of the fork begin.

    Raises:
        ConfigurationError: from there they could not get to the fork point again.
    """
    folder = CutFolder(source.root)
    names = plan.lasting
    # A cut is complete for the fork if its answers are in the copy; they are, whatever their numbers.
    cuts = complete_cuts(folder, source.journal, names)
    whole = [cut for cut in cuts if not folder.damage(cut, [*names, *cut.nodes])]
    found = next((cut for cut in whole if cut.sequence <= at), None)
    behind = at != (found.sequence if found is not None else 0)
    if behind and unrepeatable(source, plan, found):
        places = ", ".join(str(cut.sequence) for cut in reversed(whole))
        raise ConfigurationError(
            f"{source.root} cannot branch off at event {at}: its agent or its environment keeps more than a "
            f"cut can hold, so it can do so at a cut only, and there is "
            f"{f'one at event {places}' if places else 'none'}"
        )
    return found


def _copy_cut(source: RunDirectory, target: RunDirectory, cut: Cut | None) -> None:
    if cut is not None:
        name = f"{cut.number:06d}"
        shutil.copytree(source.root / FOLDER / name, target.root / FOLDER / name)
        CutFolder(target.root).forget_places()


class _Past:
    """What beside events belongs to the past of a fork: arrays that are still needed, and snapshots."""

    def __init__(self, source: RunDirectory, target: RunDirectory, plan: RunPlan, cut: Cut | None) -> None:
        self._source = source
        self._target = target
        self._snapshots = plan.checkpoint_directory(source.root)
        self._first = cut.sequence if cut is not None else 0
        self._saved: list[str] = []
        #: Whether the end of the run is in its past.
        self.ended = False

    def keep(self, record: Record) -> None:
        """Take in an event of the past."""
        if record.type == RunFinished.__name__:
            self.ended = True
        elif record.type == SnapshotSaved.__name__:
            saved: SnapshotSaved = _codec.decode(record.type, record.body)
            self._saved.append(saved.snapshot_id)
        elif record.type in ANNOUNCING and record.seq > self._first:
            for ref in references(_codec.decode(record.type, record.body)):
                self._link(f"{ref.name}.safetensors")

    def _link(self, name: str) -> None:
        """Recorded arrays are never written again: both runs may have the same file."""
        source, target = self._source.blobs / name, self._target.blobs / name
        if source.exists() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)
            except OSError:
                shutil.copyfile(source, target)

    def copy_snapshots(self, after: RunPlan) -> None:
        """Snapshots of the past become the fork's own."""
        for name in self._saved:
            folder = self._snapshots / name
            if folder.is_dir():
                copy = after.checkpoint_directory(self._target.root) / name
                shutil.copytree(folder, copy)
                # One that is damaged stays so, and is named by who reads it.
                with contextlib.suppress(CheckpointError):
                    manifests.write(replace(manifests.read(copy), run=after.run_id), copy)
