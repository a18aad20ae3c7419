"""A recorded run on a hub of its own, for subscribers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optix_bus.bus.clock import ManualClock
from optix_bus.bus.endpoints import HubEndpoints
from optix_bus.bus.journal_reader import read_journal
from optix_bus.bus.ledger import ACCEPTED, Ledger
from optix_bus.bus.link import Link
from optix_bus.bus.record import Record
from optix_bus.errors import ConfigurationError
from optix_bus.runtime.replay_live import LiveReplay, Renumbering, sender
from optix_bus.runtime.replay_run import RecordedRun
from tests.bus.harness import collect
from tests.runtime.recorded import DEMO, contents, record, records, rewritten, with_validation

Start = Callable[..., LiveReplay]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    return record(tmp_path_factory.mktemp("demo") / "run", DEMO, *with_validation())


@pytest.fixture
def start(demo: RecordedRun) -> Iterator[Start]:
    started: list[LiveReplay] = []

    def begin(run: RecordedRun = demo, **options: object) -> LiveReplay:
        live = LiveReplay(run, **{"rate": 0.0, **options})  # type: ignore[arg-type]
        started.append(live)
        return live

    yield begin
    for live in started:
        live.close()


def bare(found: Record) -> tuple[object, ...]:
    return (found.seq, found.node, found.cause, found.index, found.type, found.body)


def test_a_subscriber_gets_the_run_as_it_was_recorded(demo: RecordedRun, start: Start) -> None:
    live = start()
    link = Link(HubEndpoints.in_directory(live.sockets))
    try:
        result = live.publish()
        assert (result.problem, result.events, result.same_numbers) == ("", demo.head, True)
        received = collect(link, demo.head)
    finally:
        link.close(0.0)
    assert [bare(found) for found in received] == [bare(found) for found in demo.records()]


def test_who_comes_late_still_gets_everything(demo: RecordedRun, start: Start) -> None:
    live = start()
    live.publish()
    serving = threading.Thread(target=live.serve, args=(60.0,))
    serving.start()
    link = Link(HubEndpoints.in_directory(live.sockets), remote=True)
    try:
        assert len(collect(link, demo.head)) == demo.head
    finally:
        link.close(0.0)
        live.stop()
        serving.join()


def test_the_pace_is_that_of_the_run_times_the_rate(demo: RecordedRun, start: Start) -> None:
    class Patient(ManualClock):
        """Time passes only while somebody waits for it, in slices as the waiting asks for them."""

        def monotonic(self) -> float:
            self.advance(0.001)
            return super().monotonic()

    clock = Patient()
    sent: list[float] = []
    stamps = [found.stamp_ns / 1e9 for found in demo.records()]
    began = clock.monotonic()
    start(rate=10.0, clock=clock).publish(after=lambda _: sent.append(clock._monotonic - began))
    due = [(stamp - stamps[0]) / 10 for stamp in stamps]
    assert len(sent) == demo.head
    assert all(at >= planned - 0.01 for at, planned in zip(sent, due, strict=True))


def test_types_can_be_left_out_and_causes_stay_in_order(demo: RecordedRun, start: Start) -> None:
    types = ["WindowScored", "WindowJudged", "CollectWindow"]
    live = start(types=types)
    result = live.publish()
    wanted = [found for found in demo.records() if found.type in types]
    assert (result.problem, result.events) == ("", len(wanted))
    assert result.left_out == demo.head - len(wanted)
    copies = list(read_journal(live._journal))
    assert [(c.node, c.type, c.body) for c in copies] == [(r.node, r.type, r.body) for r in wanted]
    # What was caused by a published event still is: the others point to the last one before their cause.
    new = {found.seq: copy.seq for found, copy in zip(wanted, copies, strict=True)}
    for found, copy in zip(wanted, copies, strict=True):
        before = [new[seq] for seq in new if seq <= found.cause]
        assert copy.cause == (before[-1] if before else 0)


def test_a_loop_goes_on_until_it_is_stopped_and_each_pass_is_verified(
    demo: RecordedRun, start: Start
) -> None:
    live = start()
    seen = 0

    def after(found: Record) -> None:
        nonlocal seen
        seen += 1
        if seen == 2 * demo.head + 10:
            live.stop()

    result = live.publish(loop=True, after=after)
    assert (result.problem, result.passes, result.events) == ("", 2, 2 * demo.head + 10)
    copies = list(read_journal(live._journal))
    once = list(demo.records())
    assert [(c.type, c.body) for c in copies] == [(r.type, r.body) for r in (once * 3)[: len(copies)]]
    second = copies[demo.head : 2 * demo.head]
    assert [c.cause - demo.head for c in second if c.cause] == [r.cause for r in once if r.cause]


def test_a_loop_does_not_fill_the_disk(
    demo: RecordedRun, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optix_bus.runtime.replay_live._SEGMENT_BYTES", 8192)
    live = start()
    sizes: list[int] = []

    def after(found: Record) -> None:
        if found.seq == demo.head:
            sizes.append(sum(path.stat().st_size for path in live._journal.glob("*.mcap")))
            if len(sizes) == 8:
                live.stop()

    assert live.publish(loop=True, after=after).problem == ""
    assert max(sizes) <= 3 * sizes[0] + 3 * 8192


def test_a_subscriber_may_publish_too_and_causes_still_point_to_the_right_events(
    demo: RecordedRun, start: Start
) -> None:
    live = start()
    link = Link(HubEndpoints.in_directory(live.sockets), ["guest"], 1)
    try:
        link.connect(20.0)
        numbers = iter(range(1000))

        def after(found: Record) -> None:
            link.emit("guest", 0, next(numbers), "Noted", b"\x80")
            link.poll()

        result = live.publish(after=after)
    finally:
        link.close(0.0)
    assert (result.problem, result.same_numbers) == ("", False)
    copies = [found for found in read_journal(live._journal) if found.node != "guest"]
    new = {found.seq: copy.seq for found, copy in zip(demo.records(), copies, strict=True)}
    assert [copy.cause for copy in copies] == [new.get(found.cause, 0) for found in demo.records()]


def test_a_lost_event_is_noticed_at_the_end(
    demo: RecordedRun, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = records(demo, "WindowJudged")[1]
    right = Link.emit

    def wrong(self: Link, node: str, cause: int, index: int, event_type: str, body: bytes) -> bool:
        changed = body.replace(b"verdict", b"verdikt") if body == victim.body else body
        return right(self, node, cause, index, event_type, changed)

    monkeypatch.setattr(Link, "emit", wrong)
    result = start().publish()
    assert (
        f"event {victim.seq} of the new journal is WindowJudged, expected event {victim.seq}"
        in result.problem
    )


def test_nothing_is_left_and_the_run_is_untouched(demo: RecordedRun) -> None:
    before = contents(demo.directory.root)
    live = LiveReplay(demo, rate=0.0)
    sockets, journal = live.sockets, live._journal
    assert (os.stat(sockets).st_mode & 0o777) == 0o700
    threads = threading.active_count()
    live.publish()
    live.close()
    assert not sockets.exists()
    assert not journal.exists()
    assert threading.active_count() < threads
    assert contents(demo.directory.root) == before


def test_a_part_of_a_run_can_be_published(demo: RecordedRun, start: Start) -> None:
    result = start(first=10, last=30).publish()
    assert (result.problem, result.events, result.same_numbers) == ("", 21, False)


def test_a_source_inside_a_process_gets_a_name_that_can_travel(
    demo: RecordedRun, start: Start, tmp_path: Path
) -> None:
    victim = records(demo, "RunStarted")[0]

    def rename(found: Record) -> Record:
        return msgspec.structs.replace(found, node="scheduler!timer") if found.seq == victim.seq else found

    run = rewritten(demo, tmp_path / "run", rename)
    live = start(run)
    assert live.publish().problem == ""
    assert next(iter(read_journal(live._journal))).node == "scheduler:timer"


def test_a_rate_or_types_that_make_no_sense_are_refused(demo: RecordedRun) -> None:
    with pytest.raises(ConfigurationError, match="expected 0 or more"):
        LiveReplay(demo, rate=-1.0)
    with pytest.raises(
        ConfigurationError, match="WindowScord: no such event type; the run has AgentDescribed"
    ):
        LiveReplay(demo, types=["WindowScord"])
    with pytest.raises(ConfigurationError, match="none of NodeLost: nothing to publish"):
        LiveReplay(demo, types=["NodeLost"])


RUNS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), min_size=1, max_size=40)


@given(RUNS, st.integers(1, 3), st.randoms())
def test_every_identity_that_is_given_is_accepted_by_a_hub(
    drawn: list[tuple[str, bool, bool]], passes: int, random: object
) -> None:
    """Whatever is left out and however often it is repeated: identities grow, causes are in the past."""
    run, published = [], set()
    roots = dict.fromkeys("abc", 0)
    last: dict[str, tuple[int, int]] = {}
    for seq, (node, is_root, is_published) in enumerate(drawn, start=1):
        cause, index = 0, 0
        if is_root or seq == 1:
            index, roots[node] = roots[node], roots[node] + 1
        else:
            before, count = last.get(node, (0, -1))
            cause = random.randint(max(before, 1), seq - 1)  # type: ignore[attr-defined]
            index = count + 1 if cause == before else 0
            last[node] = (cause, index)
        run.append(Record(seq, seq, node, 1, cause, index, "Any", b"\x80"))
        if is_published:
            published.add(seq)
    ledger = Ledger()
    for node in "abc":
        ledger.hello(node, 1, "session", 0)
    numbers = Renumbering("abc")
    sent = dict.fromkeys("abc", 0)
    head = 0
    for _ in range(passes):
        numbers.begin()
        for found in run:
            if found.seq in published:
                assert numbers.knows(found.cause)
                cause, index = numbers.give(found)
                assert ledger.accept(found.node, 1, sent[found.node], cause, index, head) == ACCEPTED
                if len(published) == len(run) and passes == 1:
                    assert (cause, index) == (found.cause, found.index)
                sent[found.node] += 1
                head += 1
                numbers.seen(msgspec.structs.replace(found, seq=head))
    assert numbers.waiting == 0


def test_the_name_of_a_node_is_its_name() -> None:
    assert sender(Record(1, 1, "learner", 1, 0, 0, "Any", b"\x80")) == "learner"
