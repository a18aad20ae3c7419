"""What would one node have done with other settings, or with other code? Asked of a run as it was recorded.

The node gets the recorded events and its answers are laid beside the recorded ones. The answer is worth
something until the first event that is otherwise and that some other node acts on: the log cannot know what
would have followed. From there on only a fork can tell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from optix_bus.bus.record import Record
from optix_bus.errors import BlobMissing, ConfigurationError
from optix_bus.messages import CutAnnounced, CutTaken, RunFinished, TimerSet
from optix_bus.runtime.node import Node
from optix_bus.runtime.plan import NodePlan
from optix_bus.runtime.planning import make_plan
from optix_bus.runtime.playback import Emission, HandlerFailure
from optix_bus.runtime.replay_compare import all_fields
from optix_bus.runtime.replay_run import RecordedRun, node_class
from optix_bus.runtime.replay_session import Watch
from optix_bus.runtime.replay_stage import stage
from optix_bus.runtime.site import load
from optix_bus.runtime.topology import load_topology

#: They tell where to store states, which are of course others now; nobody learns or decides by them.
_OF_CUTS = frozenset({CutAnnounced.__name__, CutTaken.__name__})
#: The runner acts on these, whoever else does.
_OF_THE_RUNNER = frozenset({RunFinished.__name__, TimerSet.__name__})


@dataclass(frozen=True, slots=True)
class Change:
    """One field of one emitted event that is otherwise.

    Attributes:
        sequence: the recorded event; where there is none, the event that the node was answering.
        cause: the event that the node was answering.
        window: of the recorded or the new event; None for events without one.
        type: of the recorded event, or of the new one where nothing was recorded.
        field: ``type`` where only one of them was emitted.
        recorded, new: the values; None for nothing.
    """

    sequence: int
    cause: int
    window: int | None
    type: str
    field: str
    recorded: Any
    new: Any


@dataclass
class Kind:
    """The same field of the same type, again and again."""

    type: str
    field: str
    count: int
    first: Change


@dataclass
class Answer:
    """What differs, and how far that can be known.

    Attributes:
        node: who was asked about.
        last: the last event that was looked at.
        outputs: recorded outputs that were compared while the answer was valid.
        equal: how many of them are the same.
        first: the first change of all.
        kinds: the changes while the answer was valid, by type and field.
        void: the change from which on nothing can be known; None where the answer holds to the end.
        readers: who would have acted on it.
        notes: what a person should know.
    """

    node: str
    last: int
    outputs: int = 0
    equal: int = 0
    first: Change | None = None
    kinds: list[Kind] = field(default_factory=list)
    void: Change | None = None
    readers: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def what_if(
    run: RecordedRun, entry: NodePlan, *, last: int | None = None, watch: Watch | None = None
) -> Answer:
    """Play one node otherwise than it was in the run.

    Args:
        run: what was recorded.
        entry: the node as it might have been; its name says which one it stands for.
        last: look no further than this event.
        watch: looks on.

    Raises:
        ConfigurationError: arrays that the node needs were not recorded, or the node cannot be built.
        HandlerFailure: the node raises.
    """
    recorded = run.entry(entry.name)
    answer = Answer(entry.name, run.head if last is None else last)
    if run.plan.shares_agent and len(run.choose([entry.name])[0]) > 1:
        raise ConfigurationError(
            f"node {entry.name!r} shares one agent object with others and cannot be asked about alone"
        )
    beside = _Beside(run, entry, recorded, answer)
    watch = watch or Watch()
    with stage(run, [entry.name], asked=entry, go_on=True) as played_on:
        try:
            for record in run.records(last=answer.last):
                played_on.before(record)
                watch.before(record, played_on)
                played = played_on.playback.feed(record)
                played_on.turn(played)
                watch.after(played, played_on)
                beside.note(record, played.emitted)
                if answer.void is not None:
                    break
            else:
                beside.finish()
        except HandlerFailure as failure:
            if isinstance(failure.__cause__, BlobMissing):
                raise ConfigurationError(
                    f"{failure.__cause__}; node {entry.name!r} needs it, and only recorded arrays can be "
                    "used to ask what it would have done (run.record: blobs in the topology keeps them)"
                ) from failure
            raise
        answer.notes += played_on.notes
    return answer


class _Beside:
    """Lays new answers beside recorded ones, cause by cause, as soon as a cause can get no more of them."""

    def __init__(self, run: RecordedRun, entry: NodePlan, recorded: NodePlan, answer: Answer) -> None:
        self._name = entry.name
        self._answer = answer
        self._new: deque[tuple[int, list[Emission]]] = deque()
        self._recorded: dict[int, list[Record]] = {}
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._readers: dict[str, list[str]] = {}
        for other in run.nodes:
            kind = node_class(other)
            if other.name != entry.name and kind.emits:
                for accepted in kind.accepts():
                    self._readers.setdefault(accepted.__name__, []).append(other.name)
        for name in _OF_THE_RUNNER:
            self._readers.setdefault(name, []).append("the runner")

    def note(self, record: Record, emitted: Sequence[Emission]) -> None:
        """One event was fed. Identities of a node grow: what has a later cause closes the earlier ones."""
        if record.node == self._name and record.cause:
            self._recorded.setdefault(record.cause, []).append(record)
            self._close(record.cause)
        if emitted:
            self._new.append((record.seq, list(emitted)))

    def finish(self) -> None:
        """Nothing more will come."""
        self._close(self._answer.last + 1)

    def _close(self, before: int) -> None:
        while self._answer.void is None:
            causes = [
                cause
                for cause in (next(iter(self._recorded), before), self._oldest(before))
                if cause < before
            ]
            if not causes:
                return
            cause = min(causes)
            new = self._new.popleft()[1] if self._new and self._new[0][0] == cause else []
            self._compare(cause, self._recorded.pop(cause, []), new)

    def _oldest(self, otherwise: int) -> int:
        return self._new[0][0] if self._new else otherwise

    def _compare(self, cause: int, recorded: list[Record], new: list[Emission]) -> None:
        answer = self._answer
        void = None
        for before, now in _aligned(
            [record for record in recorded if record.type not in _OF_CUTS],
            [emission for emission in new if emission.type not in _OF_CUTS],
        ):
            answer.outputs += before is not None
            changes = _changes(cause, before, now)
            answer.equal += before is not None and not changes
            for change in changes:
                answer.first = answer.first or change
                kind = self._kinds.get((change.type, change.field))
                if kind is None:
                    kind = self._kinds[(change.type, change.field)] = Kind(
                        change.type, change.field, 0, change
                    )
                    answer.kinds.append(kind)
                kind.count += 1
                if void is None and change.type in self._readers:
                    void = change
        if void is not None:
            answer.void, answer.readers = void, self._readers[void.type]


def _aligned(
    recorded: Sequence[Record], new: Sequence[Emission]
) -> Iterator[tuple[Record | None, Emission | None]]:
    """Pairs of the same type, in order, as many as there can be; what has no partner stands alone."""
    lengths = [[0] * (len(new) + 1) for _ in range(len(recorded) + 1)]
    for i in reversed(range(len(recorded))):
        for j in reversed(range(len(new))):
            lengths[i][j] = (
                lengths[i + 1][j + 1] + 1
                if recorded[i].type == new[j].type
                else max(lengths[i + 1][j], lengths[i][j + 1])
            )
    i = j = 0
    while i < len(recorded) or j < len(new):
        if i < len(recorded) and j < len(new) and recorded[i].type == new[j].type:
            yield recorded[i], new[j]
            i, j = i + 1, j + 1
        elif j == len(new) or (i < len(recorded) and lengths[i + 1][j] >= lengths[i][j + 1]):
            yield recorded[i], None
            i += 1
        else:
            yield None, new[j]
            j += 1


def _changes(cause: int, recorded: Record | None, new: Emission | None) -> list[Change]:
    body = recorded.body if recorded is not None else new.body if new is not None else b"\x80"
    window = msgspec.msgpack.decode(body).get("window")
    if recorded is not None and new is not None:
        return [
            Change(recorded.seq, cause, window, recorded.type, each.field, each.expected, each.found)
            for each in all_fields(recorded.body, new.body)
        ]
    if recorded is not None:
        return [Change(recorded.seq, cause, window, recorded.type, "type", recorded.type, None)]
    assert new is not None
    return [Change(cause, cause, window, new.type, "type", None, new.type)]


def as_in_topology(entry: NodePlan, path: Path) -> NodePlan:
    """A node as the node of the same name in another topology file.

    Raises:
        TopologyError: the file is wrong.
        ConfigurationError: it has no such node, or one with another role.
    """
    topology = load_topology(path, build_environment=False)
    plan = make_plan(topology, run_id="what-if", run_directory=path.parent)
    found = next(iter(plan.named([entry.name])), None)
    if found is None:
        raise ConfigurationError(
            f"{path} has no node {entry.name!r}; its nodes: {', '.join(other.name for other in plan.nodes)}"
        )
    if found.role != entry.role:
        raise ConfigurationError(
            f"node {entry.name!r} has the role {found.role!r} in {path}, expected {entry.role!r} as in the "
            "run"
        )
    return msgspec.structs.replace(entry, settings=found.settings, class_path=found.class_path)


def of_class(entry: NodePlan, class_path: str) -> NodePlan:
    """A node of another class, with its own settings.

    Raises:
        ConfigurationError: there is no such class, or it is no node.
    """
    module, colon, name = class_path.partition(":")
    found = load(class_path) if module and colon and name else None
    if not (isinstance(found, type) and issubclass(found, Node)):
        raise ConfigurationError(f"{class_path!r} is no node class: expected module:Class")
    return msgspec.structs.replace(entry, class_path=class_path)
