"""What the hub knows of each node: which life, which number comes next, and the last identity it had.

Pure bookkeeping, without sockets and files, so that every rule can be tested by itself. It is rebuilt from
the journal when the hub starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from optix_bus.bus.record import Record

ACCEPTED = ""
#: Why an event was not taken. The first two are part of normal recovery, the others are somebody's mistake.
DUPLICATE = "duplicate"
REPEATED = "repeated"
GAP = "gap"
FENCED = "fenced"
UNANNOUNCED = "unannounced"
FUTURE_CAUSE = "future_cause"


@dataclass(slots=True)
class NodeState:
    """One node. ``expected`` is the next number to take, ``journaled`` the same for what is safe on disk;
    both are -1 until the node's present process has said HELLO to this hub process."""

    incarnation: int = -1
    session: str = ""
    expected: int = -1
    journaled: int = -1
    cause: int = 0
    index: int = -1
    root: int = -1
    progress: int = -1


class NodeSummary(msgspec.Struct, array_like=True):
    """What outlives a hub: written at the start of every segment."""

    incarnation: int
    session: str
    cause: int
    index: int
    root: int


class Ledger:
    """All nodes that ever said HELLO in this run."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeState] = {}

    def hello(self, node: str, incarnation: int, session: str, number: int) -> str:
        """Let a process speak for a node from ``number`` on; returns why not, or an empty string.

        A higher incarnation fences the lower ones. The same process may say HELLO as often as it likes.
        """
        state = self.nodes.get(node)
        if state is None:
            state = self.nodes[node] = NodeState()
        if incarnation < state.incarnation:
            return "older_incarnation"
        if incarnation == state.incarnation and session != state.session:
            return "another_process"
        if incarnation > state.incarnation:
            state.incarnation = incarnation
            state.session = session
            state.expected = number
        else:
            # The hub may have taken more than the link has seen acknowledged; it never knows less, unless the
            # hub was restarted (-1) or the link acknowledged by identity what it had not sent yet.
            state.expected = max(state.expected, number)
        state.journaled = state.expected
        return ACCEPTED

    def is_new(self, node: str, incarnation: int, session: str) -> bool:
        """Whether a HELLO would change what must outlive the hub."""
        state = self.nodes.get(node)
        return state is None or (state.incarnation, state.session) != (incarnation, session)

    def accept(self, node: str, incarnation: int, number: int, cause: int, index: int, head: int) -> str:
        """Take one event, or say why not.

        ``head`` is the last sequence number given so far. Only the expected number is taken (go-back-N). An
        expected number with a repeated identity or an impossible cause is used up, but not an event.
        """
        state = self.nodes.get(node)
        if state is None or state.expected < 0:
            return UNANNOUNCED
        if incarnation != state.incarnation:
            return FENCED if incarnation < state.incarnation else UNANNOUNCED
        if number != state.expected:
            return DUPLICATE if number < state.expected else GAP
        state.expected = number + 1
        if cause == 0:
            if index <= state.root:
                return REPEATED
            state.root = index
            return ACCEPTED
        if cause > head:
            return FUTURE_CAUSE
        if cause < state.cause or (cause == state.cause and index <= state.index):
            return REPEATED
        state.cause = cause
        state.index = index
        return ACCEPTED

    def settle(self) -> None:
        """Everything taken so far is in the journal: from now on the beacon may say so."""
        for state in self.nodes.values():
            state.journaled = state.expected

    def note_hello(self, node: str, incarnation: int, session: str) -> None:
        """Read back a HELLO from the journal."""
        state = self.nodes.setdefault(node, NodeState())
        state.incarnation = incarnation
        state.session = session

    def note_record(self, record: Record) -> None:
        """Read back an event from the journal."""
        state = self.nodes.setdefault(record.node, NodeState())
        state.incarnation = max(state.incarnation, record.incarnation)
        if record.cause == 0:
            state.root = record.index
        else:
            state.cause = record.cause
            state.index = record.index

    def dump(self) -> dict[str, NodeSummary]:
        """What a restarted hub needs."""
        return {
            name: NodeSummary(state.incarnation, state.session, state.cause, state.index, state.root)
            for name, state in self.nodes.items()
        }

    def load(self, summaries: Iterable[tuple[str, NodeSummary]]) -> None:
        """Take back what `dump` gave."""
        for name, summary in summaries:
            self.nodes[name] = NodeState(
                incarnation=summary.incarnation,
                session=summary.session,
                cause=summary.cause,
                index=summary.index,
                root=summary.root,
            )
