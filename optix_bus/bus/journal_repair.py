"""Makes a journal that a hub can go on with out of one that is damaged, and saves what does not fit into it.

A journal has no holes. So the repaired one holds the events up to the first that is lost, and what can be
read behind that goes into salvage: each row of events without a gap becomes a small journal of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from optix_bus.bus.journal_closing import read_mark
from optix_bus.bus.journal_files import segments
from optix_bus.bus.journal_pieces import Piece, Survey, read_piece, survey
from optix_bus.bus.journal_rewriter import JournalRewriter
from optix_bus.bus.journal_rules import JournalRules
from optix_bus.bus.journal_whole import Metadata
from optix_bus.bus.ledger import NodeState
from optix_bus.errors import ConfigurationError, JournalError


@dataclass(frozen=True, slots=True)
class Saved:
    """Events ``first`` to ``last`` are in a journal at ``path``; without any, ``last`` is one less."""

    first: int
    last: int
    path: Path


@dataclass(slots=True)
class Repair:
    """What a repair did.

    Attributes:
        kept: the repaired journal.
        salvaged: what is behind holes, oldest first.
        lost: (first, last) of events that nobody can read any more.
        remarks: what else is not as it was.
        moved: events of the repaired journal stand at other places than before.
    """

    kept: Saved
    salvaged: list[Saved] = field(default_factory=list)
    lost: list[tuple[int, int]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    moved: bool = False


def repair_journal(source: Path, target: Path, *, salvage: Path | None = None, run: str = "") -> Repair:
    """Write a repaired copy; the source is left as it is.

    Args:
        source: a journal that no hub writes.
        target: a folder that is not there yet.
        salvage: a folder for what is behind a hole, made where it is needed; by default ``TARGET.salvage``,
            with a number behind it where there is one already.
        run: name of the run, for a journal that has lost it.

    Raises:
        ConfigurationError: ``target`` or ``salvage`` is there already.
        JournalError: a hub writes the journal, there is none, or the disk is full.
    """
    salvage = salvage or free_name(target.with_name(f"{target.name}.salvage"))
    for folder in (target, salvage):
        if folder.exists():
            raise ConfigurationError(f"{folder} exists already: name a new folder, or remove that one first")
    if not segments(source):
        raise JournalError(f"{source} holds no journal: no file in it is named like a segment")
    with unused(source):
        found = survey(source)
        try:
            return _Repairing(source, found, found.run or run).repair(target, salvage)
        except BaseException:
            for folder in (target, salvage):
                shutil.rmtree(folder, ignore_errors=True)
            raise


def replace_journal(source: Path, repaired: Path) -> Path:
    """Put a repaired journal in the place of the damaged one; returns where that is now."""
    backup = free_name(source.with_name(f"{source.name}.damaged"))
    with unused(source):
        source.rename(backup)
        repaired.rename(source)
    return backup


def free_name(path: Path) -> Path:
    """The path, with a number behind it where something is there already."""
    free, count = path, 2
    while free.exists():
        free, count = path.with_name(f"{path.name}-{count}"), count + 1
    return free


@contextlib.contextmanager
def unused(directory: Path) -> Iterator[None]:
    """Keep hubs away from a journal.

    Raises:
        JournalError: one is at work.
    """
    try:
        descriptor = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise JournalError(f"a hub writes the journal in {directory}: end its run first") from None
    finally:
        os.close(descriptor)


class _Repairing:
    """One repair."""

    def __init__(self, source: Path, found: Survey, run: str) -> None:
        self._source = source
        self._found = found
        self._run = run
        self._remarks: list[str] = []
        #: Which life of each node spoke last, with its session.
        self._lives: dict[str, NodeState] = {}

    def repair(self, target: Path, salvage: Path) -> Repair:
        """Write the continuous beginning, then the rest."""
        pieces = list(self._found.pieces)
        kept, moved = self._save(target, self._found.first, pieces)
        repair = Repair(kept, remarks=self._remarks, moved=moved)
        while pieces := [piece for piece in pieces if piece.last >= piece.first]:
            first = pieces[0].first
            repair.salvaged.append(self._save(salvage / f"{first:020d}", first, pieces, lenient=True)[0])
        repair.lost = self._lost([repair.kept, *repair.salvaged])
        return repair

    def _save(
        self, folder: Path, first: int, pieces: list[Piece], *, lenient: bool = False
    ) -> tuple[Saved, bool]:
        """Move pieces into a journal as long as they fit; what does not is left in the list."""
        rules = self._rules(first)
        with JournalRewriter(folder, self._run, rules, first, self._remarks, lenient=lenient) as writing:
            while pieces and pieces[0].first <= writing.next:
                rest = self._copy(pieces.pop(0), writing)
                if rest is not None:
                    pieces.insert(0, rest)
                    break
        for node, state in rules.ledger.nodes.items():
            self._lives[node] = NodeState(incarnation=state.incarnation, session=state.session)
        return Saved(first, writing.next - 1, folder), writing.moved

    def _rules(self, first: int) -> JournalRules:
        """What is known where a journal begins that starts with this event."""
        rules = JournalRules(first)
        if first in self._found.states:
            rules.state(self._found.states[first], first)
        elif first == self._found.first and first != 1:
            self._remarks.append(f"what was known of the nodes before event {first} is lost")
        elif first != 1:
            # Who lives is known; what was said in the hole is not.
            rules.ledger.nodes.update({node: replace(state) for node, state in self._lives.items()})
        rules.has_hub = self._found.has_hub
        return rules

    def _copy(self, piece: Piece, writing: JournalRewriter) -> Piece | None:
        """Write one piece; gives back the rest of it where an event breaks a rule."""
        writing.enter(piece.segment)
        for start, end, content, data in read_piece(self._source, piece):
            if isinstance(content, Metadata):
                writing.metadata(content)
            elif content.seq >= writing.next and not writing.event(content, data, (piece.segment, end)):
                return Piece(piece.segment, start, piece.end, content.seq, piece.last)
        return None

    def _lost(self, saved: list[Saved]) -> list[tuple[int, int]]:
        expected, lost = self._found.first, []
        for each in sorted(saved, key=lambda each: each.first):
            if each.first > expected:
                lost.append((expected, each.first - 1))
            expected = max(expected, each.last + 1)
        with contextlib.suppress(JournalError):
            mark = read_mark(self._source)
            if mark is not None and mark.head >= expected:
                lost.append((expected, mark.head))
        return lost
