from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from optix_bus.bus.endpoints import HubEndpoints
from optix_bus.bus.link import Link
from optix_bus.bus.wire import MAX_BODY_BYTES
from optix_bus.errors import BusError, CodecError
from tests.bus.harness import EMPTY, HubThread, RawClient, body, collect

Connect = Callable[..., Link]


def emit(link: Link, node: str, first: int, count: int, event_type: str = "Tick") -> None:
    for index in range(first, first + count):
        link.emit(node, 0, index, event_type, EMPTY)


def test_the_echo_is_the_acknowledgement(connect: Connect) -> None:
    link = connect(["n"], 1)
    emit(link, "n", 0, 3)
    assert link.outbox_size == 3
    assert [record.index for record in collect(link, 3)] == [0, 1, 2]
    assert link.outbox_size == 0


def test_one_link_may_speak_for_several_nodes(connect: Connect, hub: HubThread) -> None:
    link = connect(["a", "b"], 1)
    for index in range(5):
        link.emit("a", 0, index, "Tick", EMPTY)
        link.emit("b", 0, index, "Tock", EMPTY)
    records = collect(link, 10)
    assert [record.identity for record in records if record.node == "a"] == [("a", 0, i) for i in range(5)]
    assert [record.identity for record in records if record.node == "b"] == [("b", 0, i) for i in range(5)]


@pytest.mark.parametrize("remote", [False, True])
def test_a_late_subscriber_sees_everything_from_the_beginning(connect: Connect, remote: bool) -> None:
    link = connect(["n"], 1)
    emit(link, "n", 0, 3000)
    collect(link, 3000)
    late = connect(remote=remote)
    assert [record.seq for record in collect(late, 3000)] == list(range(1, 3001))
    assert late.counters["catch_ups"] >= 1


def test_a_subscriber_may_begin_anywhere(connect: Connect) -> None:
    link = connect(["n"], 1)
    emit(link, "n", 0, 10)
    collect(link, 10)
    assert [record.seq for record in collect(connect(from_seq=8), 3)] == [8, 9, 10]
    newcomer = connect(from_seq=None)
    assert newcomer.poll(0.2) == []
    emit(link, "n", 10, 1)
    assert [record.seq for record in collect(newcomer, 1)] == [11]


@pytest.mark.parametrize("remote", [False, True])
def test_a_subscriber_that_was_too_slow_gets_what_the_socket_dropped(connect: Connect, remote: bool) -> None:
    slow = connect(remote=remote, queue_events=5)
    link = connect(["n"], 1)
    for start in range(0, 10_000, 1000):
        emit(link, "n", start, 1000)
        collect(link, 1000)
    assert [record.seq for record in collect(slow, 10_000)] == list(range(1, 10_001))
    assert slow.counters["catch_ups"] >= 1


@pytest.mark.parametrize("remote", [False, True])
def test_types_that_are_not_wanted_are_skipped_live_and_in_the_journal(
    connect: Connect, remote: bool
) -> None:
    link = connect(["n"], 1)
    live = connect(types={"Tock"}, remote=remote)
    for index in range(6):
        link.emit("n", 0, index, ("Tick", "Tock")[index % 2], EMPTY)
    collect(link, 6)
    assert [record.seq for record in collect(live, 3)] == [2, 4, 6]
    assert [record.seq for record in collect(connect(types={"Tock"}, remote=remote), 3)] == [2, 4, 6]
    assert live.seq == 6


def test_a_tail_that_was_journaled_and_never_published_is_delivered(short_path: Path) -> None:
    """The hub dies between write and publish: no gap shows, only the head tells."""
    hub = HubThread(short_path)
    link = Link(hub.endpoints, ["n"], 1)
    listener = Link(hub.endpoints)
    link.connect(20.0)
    listener.connect(20.0)
    hub.hub._out.send = lambda *_: None  # type: ignore[method-assign]
    emit(link, "n", 0, 3)
    assert [record.seq for record in collect(listener, 3)] == [1, 2, 3]
    hub.kill()
    hub.start()
    emit(link, "n", 3, 1)
    assert link.flush(10.0)
    assert [record.seq for record in collect(listener, 1)] == [4]
    link.close()
    listener.close()
    hub.stop()


def test_what_was_sent_to_a_killed_hub_is_sent_again_to_the_next(short_path: Path) -> None:
    hub = HubThread(short_path)
    link = Link(hub.endpoints, ["n"], 1)
    link.connect(20.0)
    seen = []
    for life in range(4):
        emit(link, "n", 100 * life, 50)
        seen += link.poll()
        hub.kill()
        emit(link, "n", 100 * life + 50, 50)  # nobody is there: the outbox keeps them
        hub.start()
    seen += collect(link, 400 - len(seen))
    assert link.flush(10.0)
    assert [record.index for record in seen] == list(range(400))
    assert [record.index for record in hub.records()] == list(range(400))
    link.close()
    hub.stop()


def test_frames_that_vanish_on_the_way_are_sent_again(hub: HubThread, connect: Connect) -> None:
    link = connect(["n"], 1)
    intake = hub.hub._intake
    real, seen = intake._one, []

    def lossy(header: bytes, event_type: bytes, packed: bytes) -> None:
        seen.append(header)
        if len(seen) not in (2, 5, 6, 9):
            real(header, event_type, packed)

    intake._one = lossy  # type: ignore[method-assign]
    emit(link, "n", 0, 10)
    assert [record.index for record in collect(link, 10)] == list(range(10))
    assert link.counters["resends"] >= 1
    assert [record.index for record in hub.records()] == list(range(10))


def test_a_restarted_node_does_not_send_what_the_journal_has(hub: HubThread, connect: Connect) -> None:
    first = connect(["n"], 1)
    emit(first, "n", 0, 5)
    collect(first, 5)
    first.close()
    again = connect(["n"], 2)
    assert again.last_identity("n") == (0, -1, 4)
    assert not again.emit("n", 0, 4, "Tick", EMPTY)
    assert again.emit("n", 0, 5, "Tick", EMPTY)
    assert again.flush(10.0)
    assert [(record.incarnation, record.index) for record in hub.records()] == [
        *((1, index) for index in range(5)),
        (2, 5),
    ]


def test_a_restarted_node_that_emits_before_it_knows_repeats_nothing(
    hub: HubThread, connect: Connect
) -> None:
    first = connect(["n"], 1)
    emit(first, "n", 0, 5)
    collect(first, 5)
    again = Link(hub.endpoints, ["n"], 2)
    emit(again, "n", 0, 8)
    assert again.flush(10.0)
    assert [record.index for record in collect(again, 8)] == list(range(8))
    again.close()


def test_the_replaced_process_is_told_to_end(hub: HubThread, connect: Connect) -> None:
    old = connect(["n"], 1)
    emit(old, "n", 0, 1)
    old.flush(10.0)
    connect(["n"], 2)
    with pytest.raises(BusError, match=r"was replaced by 2|was replaced, end it"):
        collect(old, 10**6)
    with pytest.raises(BusError, match="n of incarnation 1"):
        old.emit("n", 0, 1, "Tick", EMPTY)
    assert len(hub.records()) == 1


def test_a_twin_of_the_same_incarnation_is_refused(hub: HubThread, connect: Connect) -> None:
    connect(["n"], 1)
    twin = Link(hub.endpoints, ["n"], 1)
    with pytest.raises(BusError, match="another process already speaks"):
        twin.connect(20.0)
    twin.close()


def test_without_a_hub_a_link_works_on_until_its_outbox_is_full(short_path: Path) -> None:
    link = Link(HubEndpoints.in_directory(short_path), ["n"], 1, outbox_limit=10)
    emit(link, "n", 0, 10)
    assert link.poll(0.01) == []
    with pytest.raises(BusError, match=r"10 events of n have waited 0\.1 s for the hub and it is not there"):
        link.emit("n", 0, 10, "Tick", EMPTY, timeout=0.1)
    assert not link.flush(0.05)
    link.close()


def test_back_pressure_ends_when_the_hub_takes_events_again(hub: HubThread, connect: Connect) -> None:
    link = connect(["n"], 1, outbox_limit=8)
    emit(link, "n", 0, 2000)
    assert link.flush(10.0)
    assert [record.index for record in collect(link, 2000)] == list(range(2000))


def test_connecting_to_nobody_says_where_it_looked(short_path: Path) -> None:
    link = Link(HubEndpoints.in_directory(short_path))
    with pytest.raises(BusError, match=r"no hub answered within 0\.05 s at ipc://.*/ctl"):
        link.connect(0.05)
    link.close()


def test_what_could_never_be_accepted_is_refused_before_it_is_sent(connect: Connect) -> None:
    link = connect(["n"], 1)
    with pytest.raises(CodecError, match="not one msgpack map"):
        link.emit("n", 0, 0, "Tick", b"\x90")
    with pytest.raises(CodecError, match=f"at most {MAX_BODY_BYTES}"):
        link.emit("n", 0, 0, "Tick", body(x="y" * MAX_BODY_BYTES))
    with pytest.raises(CodecError, match="no event type name"):
        link.emit("n", 0, 0, "../Tick", EMPTY)
    with pytest.raises(BusError, match="does not speak for 'm', only for n"):
        link.emit("m", 0, 0, "Tick", EMPTY)
    assert link.outbox_size == 0


def test_a_journal_that_lost_its_tail_is_noticed(short_path: Path) -> None:
    hub = HubThread(short_path)
    link = Link(hub.endpoints, from_seq=100)
    with pytest.raises(BusError, match="ends at event 0, but this process has already seen 99"):
        link.connect(20.0)
    link.close()
    hub.stop()


def test_reports_never_wait_and_their_loss_is_counted(short_path: Path) -> None:
    link = Link(HubEndpoints.in_directory(short_path), ["n"], 1)
    sent = [link.report("log", {"message": "x" * 100}, node="n") for _ in range(3000)]
    assert link.reports_dropped == sent.count(False) > 0
    link.close()


def test_hostile_frames_from_a_false_hub_are_counted(
    hub: HubThread, raw: RawClient, connect: Connect
) -> None:
    link = connect(["n"], 1, side=("log",))
    link._side.setsockopt(6, b"")  # everything, also what no honest hub sends
    hub.hub._side._outgoing.send_multipart([b"log", b"\xc1", b"\xc1"])
    for _ in range(100):
        link.poll(0.05)
        if link.counters["hostile"]:
            break
    assert link.counters["hostile"] == 1
    assert link.reports() == []


def test_a_link_that_is_woken_by_some_types_still_hands_out_all_events_in_order(connect: Connect) -> None:
    picky = connect(wake_types=["Tock"])
    link = connect(["n"], 1)
    for number in range(300):
        kind = "Tock" if number % 100 == 50 else "Tick"
        assert link.emit("n", 0, number, kind, body(n=number))
    # The last 49 wake nobody: a beacon tells that they are there.
    assert [record.seq for record in collect(picky, 300)] == list(range(1, 301))
    assert picky.counters["catch_ups"] == 0


def test_own_events_are_acknowledged_also_where_their_types_are_not_wanted(connect: Connect) -> None:
    link = connect(["n"], 1, types={"Tock"}, wake_types=["Tock"])
    for index in range(60):
        assert link.emit("n", 0, index, "Tock" if index % 20 == 19 else "Tick", EMPTY)
    assert [record.seq for record in collect(link, 3)] == [20, 40, 60]
    assert link.flush(10.0)
    assert (link.seq, link.last_identity("n")[2], link.counters["resends"]) == (60, 59, 0)


def test_waking_for_some_types_is_given_up_where_there_is_no_journal_to_read(connect: Connect) -> None:
    far = connect(wake_types=["Tock"], remote=True)
    link = connect(["n"], 1)
    emit(link, "n", 0, 100)
    assert [record.seq for record in collect(far, 100)] == list(range(1, 101))
