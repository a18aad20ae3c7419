"""Where recorded nodes are played again: built anew, in a folder of their own, without effect on the run."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from optix_bus.bus import blob_format
from optix_bus.bus.record import Record
from optix_bus.messages import Event, PolicyUpdated, WindowCollected
from optix_bus.runtime.cuts import Cut, Taken
from optix_bus.runtime.fold import Fold
from optix_bus.runtime.node import Node
from optix_bus.runtime.numerics import one_thread
from optix_bus.runtime.plan import NodePlan
from optix_bus.runtime.playback import Playback, Played
from optix_bus.runtime.replay_blobs import ReplayBlobs
from optix_bus.runtime.replay_compare import Compare, exact
from optix_bus.runtime.replay_lives import Lives
from optix_bus.runtime.replay_run import RecordedRun, node_class, somewhere_else
from optix_bus.runtime.retirement import ANNOUNCING, references
from optix_bus.runtime.site import build_nodes
from optix_bus.types import NamedArrays

_MAX_NOTES = 20
_PREFIX = "optix-bus-replay-"


class Stage:
    """Nodes that are set up and stand where ``since`` says, and the playback that feeds them.

    Attributes:
        folds: the nodes by name.
        since: the last event that they know; 0 for none.
        taken: the state of each node at the last cut that was played.
        notes: what a person should know.
    """

    def __init__(
        self,
        run: RecordedRun,
        names: Collection[str],
        scratch: Path,
        cut: Cut | None,
        *,
        asked: NodePlan | None,
        compare: Compare,
        go_on: bool,
    ) -> None:
        self._run = run
        self._asked = asked
        self._scratch = scratch
        self._opened: list[tuple[str, Node]] = []
        self.notes: list[str] = []
        self._log = _Words(self.notes)
        self.taken: dict[str, Taken] = {}
        self.since = cut.sequence if cut is not None else 0
        living = Path(run.plan.shared_memory) if run.plan.shared_memory else None
        self.blobs = ReplayBlobs(run.directory.blobs, living, run.directory.overflow)
        self.folds: dict[str, Fold] = {}
        try:
            if cut is not None:
                self._copy_snapshots()
            for name, node in self._build(self.since, names).items():
                node.setup()
                fold = Fold(name, node, seed=run.plan.seed, store=self.blobs, log=self._log)
                self.folds[name] = fold
                fold.branch = run.plan.as_of(self.since).branch
                if cut is not None:
                    self._load(fold, run.cuts.read(cut.taken[name]))
            self._take_branch(self.since, self.folds)
            self._lives = Lives(run.plan, self.folds, lambda ref: self.blobs.retire(ref.name))
        except BaseException:
            self.close()
            raise
        self.playback = Playback(
            list(self.folds.values()),
            since=self.since,
            compare=compare,
            go_on=go_on,
            on_cut=self._on_cut,
        )

    def _on_cut(self, taken: Taken, sequence: int) -> None:
        self.taken[taken.event.node] = taken
        if self._lives.matter:
            self._lives.took(taken)

    def before(self, record: Record) -> None:
        """An event is about to be fed. Where its node has died and come back since its last one, and could
        not bring everything with it, the node comes back here as well."""
        names = self._lives.begins(record)
        if not names:
            return
        cut = self._lives.cut
        since = cut.sequence if cut is not None else 0
        self.notes.append(
            f"{', '.join(names)} came back before event {record.seq}, without all that was known before: "
            + (f"begun anew at cut {cut.number}" if cut is not None else "begun anew at the first event")
        )
        states = (
            {name: self._stored(self._lives.states(cut)[name]) for name in names} if cut is not None else {}
        )
        self._replace(self._build(since, names), states)
        for name in names:
            self.folds[name].branch = self._run.plan.as_of(since).branch
        self._take_branch(since, names)
        self.playback.forget(names)
        answered = {name: self._lives.answered[name] for name in names}
        answers: dict[tuple[str, int], list[Event]] = {}
        for found in self._run.records(since + 1, record.seq - 1):
            if found.node in answered and found.cause:
                answers.setdefault((found.node, found.cause), []).append(self._run.decode(found))
        for found in self._run.records(since + 1, record.seq - 1):
            self.playback.again(found, answered, answers)
            if found.seq in self._run.boundaries:
                self._enter_future(found.seq, names)

    def turn(self, played: Played) -> None:
        """All nodes have handled an event: nobody can ask for its arrays again. Where another plan holds from
        here on, the nodes go over to it."""
        announces = played.event is not None and played.record.type in ANNOUNCING
        refs = references(played.event) if announces and played.event is not None else []
        own = [ref for ref in refs if ref.owner in self.folds]
        self._lives.note(played.record, played.event, own)
        if played.record.seq in self._run.boundaries:
            self._enter_future(played.record.seq, list(self.folds))

    def close(self) -> None:
        """Tear all nodes down."""
        for name, node in reversed(self._opened):
            self._teardown(name, node)
        self._opened.clear()

    def _build(self, sequence: int, names: Collection[str]) -> dict[str, Node]:
        """These nodes under the plan that holds behind an event."""
        plan = self._run.plan.as_of(sequence)
        entries = [entry for entry in plan.nodes if entry.name in names]
        if self._asked is not None:
            entries = [self._asked if entry.name == self._asked.name else entry for entry in entries]
        nodes = build_nodes(somewhere_else(plan, entries, self._scratch))
        self._opened += nodes.items()
        return nodes

    def _enter_future(self, sequence: int, names: Collection[str]) -> None:
        """The past of a forked run ends here: the same states under other settings."""
        nodes = self._build(sequence, names)
        self._replace(nodes, None)
        self._take_branch(sequence, names)

    def _replace(self, nodes: Mapping[str, Node], states: Mapping[str, NamedArrays] | None) -> None:
        """Put nodes in the place of those of their names, with these states or, without, with those that
        their predecessors have now."""
        before = {name: self.folds[name].node for name in nodes}
        for name, node in nodes.items():
            fold = self.folds[name]
            state = before[name].state() if states is None else states.get(name)
            node.setup()
            fold.node = node
            if state is not None:
                self._load(fold, state)
        for name, node in reversed(before.items()):
            self._opened.remove((name, node))
            self._teardown(name, node)

    @staticmethod
    def _stored(taken: Taken) -> NamedArrays:
        return blob_format.parse(b"".join(taken.pieces), taken.event.file)

    def _load(self, fold: Fold, state: NamedArrays) -> None:
        self.notes += [f"{fold.name}: {remark}" for remark in fold.node.load_state(state)]

    def _take_branch(self, sequence: int, names: Collection[str]) -> None:
        branch = self._run.plan.as_of(sequence).branch
        if sequence in self._run.boundaries and branch:
            for name in names:
                self.folds[name].branch = branch
                self.folds[name].node.branch(branch)

    def _copy_snapshots(self) -> None:
        """A node that goes on from a cut may look for what it has saved before."""
        source = self._run.plan.checkpoint_directory(self._run.directory.root)
        if source.is_dir():
            shutil.copytree(source, self._scratch / "checkpoints", ignore=shutil.ignore_patterns(".*"))

    def _teardown(self, name: str, node: Node) -> None:
        try:
            node.teardown()
        except Exception as error:  # the others still have to be torn down
            self._log.warning(f"{name}: teardown failed", error=f"{type(error).__name__}: {error}")


class _Words:
    """What nodes warn of while they are played; stdout belongs to the answer of the command."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes

    def debug(self, event: str, **details: Any) -> None:
        """Not of interest."""

    def info(self, event: str, **details: Any) -> None:
        """Not of interest."""

    def warning(self, event: str, **details: Any) -> None:
        """Kept, up to a bound."""
        if len(self._notes) < _MAX_NOTES:
            self._notes.append(" ".join([event, *(f"{key}={value}" for key, value in details.items())]))


@contextlib.contextmanager
def stage(
    run: RecordedRun,
    names: Collection[str],
    *,
    cut: Cut | None = None,
    asked: NodePlan | None = None,
    compare: Compare = exact,
    go_on: bool = False,
) -> Iterator[Stage]:
    """Build nodes of a run and set them up; everything is gone afterwards.

    Args:
        run: what was recorded.
        names: the nodes.
        cut: begin with the states of this cut instead of at the first event.
        asked: one of these nodes as it might have been.
        compare: how bodies are compared.
        go_on: whether to feed on after a difference.
    """
    computes = any(
        not {PolicyUpdated, WindowCollected}.isdisjoint(node_class(entry).emits)
        for entry in run.plan.nodes
        if entry.name in names
    )
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as scratch, one_thread(framework=computes):
        made = Stage(run, names, Path(scratch), cut, asked=asked, compare=compare, go_on=go_on)
        try:
            yield made
        finally:
            made.close()


def begin(run: RecordedRun, names: Collection[str], first: int) -> Cut | None:
    """The newest cut from which event ``first`` can be reached by these nodes; None for the first event of
    the run, where there is none, or where one of them cannot be taken up at a cut."""
    for cut in run.complete_cuts(first):
        if all(cut.taken[name].repeats for name in names) and not run.cuts.damage(cut, names):
            return cut
    return None
