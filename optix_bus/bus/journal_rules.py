"""What holds in every journal that a hub has written: stamps, identities and lives of nodes.

Bytes may be whole and still not be what a hub wrote: a record that was copied, swapped or left out, or a hub
that was wrong.
"""

from __future__ import annotations

from optix_bus.bus.journal_files import SegmentState
from optix_bus.bus.ledger import Ledger, NodeState
from optix_bus.bus.record import Stored


class JournalRules:
    """Judges what comes next in a journal.

    Attributes:
        stamp_ns: stamp of the last one.
        run: name of the run, where a segment has said it.
        complete: nothing is missing of what was before, so that what is not known was never there.
        has_hub: somebody has said HELLO, so that everybody has to.
        ledger: what is known of each node.
    """

    def __init__(self, first: int = 1) -> None:
        self.stamp_ns = 0
        self.run = ""
        self.complete = first == 1
        self.has_hub = False
        self.ledger = Ledger()

    def event(self, event: Stored) -> str:
        """Take in an event; says what is wrong with it, or nothing. Its number is for others to judge."""
        wrong = ""
        if event.stamp_ns <= self.stamp_ns:
            wrong = f"its stamp {event.stamp_ns} is not behind the one before, {self.stamp_ns}"
        else:
            self.stamp_ns = event.stamp_ns
        state = self.ledger.nodes.get(event.node)
        if state is None or event.incarnation != state.incarnation:
            state, unannounced = self._life(event, state)
            wrong = unannounced or wrong
        cause, index = event.cause, event.index
        if cause == 0:
            if index > state.root:
                state.root = index
            else:
                wrong = f"root {index} of {event.node} comes behind its root {state.root}"
        elif cause >= event.seq:
            wrong = f"its cause {cause} is no earlier event"
        elif cause > state.cause or (cause == state.cause and index > state.index):
            state.cause, state.index = cause, index
        else:
            wrong = (
                f"identity ({cause}, {index}) of {event.node} comes behind its ({state.cause}, {state.index})"
            )
        return wrong

    def _life(self, event: Stored, state: NodeState | None) -> tuple[NodeState, str]:
        """An event of another incarnation than the last. The hub takes those of the one that said HELLO last;
        where nobody ever did, there was no hub: an inline run."""
        before = state.incarnation if state is not None else -1
        if state is None:
            state = self.ledger.nodes[event.node] = NodeState()
        state.incarnation = max(before, event.incarnation)
        if event.incarnation > before and not (self.has_hub and self.complete):
            return state, ""
        found = f"incarnation {event.incarnation} of {event.node}"
        return state, f"{found} has not said HELLO; the last that did is {before}" if before >= 0 else (
            f"{found} has not said HELLO"
        )

    def hello(self, node: str, incarnation: int, session: str) -> str:
        """Take in a HELLO; says what is wrong with it, or nothing."""
        self.has_hub = True
        state = self.ledger.nodes.get(node)
        if state is not None and incarnation <= state.incarnation:
            return f"incarnation {incarnation} of {node} says HELLO behind incarnation {state.incarnation}"
        self.ledger.note_hello(node, incarnation, session)
        return ""

    def state(self, state: SegmentState, first_seq: int) -> str:
        """Take in what a segment knew when it began; says where the segments before it said otherwise."""
        wrong = ""
        if state.first_seq != first_seq:
            wrong = f"it was written for event {state.first_seq}, the file is named after {first_seq}"
        elif self.run and state.run != self.run:
            wrong = f"it belongs to run {state.run}, the segments before it to {self.run}"
        elif self.complete and (state.stamp_ns, state.nodes) != (self.stamp_ns, self.ledger.dump()):
            wrong = "it knows other stamps, nodes or identities than the events before it"
        if not wrong:
            self.run = state.run
            if not self.complete:
                self.stamp_ns = max(self.stamp_ns, state.stamp_ns)
                self.ledger.load(state.nodes.items())
                self.complete = True
                self.has_hub = any(node.session for node in state.nodes.values())
        return wrong

    def gap(self) -> None:
        """Something is missing: what was said there is not known."""
        self.complete = False
