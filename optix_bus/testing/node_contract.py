"""What a runner expects of a node, as tests that a user's own node can run.

    class TestMyNode(NodeContract):
        node_class = MyNode
        settings = {"window": 20}

        def events(self, store):
            yield WindowJudged(...)

A node is a closed fold: the same events must give the same answers, whenever and wherever it runs; and a new
node that takes over the state of another, between any two events, must go on as that one would have.
"""

from __future__ import annotations

import dataclasses
import inspect
import tempfile
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest

from optix_bus.bus import blob_format
from optix_bus.errors import BlobError
from optix_bus.messages import Event
from optix_bus.runtime.fold import BlobStore, Fold
from optix_bus.runtime.local_store import LocalStore
from optix_bus.runtime.node import Context, Node, NoSettings
from optix_bus.types import BlobRef, EpisodeData, NamedArrays

_LARGEST_EVENT = 64 * 1024
_FIRST_STAMP = 1_700_000_000_000_000_000


class NodeContract:
    """Subclass it as ``Test...``, name your node and write `events`; pytest does the rest.

    Attributes:
        node_class: the node under test.
        settings: what a topology would say about it; checked against ``node_class.settings``.
        role: its role, for nodes that have one.
        has_validation, has_optimizer, has_evolution, shares_agent, lookahead: what else is in the topology.
        has_variant_nodes: whether variants there have nodes of their own.
        variant: the variant that it belongs to; 0 for a node of the topology.
        seed: of the run.
    """

    node_class: ClassVar[type[Node]]
    settings: ClassVar[dict[str, Any]] = {}
    role: ClassVar[str] = ""
    has_validation: ClassVar[bool] = True
    has_optimizer: ClassVar[bool] = False
    has_evolution: ClassVar[bool] = False
    shares_agent: ClassVar[bool] = False
    lookahead: ClassVar[int] = 0
    has_variant_nodes: ClassVar[bool] = False
    variant: ClassVar[int] = 0
    seed: ClassVar[int] = 7

    def events(self, store: BlobStore) -> Iterable[Event]:
        """A piece of the life of the node: events that it handles, in order, and enough to make it answer.

        An event that points to arrays gets its `BlobRef` from ``store.write("NODE/KIND-000001", arrays)``.
        """
        raise NotImplementedError("write events() in your subclass")

    def make_agent(self) -> Any:
        """A fresh agent, for nodes that ask their site for one."""
        raise NotImplementedError("the node asks for an agent: write make_agent() in your subclass")

    def make_pipeline(self, settings: Any) -> Any:
        """A fresh pipeline, for nodes that ask their site for one."""
        raise NotImplementedError("the node asks for a pipeline: write make_pipeline() in your subclass")

    def make_node(self, folder: Path) -> Node:
        """The node, built as a topology would; override it where yours is built otherwise."""
        cls = self.node_class
        settings = msgspec.convert(self.settings, cls.settings) if self.settings else cls.settings()
        return cls.build(settings, _Place(self, folder))

    @pytest.fixture
    def folder(self) -> Iterator[Path]:
        """A run directory for the test."""
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)

    def test_it_declares_event_types_and_each_once(self) -> None:
        """``emits``, ``optional`` and the marked handlers hold event types."""
        cls = self.node_class
        for declared in (cls.emits, cls.optional, cls.accepts()):
            assert all(isinstance(kind, type) and issubclass(kind, Event) for kind in declared)
            assert len(set(declared)) == len(declared)
        assert cls.accepts(), "a node that handles nothing never runs: mark a method with @handles(...)"
        assert set(cls.optional) <= set(cls.accepts()), "optional names a type that no method handles"

    def test_its_handlers_are_typed(self) -> None:
        """A handler takes the types that it is marked with and a context, and returns nothing."""
        for kind, name in self.node_class._handlers.items():
            handler = getattr(self.node_class, name)
            parameters = list(inspect.signature(handler).parameters)
            assert len(parameters) == 3, f"{name} takes {parameters}, expected (self, event, ctx)"
            hints = typing.get_type_hints(handler)
            assert set(parameters[1:]) <= hints.keys(), f"{name} lacks annotations"
            taken = _members(hints[parameters[1]])
            assert kind in taken, f"{name} does not say that it takes {kind.__name__}"
            assert hints[parameters[2]] is Context
            assert hints.get("return", None) is type(None), f"{name} must return None: it answers by ctx.emit"

    def test_its_settings_can_stand_in_a_topology(self) -> None:
        """They are a frozen dataclass, or the node has none."""
        kind = self.node_class.settings
        if kind is NoSettings:
            pytest.skip("the node has no settings")
        assert dataclasses.is_dataclass(kind), f"{kind.__name__} is no dataclass"
        assert kind.__dataclass_params__.frozen, f"{kind.__name__} is not frozen"  # type: ignore[attr-defined]
        msgspec.convert(self.settings, kind)

    def test_it_is_built_from_its_settings(self, folder: Path) -> None:
        """`build` gives a node of this class that opens and closes, also when nothing happens."""
        node = self.make_node(folder)
        assert isinstance(node, self.node_class)
        node.setup()
        node.teardown()

    def test_it_answers_with_what_it_declares_and_what_can_travel(self, folder: Path) -> None:
        """What it emits is declared, small enough, and the same after a journey."""
        answers = [event for batch in self._replay(folder).batches for event in batch]
        assert answers or not self.node_class.emits, "events() never makes the node answer"
        for event in answers:
            sent = msgspec.msgpack.encode(event)
            assert len(sent) <= _LARGEST_EVENT, f"{type(event).__name__} is too large: use write_blob"
            if type(event) in self.node_class.emits:
                assert msgspec.msgpack.encode(msgspec.msgpack.decode(sent, type=type(event))) == sent

    def test_the_same_events_give_the_same_answers(self, folder: Path) -> None:
        """Nothing but events and blobs may influence it: no clock, no chance, nothing left behind."""
        _same(self._replay(folder / "first"), self._replay(folder / "second"))

    def test_numbers_of_events_decide_nothing(self, folder: Path) -> None:
        """Sequence numbers differ between two runs of one seed, so no answer may depend on them."""
        _same(self._replay(folder / "first"), self._replay(folder / "second", first_sequence=1000))

    def test_its_state_depends_on_events_alone(self, folder: Path) -> None:
        """The same seed gives the same bytes: a state holds neither stamps nor numbers of events."""
        first = self._replay(folder / "first")
        second = self._replay(folder / "second", first_sequence=1000, first_stamp=2 * _FIRST_STAMP)
        for number, (one, other) in enumerate(zip(first.states, second.states, strict=True)):
            assert one == other, (
                f"the state after event {number} is another when the same events come at another time: it "
                f"must hold no stamp, no sequence number and nothing random\n{_difference(one, other)}"
            )

    def test_it_goes_on_from_its_state(self, folder: Path) -> None:
        """A fresh node with the state of another, taken over between any two events, gives the answers that
        the other would have given, and has the same state."""
        whole = self._replay(folder / "whole")
        for cut in range(1, len(whole.batches)):
            parts = self._replay(folder / f"cut-{cut}", cut=cut)
            if not (whole.repeats and parts.repeats):
                continue  # it says itself that it cannot
            place = f"a fresh node took over before event {cut}"
            one, other = whole.states[cut - 1], parts.taken
            assert one == other, f"{place}: load_state() lost something\n{_difference(one, other)}"
            _same(whole, parts, f"; {place}, and state() must hold all that the answers depend on")

    def _replay(
        self,
        folder: Path,
        *,
        first_sequence: int = 1,
        first_stamp: int = _FIRST_STAMP,
        cut: int | None = None,
    ) -> _Replayed:
        """The answers to `events`; with ``cut`` a fresh node takes over before that event."""
        folder.mkdir(parents=True, exist_ok=True)
        store = _Keeping()
        events = list(self.events(store))
        store.written.clear()
        node = self.make_node(folder)
        node.setup()
        fold = Fold("node", node, seed=self.seed, store=store)
        replayed = _Replayed([], store.written, [])
        try:
            for number, event in enumerate(events):
                kind = type(event)
                assert kind in fold.accepts, f"events() gives {kind.__name__}, which the node does not handle"
                if number == cut:
                    state = _stored(node)
                    node.teardown()
                    node = self.make_node(folder)
                    node.setup()
                    remarks: Any = node.load_state(blob_format.parse(state, "state"))
                    assert isinstance(remarks, Sequence), (
                        f"load_state() returned {remarks!r}, expected remarks for people: texts, or ()"
                    )
                    fold = Fold("node", node, seed=self.seed, store=store)
                    replayed.taken = _stored(node)
                replayed.batches.append(
                    list(fold.apply(event, first_sequence + number, first_stamp + number * 10**9))
                )
                replayed.states.append(_stored(node))
            replayed.repeats = node.repeats
        finally:
            node.teardown()
        return replayed


@dataclasses.dataclass
class _Replayed:
    batches: list[list[Event]]
    blobs: dict[str, Any]
    #: The node's state after each event, and that of a fresh node which took over.
    states: list[bytes]
    taken: bytes = b""
    repeats: bool = True


class _Keeping(LocalStore):
    """Remembers every blob of the node, also those that are retired."""

    def __init__(self) -> None:
        super().__init__()
        self.written: dict[str, Any] = {}

    def write(self, name: str, content: Any) -> BlobRef:
        ref = super().write(name, content)
        self.written[name] = self.read(ref)
        return ref


class _Place:
    """The `Site` of a node under test."""

    name = "node"
    run_id = "contract"

    def __init__(self, contract: NodeContract, folder: Path) -> None:
        self.role = contract.role
        self.seed = contract.seed
        self.checkpoint_directory = str(folder)
        self.has_validation = contract.has_validation
        self.has_optimizer = contract.has_optimizer
        self.has_evolution = contract.has_evolution
        self.shares_agent = contract.shares_agent
        self.lookahead = contract.lookahead
        self.has_variant_nodes = contract.has_variant_nodes
        self.variant = contract.variant
        self.agent = contract.make_agent
        self.pipeline = contract.make_pipeline

    def variant_nodes(self, variant: int) -> tuple[str, ...]:
        return (f"variant-{variant}-learner", f"variant-{variant}-pipeline")


def _members(annotation: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    if typing.get_origin(annotation) in (typing.Union, UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _stored(node: Node) -> bytes:
    """The state as it lies on disk: what JSON and arrays cannot hold shows here."""
    state = node.state()
    assert isinstance(state, NamedArrays), f"state() returned {type(state).__name__}, expected NamedArrays"
    try:
        return b"".join(blob_format.parts(state))
    except BlobError as error:
        raise AssertionError(f"state() cannot be written: {error}") from error


def _difference(one: bytes, other: bytes) -> str:
    """Where two states differ, by name."""
    first, second = blob_format.parse(one, "first"), blob_format.parse(other, "second")
    for kind, left, right in (
        ("metadata", dict(first.metadata), dict(second.metadata)),
        ("array", dict(first.arrays), dict(second.arrays)),
    ):
        for name in sorted({*left, *right}):
            if name not in left or name not in right or str(left[name]) != str(right[name]):
                return f"{kind} {name!r}: {left.get(name, 'missing')} and {right.get(name, 'missing')}"
    return "dtypes or shapes of arrays differ"


def _same(first: _Replayed, second: _Replayed, why: str = "") -> None:
    """Encoded, because NaN does not equal itself."""
    assert len(first.batches) == len(second.batches)
    for number, (one, other) in enumerate(zip(first.batches, second.batches, strict=True)):
        place = f"answers to event {number}{why}"
        assert [type(event) for event in one] == [type(event) for event in other], place
        for left, right in zip(one, other, strict=True):
            assert msgspec.msgpack.encode(left) == msgspec.msgpack.encode(right), place
    assert first.blobs.keys() == second.blobs.keys()
    for name, content in first.blobs.items():
        for key, array in _arrays(content).items():
            np.testing.assert_array_equal(array, _arrays(second.blobs[name])[key], err_msg=f"{name}: {key}")


def _arrays(content: NamedArrays | EpisodeData) -> dict[str, Any]:
    if isinstance(content, NamedArrays):
        return dict(content.arrays)
    names = ("observations", "actions", "rewards", "terminated", "truncated")
    return {name: np.asarray(getattr(content, name)) for name in names}
