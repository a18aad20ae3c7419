"""The inline runner and the fold, on nodes that only count."""

from __future__ import annotations

import pytest

from optix_bus.errors import NodeFailure
from optix_bus.messages import (
    CutAnnounced,
    Event,
    RunFinished,
    RunStarted,
    StopRequested,
    TimerFired,
)
from optix_bus.runtime.fold import Envelope
from optix_bus.runtime.inline import InlineRunner
from optix_bus.runtime.node import Context, Node, handles


def finished(windows: int, reason: str = "converged") -> RunFinished:
    return RunFinished(
        reason=reason,
        windows=windows,
        steps=0,
        evaluations=0,
        best_score=0.0,
        best_standard_error=0.0,
        best_policy_version=-1,
        best_window=-1,
        train_score=0.0,
        generalization_gap=0.0,
        state="active",
        decided_by_loop=True,
    )


class Counter(Node):
    """Counts its own cuts up to a limit."""

    emits = (CutAnnounced, RunFinished)

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.draws: list[float] = []
        self.torn_down = False

    def teardown(self) -> None:
        self.torn_down = True

    @handles(RunStarted)
    def on_start(self, event: RunStarted, ctx: Context) -> None:
        ctx.emit(CutAnnounced(cut=1, window=0))

    @handles(CutAnnounced)
    def on_cut(self, event: CutAnnounced, ctx: Context) -> None:
        self.draws.append(float(ctx.rng("draw", event.cut).random()))
        if event.cut == self.limit:
            ctx.emit(finished(event.cut))
        else:
            ctx.emit(CutAnnounced(cut=event.cut + 1, window=0))

    @handles(StopRequested)
    def on_stop(self, event: StopRequested, ctx: Context) -> None:
        ctx.emit(finished(len(self.draws), event.reason))


class Broken(Node):
    emits = (CutAnnounced,)

    @handles(CutAnnounced)
    def on_cut(self, event: CutAnnounced, ctx: Context) -> None:
        ctx.emit(CutAnnounced(cut=99, window=99))
        raise ValueError("no such luck")


class Undeclared(Node):
    @handles(RunStarted)
    def on_start(self, event: RunStarted, ctx: Context) -> None:
        ctx.emit(StopRequested())


class Sleeper(Node):
    emits = (RunFinished,)

    def __init__(self) -> None:
        self.woken: list[float] = []

    @handles(RunStarted)
    def on_start(self, event: RunStarted, ctx: Context) -> None:
        self.started = ctx.now
        ctx.timer("late", 7200.0)
        ctx.timer("early", 3600.0)

    @handles(TimerFired)
    def on_timer(self, event: TimerFired, ctx: Context) -> None:
        self.woken.append(ctx.now - self.started)
        if event.key == "late":
            ctx.emit(finished(0))


def test_events_are_numbered_without_gaps_and_name_their_cause() -> None:
    seen: list[Envelope] = []
    InlineRunner({"counter": Counter(3)}, listener=seen.append).run()
    assert [e.sequence for e in seen] == [1, 2, 3, 4, 5]
    assert [(e.node, e.cause, e.index) for e in seen[:3]] == [
        ("supervisor", 0, 0),
        ("counter", 1, 0),
        ("counter", 2, 0),
    ]


def test_stamps_grow_even_when_the_clock_stands_still() -> None:
    from optix_bus.bus.clock import ManualClock

    seen: list[Envelope] = []
    InlineRunner({"counter": Counter(5)}, listener=seen.append, clock=ManualClock()).run()
    stamps = [e.stamp_ns for e in seen]
    assert stamps == sorted(set(stamps))


def test_random_streams_follow_seed_node_and_key_and_nothing_else() -> None:
    first, second, other = Counter(3), Counter(3), Counter(3)
    InlineRunner({"counter": first}, seed=7).run()
    InlineRunner({"idle": Undeclared2(), "counter": second}, seed=7).run()
    InlineRunner({"counter": other}, seed=8).run()
    assert first.draws == second.draws
    assert first.draws != other.draws
    assert len(set(first.draws)) == 3


class Undeclared2(Node):
    """Emits more events, so that all sequence numbers differ."""

    emits = (StopRequested,)

    @handles(CutAnnounced)
    def on_cut(self, event: CutAnnounced, ctx: Context) -> None:
        ctx.timer(f"never {event.cut}", 1e6)


def test_a_handler_that_raises_has_sent_nothing_and_names_node_and_event() -> None:
    seen: list[Envelope] = []
    counter = Counter(3)
    runner = InlineRunner({"counter": counter, "broken": Broken()}, listener=seen.append)
    with pytest.raises(NodeFailure, match=r"node 'broken' failed in CutAnnounced: ValueError: no such luck"):
        runner.run()
    assert not any(isinstance(e.event, CutAnnounced) and e.event.cut == 99 for e in seen)
    assert counter.torn_down


def test_an_event_type_that_a_node_did_not_declare_is_refused() -> None:
    with pytest.raises(NodeFailure, match=r"Undeclared emitted StopRequested, which it does not declare"):
        InlineRunner({"node": Undeclared()}).run()


def test_a_stop_comes_before_what_is_queued() -> None:
    counter = Counter(1000)

    def stop_at_four(envelope: Envelope) -> None:
        if isinstance(envelope.event, CutAnnounced) and envelope.event.cut == 4:
            runner.stop("enough")

    runner = InlineRunner({"counter": counter}, listener=stop_at_four)
    end = runner.run()
    assert end.reason == "enough"
    assert len(counter.draws) <= 5


def test_an_interrupt_ends_the_loop_in_order_and_a_second_one_at_once() -> None:
    class Interrupting(Counter):
        interrupts = 0

        @handles(CutAnnounced)
        def on_cut(self, event: CutAnnounced, ctx: Context) -> None:
            type(self).interrupts += 1
            raise KeyboardInterrupt

    end = InlineRunner({"counter": Interrupting(5)}).run()
    assert end.reason == "interrupted"

    class Stubborn(Interrupting):
        @handles(StopRequested)
        def on_stop(self, event: StopRequested, ctx: Context) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        InlineRunner({"counter": Stubborn(5)}).run()


def test_timers_come_back_as_events_in_the_order_in_which_they_are_due() -> None:
    from optix_bus.bus.clock import ManualClock

    sleeper = Sleeper()
    seen: list[Event] = []
    InlineRunner({"sleeper": sleeper}, listener=lambda e: seen.append(e.event), clock=ManualClock()).run()
    assert [e.key for e in seen if isinstance(e, TimerFired)] == ["early", "late"]
    assert sleeper.woken == pytest.approx([3600.0, 7200.0], abs=1e-3)


def test_a_loop_in_which_nobody_has_anything_to_do_is_an_error_and_no_hang() -> None:
    class Silent(Node):
        @handles(RunStarted)
        def on_start(self, event: RunStarted, ctx: Context) -> None:
            ctx.log.debug("nothing to say")

    with pytest.raises(NodeFailure, match="the loop has stalled after event 1"):
        InlineRunner({"silent": Silent()}).run()


def test_handlers_are_inherited_and_can_be_overridden() -> None:
    class Doubling(Counter):
        @handles(RunStarted)
        def on_start(self, event: RunStarted, ctx: Context) -> None:
            ctx.emit(CutAnnounced(cut=3, window=0))

    node = Doubling(3)
    assert set(node.accepts()) == set(Counter.accepts())
    InlineRunner({"counter": node}).run()
    assert len(node.draws) == 1
