"""An inline runner that stops between any two events and can be set up again from the states of its nodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from optix_bus.bus import blob_format
from optix_bus.messages import Event, RunFinished, RunStarted
from optix_bus.runtime.fold import Fold
from optix_bus.runtime.node import Node
from optix_bus.types import BlobRef, NamedArrays

Build = Callable[[], Mapping[str, Node]]
_FIRST_STAMP = 1_700_000_000_000_000_000


def stored(content: NamedArrays) -> bytes:
    """The bytes that lie on disk."""
    return b"".join(blob_format.parts(content))


class Store:
    """Blobs as bytes, never retired."""

    keeps_objects = False

    def __init__(self, blobs: Mapping[str, bytes] | None = None) -> None:
        self.blobs = dict(blobs or {})

    def write(self, name: str, content: NamedArrays) -> BlobRef:
        content_bytes = self.blobs[name] = stored(content)
        digest = blob_format.checksum([memoryview(content_bytes)])
        return BlobRef(name=name, bytes=len(content_bytes), checksum=digest, owner=name.partition("/")[0])

    def read(self, ref: BlobRef) -> NamedArrays:
        return blob_format.parse(self.blobs[ref.name], ref.name)

    def retire(self, name: str) -> None:
        """Kept: whoever is set up again reads it once more."""


@dataclass(frozen=True)
class Boundary:
    """Everything between two events: what nodes know, and what is under way."""

    sequence: int
    states: dict[str, bytes]
    queue: tuple[tuple[str, int, int, Event], ...]
    blobs: dict[str, bytes]


class Stage:
    """Nodes, and the queue of what they say. One event a step; `stream` holds what was said, as bytes."""

    def __init__(self, build: Build, *, seed: int, first_stamp: int = _FIRST_STAMP) -> None:
        self._first_stamp = first_stamp
        self.store = Store()
        self.folds = [Fold(name, node, seed=seed, store=self.store) for name, node in build().items()]
        self.sequence = 0
        self.stream: list[bytes] = []
        self.events: list[Event] = []
        self.remarks: list[str] = []
        self.finished: RunFinished | None = None
        self.queue: deque[tuple[str, int, int, Event]] = deque()
        self.queue.append(("supervisor", 0, 0, RunStarted(run_id="stage", seed=seed)))
        for fold in self.folds:
            fold.node.setup()

    @classmethod
    def at(cls, build: Build, boundary: Boundary, *, seed: int, branch: int = 0) -> Stage:
        """New nodes that go on from a boundary, in one of several futures."""
        stage = cls(build, seed=seed)
        stage.sequence = boundary.sequence
        stage.queue = deque(boundary.queue)
        stage.store.blobs.update(boundary.blobs)
        for fold in stage.folds:
            state = blob_format.parse(boundary.states[fold.name], fold.name)
            stage.remarks += fold.node.load_state(state)
            if branch:
                fold.branch = branch
                fold.node.branch(branch)
        return stage

    def boundary(self) -> Boundary:
        return Boundary(self.sequence, self.states(), tuple(self.queue), dict(self.store.blobs))

    def states(self) -> dict[str, bytes]:
        return {fold.name: stored(fold.node.state()) for fold in self.folds}

    def node(self, name: str) -> Any:
        return next(fold.node for fold in self.folds if fold.name == name)

    def step(self) -> None:
        node, cause, index, event = self.queue.popleft()
        self.sequence += 1
        self.events.append(event)
        self.stream.append(msgspec.msgpack.encode([node, cause, index, type(event).__name__, event]))
        for fold in self.folds:
            if type(event) in fold.accepts:
                said = fold.apply(event, self.sequence, self._first_stamp + self.sequence * 10**6)
                self.queue.extend((fold.name, self.sequence, i, each) for i, each in enumerate(said))
        if isinstance(event, RunFinished):
            self.finished = event

    def run(self) -> Stage:
        while self.finished is None:
            self.step()
        return self

    def run_with_boundaries(self) -> list[Boundary]:
        """Every place between two events, with the one before the first."""
        found = [self.boundary()]
        while self.finished is None:
            self.step()
            found.append(self.boundary())
        return found

    def close(self) -> None:
        for fold in self.folds:
            fold.node.teardown()
