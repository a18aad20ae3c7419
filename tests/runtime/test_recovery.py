"""Where a process begins, how it waits for arrays that are made again, and what it compares."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optix_bus.bus.blobs import FileBlobStore
from optix_bus.bus.codec import Codec
from optix_bus.bus.record import Record
from optix_bus.errors import BlobError, BlobMissing, NodeFailure
from optix_bus.messages import VOCABULARY, CutTaken, Event, LoopStateChanged, RolledBack, StopRequested
from optix_bus.runtime.fold import Fold
from optix_bus.runtime.local_store import LocalStore
from optix_bus.runtime.node import Node
from optix_bus.runtime.recovery import Beginning, PatientStore, Repetition
from optix_bus.types import NamedArrays
from tests.runtime.stories import NODES, Story, blob_ref, policy

CODEC = Codec(VOCABULARY)


class Remembering(Node):
    """Says whether it was given a state, and which."""

    def __init__(self, *remarks: str) -> None:
        self.given: list[float] = []
        self._remarks = remarks

    def load_state(self, state: NamedArrays) -> Sequence[str]:
        self.given.append(float(state.arrays["knows"][0]))
        return self._remarks


def folds(**nodes: Node) -> list[Fold]:
    return [Fold(name, node, seed=0, store=LocalStore()) for name, node in nodes.items()]


def beginning(story: Story, own: Sequence[str] = ("a",)) -> Beginning:
    return Beginning(story.root, story.journal, NODES, own)


# -- where it begins -----------------------------------------------------------------------------------------


def test_a_first_start_begins_at_the_first_event_and_touches_no_node(tmp_path: Path) -> None:
    node = Remembering()
    start = Beginning(tmp_path, tmp_path / "journal", NODES, ["a"])
    start.restore(folds(a=node))
    assert (start.sequence, start.near, start.cut, start.remarks, start.known()) == (0, None, None, [], [])
    assert node.given == []


def test_a_return_begins_at_the_newest_complete_cut(tmp_path: Path) -> None:
    with Story(tmp_path) as story:
        story.cut()
        story.pass_time(3)
        near = story.near
        second = story.cut(with_near=True)
        story.pass_time(2)
        story.cut(without=["b"])
    start = beginning(story, ["a", "b"])
    nodes = {"a": Remembering(), "b": Remembering("an episode was cut short")}
    start.restore(folds(**nodes))
    assert start.sequence == second.sequence
    assert start.near == (near[0], near[1:])
    assert [node.given for node in nodes.values()] == [[2.0], [2.0]]
    assert start.remarks == ["b: an episode was cut short"]
    assert [cut.number for cut in start.known()] == [1, 2]


def test_a_process_whose_own_state_is_damaged_begins_at_an_older_cut_and_says_so(tmp_path: Path) -> None:
    with Story(tmp_path) as story:
        first = story.cut()
        story.spoil(story.cut(), "a")
    start = beginning(story)
    node = Remembering()
    start.restore(folds(a=node))
    assert (start.sequence, node.given) == (first.sequence, [1.0])
    assert [remark.split(":")[0] for remark in start.remarks] == ["cut 2 (window 20) was skipped"]
    # It has not handled the newer one, so no blob may be retired for it yet.
    assert [cut.number for cut in start.known()] == [1]
    assert beginning(story, ["b"]).sequence > first.sequence


def test_answers_are_those_of_the_named_nodes_behind_the_cut(tmp_path: Path) -> None:
    said = [policy(number) for number in range(6)]
    with Story(tmp_path) as story:
        story.say("a", said[0], cause=1)
        cut = story.cut(with_near=True)
        one, other = cut.sequence + 1, cut.sequence + 2
        story.say("a", said[1], cause=one)
        story.say("a", StopRequested())
        story.say("b", said[2], cause=one)
        story.say("a", said[3], cause=one)
        story.say("a", said[4], cause=other)
        head = story.head
        story.say("a", said[5], cause=other)
    answers = beginning(story).answers(CODEC, {"a"}, head)
    # That the state was written is an answer to the announcement, which nobody handles again.
    assert [type(event) for event in answers.pop(("a", cut.sequence))] == [CutTaken]
    assert answers == {("a", one): [said[1], said[3]], ("a", other): [said[4]]}


# -- arrays that are made again ------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> FileBlobStore:
    return FileBlobStore(tmp_path / "shm", tmp_path / "shared", 10**6, "a")


def patient(
    store: FileBlobStore,
    waiting: Callable[[], bool] = lambda: True,
    serve: Callable[[], object] = lambda: None,
    seconds: float = 60.0,
) -> PatientStore:
    return PatientStore(store, waiting, serve, seconds)


ARRAYS = NamedArrays({"x": np.arange(3.0)})


def test_what_is_there_is_read_at_once(store: FileBlobStore) -> None:
    def forbidden() -> bool:
        raise AssertionError("it waited")

    made = patient(store, forbidden, forbidden)
    ref = made.write("a/policy-000001", ARRAYS)
    np.testing.assert_array_equal(made.read(ref).arrays["x"], np.arange(3.0))
    made.retire(ref.name)
    assert not made.keeps_objects
    with pytest.raises(BlobMissing):
        store.read(ref)


def test_while_the_past_is_repeated_a_reader_waits_for_the_writer_and_serves_its_link(
    store: FileBlobStore,
) -> None:
    ref = store.write("a/policy-000001", ARRAYS)
    store.retire(ref.name)
    served: list[None] = []

    def serve() -> None:
        served.append(None)
        if len(served) == 3:
            store.write(ref.name, ARRAYS)

    assert patient(store, serve=serve).read(ref).arrays["x"].tolist() == [0.0, 1.0, 2.0]
    assert len(served) == 3


def test_what_was_announced_after_the_return_is_missing_at_once(store: FileBlobStore) -> None:
    with pytest.raises(BlobMissing):
        patient(store, waiting=lambda: False, serve=lambda: pytest.fail("it waited")).read(blob_ref(1))


def test_a_reader_does_not_wait_for_ever(store: FileBlobStore) -> None:
    with pytest.raises(BlobMissing):
        patient(store, seconds=0.0).read(blob_ref(1))


def test_a_damaged_blob_is_not_waited_for(store: FileBlobStore, tmp_path: Path) -> None:
    ref = store.write("a/policy-000001", ARRAYS)
    path = tmp_path / "shm" / "a" / "policy-000001.safetensors"
    stored = path.read_bytes()
    path.write_bytes(stored[:-1] + bytes([stored[-1] ^ 1]))
    with pytest.raises(BlobError, match="damaged"):
        patient(store, serve=lambda: pytest.fail("it waited")).read(ref)


# -- what is said again --------------------------------------------------------------------------------------


def record(event: Event, seq: int = 50, cause: int = 40, index: int = 0) -> Record:
    return Record(seq, 1, "a", 1, cause, index, *CODEC.encode(event))


def compared(before: Event, now: Event | None, *, expected: bool = True) -> str:
    repetition = Repetition(CODEC)
    if expected:
        repetition.expect(["a"], 30, 60)
    if now is not None:
        repetition.said("a", 40, 0, *CODEC.encode(now))
    return repetition.compare(record(before))


def state_change(window: int = 3, new: str = "cooling") -> LoopStateChanged:
    return LoopStateChanged(window=window, old="active", new=new)  # type: ignore[arg-type]


def test_the_same_again_is_no_news() -> None:
    assert compared(policy(1, loss=math.nan), policy(1, loss=math.nan)) == ""


def test_other_numbers_are_put_in_words_and_the_run_goes_on() -> None:
    assert compared(policy(1, loss=0.5), policy(1, loss=0.25)) == (
        "a did not repeat event 50 (PolicyUpdated): diagnostics was {'loss': 0.5}, is {'loss': 0.25}"
    )


def test_only_what_differs_is_named_although_no_nan_equals_another() -> None:
    before = RolledBack(window=1, final=False, score=math.nan)
    assert compared(before, RolledBack(window=2, final=False, score=math.nan)).endswith(
        ": window was 1, is 2"
    )


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (policy(1), policy(1, blob_ref(2))),
        (policy(1), policy(1, blob_ref(1, size=101))),
        (RolledBack(window=1, final=False, policy=blob_ref(1)), RolledBack(window=1, final=False)),
        (RolledBack(window=1, final=False), RolledBack(window=1, final=False, policy=blob_ref(1))),
        (policy(1), state_change()),
        (state_change(), policy(1)),
        (policy(1), None),
    ],
)
def test_other_arrays_end_the_process(before: Event, now: Event | None) -> None:
    """Whoever reads them would go on from what the journal does not know."""
    with pytest.raises(NodeFailure, match=r"a did not repeat event 50 .*optix-bus replay"):
        compared(before, now)


def test_another_event_or_none_is_put_in_words() -> None:
    assert compared(state_change(), StopRequested()).endswith("(LoopStateChanged): it said StopRequested")
    assert compared(state_change(), None).endswith("(LoopStateChanged): it said nothing")


@pytest.mark.parametrize(
    "met",
    [
        record(policy(1), seq=61, cause=60),
        record(policy(1), seq=35, cause=30),
        record(policy(1), seq=50, cause=0),
        Record(50, 1, "b", 1, 40, 0, *CODEC.encode(policy(1))),
    ],
    ids=["after the return", "decided before the cut", "a root", "of a node that cannot repeat itself"],
)
def test_what_nobody_is_to_say_again_is_not_missed(met: Record) -> None:
    repetition = Repetition(CODEC)
    repetition.expect(["a"], 30, 60)
    assert repetition.compare(met) == ""


def test_each_is_compared_with_its_own() -> None:
    repetition = Repetition(CODEC)
    answers: list[Any] = [state_change(window) for window in range(3)]
    for index, event in enumerate(answers):
        repetition.said("a", 40, index, *CODEC.encode(event))
    assert [repetition.compare(record(event, index=i)) for i, event in enumerate(answers)] == [""] * 3
    repetition.said("a", 40, 1, *CODEC.encode(answers[0]))
    assert "window was 1, is 0" in repetition.compare(record(answers[1], index=1))


def test_the_last_answers_of_a_life_may_have_been_swallowed() -> None:
    """Only arrays end a handler for certain: without them it is done again."""
    from optix_bus.messages import HyperparametersChanged, PolicyUpdated
    from optix_bus.runtime.recovery import is_answered
    from optix_bus.types import BlobRef

    said = HyperparametersChanged(version=0, window=-1, params={}, changed=True)
    policy = BlobRef(name="learner/policy-000000", bytes=1, checksum="0" * 32, owner="learner")
    whole = PolicyUpdated(version=0, window=-1, hyperparams_version=0, origin="initial", policy=policy)
    assert is_answered(4, 5, [])
    assert not is_answered(5, 5, [said])
    assert is_answered(5, 5, [said, whole])
    assert not is_answered(6, 5, [])
