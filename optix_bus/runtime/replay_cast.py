"""The nodes of a replay: built under the plan that holds at an event, replaced where another one does."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from optix_bus.messages import Event
from optix_bus.runtime.fold import BlobStore, Fold
from optix_bus.runtime.node import Log, Node
from optix_bus.runtime.plan import NodePlan
from optix_bus.runtime.playback import Playback
from optix_bus.runtime.replay_run import RecordedRun, somewhere_else
from optix_bus.runtime.site import build_nodes
from optix_bus.types import NamedArrays


class Cast:
    """Nodes of a run, built anew. Close it.

    Args:
        run: what was recorded.
        names: the nodes.
        scratch: where everything that they write goes.
        store: their arrays.
        log: their words.
        asked: one of these nodes as it might have been.

    Attributes:
        folds: the nodes by name, in the order in which they act.
        remarks: what nodes said when they took up a state.
    """

    def __init__(
        self,
        run: RecordedRun,
        names: Collection[str],
        scratch: Path,
        store: BlobStore,
        log: Log,
        asked: NodePlan | None = None,
    ) -> None:
        self._run = run
        self._names = list(names)
        self._scratch = scratch
        self._store = store
        self._log = log
        self._asked = asked
        self._opened: list[tuple[str, Node]] = []
        self.folds: dict[str, Fold] = {}
        self.remarks: list[str] = []

    def begin(self, since: int, states: Mapping[str, NamedArrays]) -> None:
        """Build all nodes as they were behind an event, and give them these states."""
        nodes = self._build(since, self._names)
        for name, node in nodes.items():
            node.setup()
            self.folds[name] = Fold(name, node, seed=self._run.plan.seed, store=self._store, log=self._log)
        self._stand(since, nodes, states)

    def begin_again(self, names: Collection[str], since: int, states: Mapping[str, NamedArrays]) -> None:
        """Build some nodes anew, as `begin` does."""
        before = {name: self.folds[name].node for name in names}
        nodes = self._build(since, names)
        for name, node in nodes.items():
            node.setup()
            self.folds[name].node = node
        self._stand(since, nodes, states)
        self._dismiss(before)

    def enter_future(self, sequence: int, names: Collection[str] | None = None) -> None:
        """Where another plan holds behind an event, build nodes under it, with the states that they have."""
        if sequence not in self._run.boundaries:
            return
        chosen = list(self.folds) if names is None else names
        before = {name: self.folds[name].node for name in chosen}
        for name, node in self._build(sequence, chosen).items():
            state = before[name].state()
            node.setup()
            self.folds[name].node = node
            self._load(name, state)
        self._dismiss(before)
        self._take_branch(sequence, chosen)

    def catch_up(
        self,
        playback: Playback,
        names: Collection[str],
        since: int,
        until: int,
        answered: Mapping[str, int],
    ) -> None:
        """Let nodes that were built anew take in what the journal has behind ``since`` and before ``until``.

        ``answered`` is the last event that each of them has answered in an earlier life.
        """
        answers: dict[tuple[str, int], list[Event]] = {}
        for found in self._run.records(since + 1, until - 1):
            if found.node in names and found.cause:
                answers.setdefault((found.node, found.cause), []).append(self._run.decode(found))
        own = {name: answered[name] for name in names}
        for found in self._run.records(since + 1, until - 1):
            playback.again(found, own, answers)
            self.enter_future(found.seq, names)

    def close(self) -> None:
        """Tear all nodes down."""
        for name, node in reversed(self._opened):
            self._teardown(name, node)
        self._opened.clear()

    def _build(self, sequence: int, names: Collection[str]) -> dict[str, Node]:
        """Nodes under the plan that holds behind an event."""
        plan = self._run.plan.as_of(sequence)
        entries = plan.named(names)
        if self._asked is not None:
            entries = [self._asked if entry.name == self._asked.name else entry for entry in entries]
        nodes = build_nodes(somewhere_else(plan, entries, self._scratch))
        self._opened += nodes.items()
        return nodes

    def _stand(self, since: int, nodes: Collection[str], states: Mapping[str, NamedArrays]) -> None:
        for name in nodes:
            self.folds[name].branch = self._run.plan.as_of(since).branch
            if name in states:
                self._load(name, states[name])
        self._take_branch(since, nodes)

    def _load(self, name: str, state: NamedArrays) -> None:
        self.remarks += [f"{name}: {remark}" for remark in self.folds[name].node.load_state(state)]

    def _take_branch(self, sequence: int, names: Collection[str]) -> None:
        """Where the past of a forked run ends, and only there, chance takes another way."""
        branch = self._run.plan.as_of(sequence).branch
        if sequence in self._run.boundaries and branch:
            for name in names:
                self.folds[name].branch = branch
                self.folds[name].node.branch(branch)

    def _dismiss(self, nodes: dict[str, Node]) -> None:
        for name, node in reversed(nodes.items()):
            self._opened.remove((name, node))
            self._teardown(name, node)

    def _teardown(self, name: str, node: Node) -> None:
        try:
            node.teardown()
        except Exception as error:  # the others still have to be torn down
            self._log.warning(f"{name}: teardown failed", error=f"{type(error).__name__}: {error}")
