"""One node at work: the event in hand, what it may reach, and what it wants to say.

Both the inline runner and the process host drive nodes through `Fold`; so a node cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optix_bus.errors import NodeFailure
from optix_bus.messages import Event, TimerSet
from optix_bus.runtime.log import NodeLog
from optix_bus.runtime.node import Log, Node
from optix_bus.runtime.randomness import stream
from optix_bus.types import BlobRef, EpisodeData, NamedArrays
from optix_bus.windows import pack


class BlobStore(Protocol):
    """Where blobs of one node live. `keeps_objects` is True where nothing leaves the process."""

    keeps_objects: bool

    def write(self, name: str, content: Any) -> BlobRef:
        """Keep the content under its name; waits while the budget is spent."""
        ...

    def read(self, ref: BlobRef) -> Any:
        """What is kept under the name of the reference."""
        ...

    def retire(self, name: str) -> None:
        """Nobody will ask for it again."""
        ...


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event with its place in the order.

    ``cause`` is the sequence number of the event whose handler emitted it (0 for a root), ``index`` counts
    the emissions of that handler (or the roots of that source).
    """

    sequence: int
    stamp_ns: int
    node: str
    cause: int
    index: int
    event: Event


class Fold:
    """A node with its context. `apply` is the whole life of a handler: event in, events out."""

    def __init__(
        self,
        name: str,
        node: Node,
        *,
        seed: int,
        store: BlobStore,
        log: Log | None = None,
        branch: int = 0,
    ) -> None:
        self.name = name
        self.node = node
        self.accepts = frozenset(node.accepts())
        self._seed = seed
        #: Which of several futures of a fork this is; 0 is the recorded one.
        self.branch = branch
        self._store = store
        self.log: Log = log if log is not None else NodeLog(name)
        self._emitted: list[Event] = []
        self.sequence = 0
        self._stamp_ns = 0

    def apply(self, event: Event, sequence: int, stamp_ns: int) -> list[Event]:
        """Handle one event; returns what the node emitted. After an exception nothing was emitted."""
        self._emitted = []
        self.sequence = sequence
        self._stamp_ns = stamp_ns
        self.node.handle(event, self)
        return self._emitted

    def repeat(self, event: Event, sequence: int, stamp_ns: int, recorded: Sequence[Event]) -> None:
        """Let the node take in an event whose answers are known; see `Node.repeat`."""
        self._emitted = []
        self.sequence = sequence
        self._stamp_ns = stamp_ns
        self.node.repeat(event, self, recorded)

    @property
    def now(self) -> float:
        """Seconds since the epoch, of the event in hand."""
        return self._stamp_ns / 1e9

    def emit(self, event: Event) -> None:
        """Queue an event; refused where the node has not declared its type."""
        if not isinstance(event, self.node.emits):
            raise NodeFailure(
                f"{type(self.node).__name__} emitted {type(event).__name__}, which it does not declare: "
                f"add it to `emits` ({', '.join(kind.__name__ for kind in self.node.emits) or 'empty'})"
            )
        self._emitted.append(event)

    def write_blob(self, kind: str, number: int, content: NamedArrays | EpisodeData) -> BlobRef:
        """Store arrays, or a window; see `Context.write_blob`."""
        name = f"{self.name}/{kind}-{number:06d}"
        if isinstance(content, EpisodeData) and not self._store.keeps_objects:
            content = pack(content)
        return self._store.write(name, content)

    def read_blob(self, ref: BlobRef) -> Any:
        """What `write_blob` stored; a window comes back packed unless it never left the process."""
        return self._store.read(ref)

    def rng(self, *key: int | str) -> Any:
        """The generator of (seed, this node, key)."""
        branch = ("branch", self.branch) if self.branch else ()
        return stream(self._seed, self.name, *branch, *key)

    def timer(self, key: str, seconds: float) -> None:
        """Queue `TimerSet`; the runner answers with `TimerFired`."""
        self._emitted.append(TimerSet(node=self.name, key=key, seconds=seconds))
