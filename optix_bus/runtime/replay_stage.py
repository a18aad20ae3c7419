"""Where recorded nodes are played again: in a folder of their own, without effect on the run."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from optix_bus.bus.record import Record
from optix_bus.errors import BlobMissing
from optix_bus.runtime.cuts import Cut, Taken
from optix_bus.runtime.numerics import one_thread
from optix_bus.runtime.outside import OutsideFolder
from optix_bus.runtime.plan import NodePlan
from optix_bus.runtime.playback import HandlerFailure, Playback, Played
from optix_bus.runtime.replay_blobs import ReplayBlobs, recorded_in
from optix_bus.runtime.replay_cast import Cast
from optix_bus.runtime.replay_compare import Compare, exact
from optix_bus.runtime.replay_lives import Lives
from optix_bus.runtime.replay_run import COLLECTED, LEARNT, RecordedRun, node_class
from optix_bus.runtime.retirement import ANNOUNCING, references

_MAX_NOTES = 20
#: Events by which the beginnings that a process may have had are told apart.
_TRIAL_EVENTS = 300


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
        self._scratch = scratch
        self.notes: list[str] = []
        self._log = _Words(self.notes)
        self.taken: dict[str, Taken] = {}
        self.since = cut.sequence if cut is not None else 0
        self.blobs = ReplayBlobs(recorded_in(run.directory, run.plan.shared_memory))
        self._cast = Cast(run, names, scratch, self.blobs, self._log, asked)
        self.folds = self._cast.folds
        try:
            if cut is not None:
                self._copy_snapshots()
            taken = cut.taken if cut is not None else {}
            states = {name: run.cuts.read(taken[name]) for name in names if name in taken}
            self._cast.begin(self.since, states)
            self.notes += self._cast.remarks
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

    def before(self, record: Record) -> None:
        """An event is about to be fed. Where its node has died and come back since its last one, and could
        not bring everything with it, the node comes back here as well."""
        names = self._lives.begins(record)
        if not names:
            return
        cut = self._beginning(names, record)
        since = cut.sequence if cut is not None else 0
        self.notes.append(
            f"{', '.join(names)} came back before event {record.seq}, without all that was known before: "
            + (f"begun anew at cut {cut.number}" if cut is not None else "begun anew at the first event")
        )
        self.playback.forget(names)
        self._cast.begin_again(names, since, self._lives.states(cut, names))
        self._cast.catch_up(self.playback, names, since, record.seq, self._lives.answered)

    def turn(self, played: Played) -> None:
        """All nodes have handled an event: nobody can ask for its arrays again. Where another plan holds from
        here on, the nodes go over to it."""
        announces = played.event is not None and played.record.type in ANNOUNCING
        refs = references(played.event) if announces and played.event is not None else []
        own = [ref for ref in refs if ref.owner in self.folds]
        self._lives.note(played.record, played.event, own)
        self._cast.enter_future(played.record.seq)

    def close(self) -> None:
        """Tear all nodes down."""
        self._cast.close()

    def _on_cut(self, taken: Taken, sequence: int) -> None:
        self.taken[taken.event.node] = taken
        self._lives.took(taken)

    def _beginning(self, names: Collection[str], record: Record) -> Cut | None:
        """The cut at which a process began that came back: the first one that explains what it did then."""
        best: tuple[int, Cut | None] = (-1, None)
        possible = self._lives.beginnings()
        for cut in possible if len(possible) > 1 else ():
            explained, contradicted = self._try(names, cut, record)
            if not contradicted:
                return cut
            best = max(best, (explained, cut), key=lambda found: found[0])
        return best[1]

    def _try(self, names: Collection[str], cut: Cut | None, record: Record) -> tuple[int, bool]:
        """How many of the next answers of these nodes follow from beginning at this cut, and whether one of
        them does not."""
        since = cut.sequence if cut is not None else 0
        cast = Cast(self._run, names, self._scratch / "trial", ReplayBlobs(self.blobs.read), _Words([]))
        try:
            cast.begin(since, self._lives.states(cut, names))
            playback = Playback(list(cast.folds.values()), compare=self.playback.compare)
            cast.catch_up(playback, names, since, record.seq, self._lives.answered)
            for found in self._run.records(record.seq, record.seq + _TRIAL_EVENTS):
                own = self._lives.same_process(found.node, record.node)
                if own and found.incarnation > record.incarnation:
                    break  # it died again
                try:
                    if playback.feed(found).divergences:
                        return playback.compared, True
                except HandlerFailure as failure:
                    # What others make anew in this replay is not there yet: then nothing more can be known.
                    return playback.compared, not isinstance(failure.__cause__, BlobMissing)
                cast.enter_future(found.seq)
            return playback.compared, False
        except HandlerFailure:
            return -1, True
        finally:
            cast.close()

    def _copy_snapshots(self) -> None:
        """A node that goes on from a cut may look for what it has saved before."""
        source = self._run.plan.checkpoint_directory(self._run.directory.root)
        if source.is_dir():
            shutil.copytree(source, self._scratch / "checkpoints", ignore=shutil.ignore_patterns(".*"))


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
        (LEARNT | COLLECTED) & set(node_class(entry).emits) for entry in run.nodes if entry.name in names
    )
    # One that is killed leaves it to the next run to sweep.
    scratch = OutsideFolder(Path(tempfile.gettempdir()))
    try:
        with one_thread(framework=computes):
            made = Stage(run, names, scratch.path, cut, asked=asked, compare=compare, go_on=go_on)
            try:
                yield made
            finally:
                made.close()
    finally:
        scratch.remove()


def begin(run: RecordedRun, names: Collection[str], first: int) -> Cut | None:
    """The newest cut from which event ``first`` can be reached by these nodes; None for the first event of
    the run, where there is none, or where one of them cannot be taken up at a cut."""
    for cut in run.complete_cuts(first):
        if all(cut.taken[name].repeats for name in names if name in cut.taken) and not run.cuts.damage(
            cut, names
        ):
            return cut
    return None
