"""Feeding recorded events to nodes, event by event."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from optix_bus.bus.codec import Codec
from optix_bus.bus.record import Record
from optix_bus.errors import CheckpointError
from optix_bus.messages import (
    VOCABULARY,
    CollectWindow,
    CutAnnounced,
    CutTaken,
    Event,
    LoopStateChanged,
    Plateaued,
    StopRequested,
    TimerFired,
    TimerSet,
)
from optix_bus.runtime.cuts import take
from optix_bus.runtime.fold import Fold
from optix_bus.runtime.local_store import LocalStore
from optix_bus.runtime.node import Context, Node, handles
from optix_bus.runtime.playback import HandlerFailure, Playback
from optix_bus.runtime.replay_compare import tolerant
from optix_bus.types import NamedArrays

CODEC = Codec(VOCABULARY)


class Counter(Node):
    """Answers a window with its number and how many there were; twice, where it is told to."""

    emits = (Plateaued, LoopStateChanged)

    def __init__(self) -> None:
        self.seen = 0

    @handles(CollectWindow)
    def on_collect(self, event: CollectWindow, ctx: Context) -> None:
        if event.window == 13:
            ctx.emit(Plateaued(window=13, state="never sent"))
            raise RuntimeError("thirteen")
        self.seen += 1
        ctx.emit(Plateaued(window=event.window, state=str(self.seen)))
        if event.evaluate:
            ctx.emit(LoopStateChanged(window=event.window, old="active", new="cooling"))

    @handles(StopRequested)
    def on_stop(self, event: StopRequested, ctx: Context) -> None:
        ctx.timer("wake", 1.5)

    @handles(TimerFired)
    def on_timer(self, event: TimerFired, ctx: Context) -> None:
        ctx.emit(Plateaued(window=-1, state=f"{ctx.now:.0f}"))

    def state(self) -> NamedArrays:
        if self.seen > 99:
            return NamedArrays({}, {"seen": object()})
        return NamedArrays({}, {"seen": self.seen})


class Journal:
    """Makes records as a hub would."""

    def __init__(self) -> None:
        self.seq = 0

    def __call__(self, node: str, event: Event, cause: int = 0, index: int = 0) -> Record:
        self.seq += 1
        name, body = CODEC.encode(event)
        return Record(self.seq, self.seq * 10**9, node, 1, cause, index, name, body)

    def window(self, number: int, *, evaluate: bool = False) -> Record:
        event = CollectWindow(window=number, policy_version=0, hyperparams_version=0, evaluate=evaluate)
        return self("scheduler", event)


@pytest.fixture
def journal() -> Journal:
    return Journal()


def playback(*names: str, **options: Any) -> Playback:
    return Playback(
        [Fold(name, Counter(), seed=0, store=LocalStore()) for name in names or ("counter",)], **options
    )


def test_what_a_node_emits_is_pending_until_the_journal_says_the_same(journal: Journal) -> None:
    played = playback()
    emitted = played.feed(journal.window(4)).emitted
    assert [(e.node, e.cause, e.index, e.type) for e in emitted] == [("counter", 1, 0, "Plateaued")]
    assert played.pending == list(emitted)
    answer = journal("counter", Plateaued(window=4, state="1"), cause=1)
    assert emitted[0].body == answer.body
    assert not played.feed(answer).divergences
    assert played.pending == []
    assert played.compared == 1


def test_answers_may_come_much_later_and_mixed_with_those_of_others(journal: Journal) -> None:
    played = playback("one", "other")
    for number in (0, 1):
        played.feed(journal.window(number, evaluate=True))
    assert [(e.node, e.cause, e.index) for e in played.pending] == [
        *(("one", 1, 0), ("one", 1, 1), ("other", 1, 0), ("other", 1, 1)),
        *(("one", 2, 0), ("one", 2, 1), ("other", 2, 0), ("other", 2, 1)),
    ]
    changed = LoopStateChanged(window=0, old="active", new="cooling")
    for node in ("other", "one"):
        assert not played.feed(journal(node, Plateaued(window=0, state="1"), 1, 0)).divergences
        assert not played.feed(journal(node, changed, 1, 1)).divergences
    assert {(e.node, e.cause) for e in played.pending} == {("one", 2), ("other", 2)}


def test_a_difference_has_number_node_field_and_both_values(journal: Journal) -> None:
    played = playback()
    played.feed(journal.window(4))
    [found] = played.feed(journal("counter", Plateaued(window=4, state="7"), 1)).divergences
    assert (found.sequence, found.node, found.kind, found.type, found.cause) == (
        *(2, "counter", "differs", "Plateaued"),
        1,
    )
    assert (found.field, found.expected, found.found) == ("state", "7", "1")
    assert "event 2: Plateaued of 'counter', answering event 1: state was '7', now '1'" in str(found)


def test_another_type_is_a_difference_of_the_type(journal: Journal) -> None:
    played = playback()
    played.feed(journal.window(4))
    [found] = played.feed(journal("counter", StopRequested(), 1)).divergences
    assert (found.field, found.expected, found.found) == ("type", "StopRequested", "Plateaued")


def test_a_recorded_answer_that_nobody_gives_now_is_missing(journal: Journal) -> None:
    played = playback()
    played.feed(journal.window(4))
    played.feed(journal("counter", Plateaued(window=4, state="1"), 1, 0))
    [found] = played.feed(journal("counter", Plateaued(window=4, state="1"), 1, 1)).divergences
    assert (found.kind, found.sequence, found.cause, found.found) == ("missing", 3, 1, None)
    assert "now the node emits nothing" in str(found)


def test_where_an_answer_is_missing_younger_ones_go_on_waiting(journal: Journal) -> None:
    played = playback()
    played.feed(journal("nobody", CutTaken(cut=1, node="nobody", file="", bytes=0, checksum="")))
    played.feed(journal.window(4))
    [found] = played.feed(journal("counter", Plateaued(window=4, state="1"), 1)).divergences
    assert found.kind == "missing"
    assert [e.cause for e in played.pending] == [2]


def test_an_answer_that_was_never_recorded_is_extra_once_a_later_one_comes(journal: Journal) -> None:
    played = playback()
    played.feed(journal.window(0, evaluate=True))
    played.feed(journal.window(1))
    played.feed(journal("counter", Plateaued(window=0, state="1"), 1, 0))
    [found] = played.feed(journal("counter", Plateaued(window=1, state="2"), 2, 0)).divergences
    assert (found.kind, found.type, found.cause, found.sequence) == ("extra", "LoopStateChanged", 1, 4)
    assert found.emission is not None
    assert found.emission.event == LoopStateChanged(window=0, old="active", new="cooling")
    assert "the journal does not hold it" in str(found)


def test_after_a_difference_nodes_get_the_recorded_event_only_where_they_are_to_go_on(
    journal: Journal,
) -> None:
    class Echo(Counter):
        @handles(Plateaued)
        def on_plateau(self, event: Plateaued, ctx: Context) -> None:
            ctx.emit(LoopStateChanged(window=event.window, old=event.state, new=""))

    window, recorded = journal.window(4), journal("counter", Plateaued(window=4, state="7"), 1)
    for go_on in (False, True):
        folds = [Fold("counter", Counter(), seed=0, store=LocalStore())]
        folds.append(Fold("echo", Echo(), seed=0, store=LocalStore()))
        played = Playback(folds, go_on=go_on)
        played.feed(window)
        result = played.feed(recorded)
        assert len(result.divergences) == 1
        # The recorded state, not the one that was emitted now.
        answers = [e.event.old for e in result.emitted if isinstance(e.event, LoopStateChanged)]
        assert answers == (["7"] if go_on else [])


def test_what_was_emitted_before_the_state_was_taken_is_input_only(journal: Journal) -> None:
    played = playback(since=5)
    journal.seq = 5
    assert not played.feed(journal("counter", Plateaued(window=1, state="?"), cause=4)).divergences
    assert played.compared == 0
    played.feed(journal.window(2))
    assert played.feed(journal("counter", Plateaued(window=2, state="?"), cause=7)).divergences


def test_roots_of_a_played_node_are_inputs(journal: Journal) -> None:
    played = playback()
    assert not played.feed(journal("counter", StopRequested())).divergences
    [timer] = played.pending
    assert timer.event == TimerSet(node="counter", key="wake", seconds=1.5)
    played.feed(journal("counter", TimerSet(node="counter", key="wake", seconds=1.5), 1))
    fired = played.feed(journal("counter", TimerFired(node="counter", key="wake")))
    assert not fired.divergences
    # The only clock is the stamp of the recorded event.
    assert fired.emitted[0].event == Plateaued(window=-1, state="3")


def test_a_node_that_raises_has_emitted_nothing(journal: Journal) -> None:
    played = playback("one", "other")
    with pytest.raises(
        HandlerFailure, match=r"'one' in CollectWindow \(event 1\): RuntimeError: thirteen"
    ) as e:
        played.feed(journal.window(13))
    assert (e.value.node, e.value.sequence) == ("one", 1)
    assert isinstance(e.value.__cause__, RuntimeError)
    assert played.pending == []


@pytest.mark.parametrize(
    ("event_type", "body"), [("Rumour", b"\x80"), ("CollectWindow", b"\x80"), ("CollectWindow", b"\xc1")]
)
def test_what_only_looks_like_an_event_reaches_nobody(event_type: str, body: bytes) -> None:
    played = playback().feed(Record(1, 1, "stranger", 1, 0, 0, event_type, body))
    assert (played.event, played.emitted) == (None, ())


def test_states_at_a_cut_are_compared_like_any_answer(journal: Journal) -> None:
    kept = []
    played = playback(
        "one", "other", on_cut=lambda taken, sequence: kept.append((taken.event.node, sequence))
    )
    played.feed(journal.window(0))
    for node in ("one", "other"):
        played.feed(journal(node, Plateaued(window=0, state="1"), 1))
    announced = journal("scheduler", CutAnnounced(cut=1, window=0))
    played.feed(announced)
    assert kept == [("one", 4), ("other", 4)]
    same = Counter()
    same.seen = 1
    right = take("one", same, CutAnnounced(cut=1, window=0)).event
    assert not played.feed(journal("one", right, 4)).divergences
    wrong = msgspec.structs.replace(
        right, node="other", file=right.file.replace("one", "other"), checksum="0"
    )
    [found] = played.feed(journal("other", wrong, 4)).divergences
    assert (found.field, found.type) == ("checksum", "CutTaken")
    assert played.cuts == 2


def test_a_state_that_cannot_be_stored_is_a_failure_of_its_node(journal: Journal) -> None:
    played = playback()
    for number in range(20, 120):
        played.feed(journal.window(number))
    with pytest.raises(HandlerFailure, match="'counter' in CutAnnounced") as caught:
        played.feed(journal("scheduler", CutAnnounced(cut=1, window=0)))
    assert isinstance(caught.value.__cause__, CheckpointError)


def test_the_comparison_can_be_another_one(journal: Journal) -> None:
    played = playback(compare=tolerant)
    played.feed(journal("scheduler", CutAnnounced(cut=1, window=0)))
    [own] = played.pending
    assert isinstance(own.event, CutTaken)
    other = msgspec.structs.replace(own.event, checksum="0" * 32)
    assert not played.feed(journal("counter", other, 1)).divergences
