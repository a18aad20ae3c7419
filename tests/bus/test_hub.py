from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optix_bus.bus.clock import SystemClock
from optix_bus.bus.hub import Hub, HubSettings, main
from optix_bus.bus.journal_files import segments
from optix_bus.bus.link import Link
from optix_bus.errors import ConfigurationError, JournalError
from tests.bus.harness import EMPTY, HubThread, RawClient, body, collect


def head_of(raw: RawClient) -> int:
    head: int = raw.ask({"op": "head"})["head"]
    return head


def identities(hub: HubThread) -> list[tuple[str, int, int]]:
    return [record.identity for record in hub.records()]


def test_events_get_numbers_without_gaps_and_growing_stamps(hub: HubThread, raw: RawClient) -> None:
    raw.hello("n")
    for number in range(10):
        raw.send("n", number, number)
    raw.beacon_when(lambda beacon: beacon["head"] == 10)
    records = hub.records()
    assert [record.seq for record in records] == list(range(1, 11))
    stamps = [record.stamp_ns for record in records]
    assert stamps == sorted(set(stamps))


def test_stamps_grow_although_the_wall_clock_goes_back(short_path: Path) -> None:
    class Backward(SystemClock):
        wall = 1_700_000_000_000_000_000

        def now_ns(self) -> int:
            self.wall -= 10**9
            return self.wall

    hub = HubThread(short_path, Backward())
    raw = RawClient(hub.endpoints)
    raw.hello("n")
    for number in range(3):
        raw.send("n", number, number)
    raw.beacon_when(lambda beacon: beacon["head"] == 3)
    stamps = [record.stamp_ns for record in hub.records()]
    assert stamps == sorted(set(stamps))
    raw.close()
    hub.stop()


def test_a_frame_that_comes_twice_is_one_event_and_the_beacon_acknowledges_it(
    hub: HubThread, raw: RawClient
) -> None:
    raw.hello("n")
    for number in (0, 0, 1, 1, 0):
        raw.send("n", number, number)
    beacon = raw.beacon_when(lambda beacon: beacon["counters"].get("duplicate") == 3)
    assert beacon["head"] == 2
    assert beacon["nodes"]["n"][:2] == [1, 2]


def test_what_a_restarted_node_emits_again_is_dropped_counted_and_acknowledged(
    hub: HubThread, raw: RawClient
) -> None:
    raw.hello("n", 1)
    for number in range(3):
        raw.send("n", number, number)
    raw.beacon_when(lambda beacon: beacon["head"] == 3)
    welcome = raw.hello("n", 2, "other")
    assert (welcome["cause"], welcome["index"], welcome["root"]) == (0, -1, 2)
    for number in range(4):
        raw.send("n", number, number, incarnation=2)
    beacon = raw.beacon_when(lambda beacon: beacon["nodes"]["n"][1] == 4)
    assert beacon["counters"]["repeated"] == 3
    assert identities(hub) == [("n", 0, index) for index in range(4)]


def test_frames_of_a_dead_predecessor_are_fenced(hub: HubThread, raw: RawClient) -> None:
    raw.hello("n", 1)
    raw.hello("n", 2, "other")
    raw.send("n", 0, 0, incarnation=1)
    raw.send("n", 0, 0, incarnation=2, packed=body(new=True))
    beacon = raw.beacon_when(lambda beacon: beacon["head"] == 1)
    assert beacon["counters"]["fenced"] == 1
    assert hub.records()[0].incarnation == 2


def test_an_older_or_a_second_process_is_refused(hub: HubThread, raw: RawClient) -> None:
    raw.hello("n", 2, "first")
    assert raw.hello("n", 1, "late")["reason"] == "older_incarnation"
    refused = raw.hello("n", 2, "twin")
    assert (refused["op"], refused["reason"]) == ("refused", "another_process")
    assert raw.hello("n", 2, "first")["op"] == "welcome"


def test_a_restarted_hub_still_fences_dedupes_and_goes_on_counting(short_path: Path) -> None:
    hub = HubThread(short_path)
    raw = RawClient(hub.endpoints)
    raw.hello("n", 1)
    raw.send("n", 0, 0)
    raw.beacon_when(lambda beacon: beacon["head"] == 1)
    raw.hello("n", 5, "fifth")
    hub.kill()
    hub.start()
    boot = raw.beacon_when(lambda beacon: beacon["head"] == 1 and beacon["boot"] == hub.hub.boot)
    assert boot["nodes"]["n"][:2] == [5, -1]
    assert raw.hello("n", 4, "old")["reason"] == "older_incarnation"
    assert raw.hello("n", 5, "twin")["reason"] == "another_process"
    assert raw.hello("n", 5, "fifth")["root"] == 0
    raw.send("n", 0, 0, incarnation=5)
    raw.send("n", 1, 1, incarnation=5)
    raw.beacon_when(lambda beacon: beacon["head"] == 2)
    assert identities(hub) == [("n", 0, 0), ("n", 0, 1)]
    raw.close()
    hub.stop()


def test_an_event_before_hello_is_dropped_and_counted(hub: HubThread, raw: RawClient) -> None:
    raw.send("stranger", 0, 0)
    raw.beacon_when(lambda beacon: beacon["counters"].get("unannounced") == 1)
    assert hub.records() == []


HOSTILE: list[tuple[str, list[bytes]]] = [
    ("hostile_frames", [b"one"]),
    ("hostile_frames", [b"one", b"two"]),
    ("hostile_frames", [b"one", b"two", b"three", b"four", b"five"]),
    ("hostile_header", [b"", b"Tick", EMPTY]),
    ("hostile_header", [b"\xc1", b"Tick", EMPTY]),
    ("hostile_header", [msgpack.packb([1, "n", 1, 0, 0]), b"Tick", EMPTY]),
    ("hostile_header", [msgpack.packb([1, "n", 1, -1, 0, 0]), b"Tick", EMPTY]),
    ("hostile_header", [msgpack.packb([1, "n", 1, 2**63, 0, 0]), b"Tick", EMPTY]),
    ("hostile_header", [msgpack.packb([1, "n" * 300, 1, 0, 0, 0]), b"Tick", EMPTY]),
    ("hostile_header", [b"\x91" * 250, b"Tick", EMPTY]),
    ("hostile_version", [msgpack.packb([2, "n", 1, 0, 0, 0]), b"Tick", EMPTY]),
    ("hostile_type", [msgpack.packb([1, "n", 1, 0, 0, 0]), b"../etc", EMPTY]),
    ("hostile_type", [msgpack.packb([1, "n", 1, 0, 0, 0]), b"\xff\xfe", EMPTY]),
    ("hostile_type", [msgpack.packb([1, "n", 1, 0, 0, 0]), b"T" * 65, EMPTY]),
    ("hostile_body", [msgpack.packb([1, "n", 1, 0, 0, 0]), b"Tick", b""]),
    ("hostile_body", [msgpack.packb([1, "n", 1, 0, 0, 0]), b"Tick", b"\x90"]),
    ("hostile_body", [msgpack.packb([1, "n", 1, 0, 0, 0]), b"Tick", b"\x80\x80"]),
    ("hostile_body", [msgpack.packb([1, "n", 1, 0, 0, 0]), b"Tick", b"\x81\xa1x" * 2000]),
    ("hostile_too_large", [msgpack.packb([1, "n", 1, 0, 0, 0]), b"Tick", body(x="y" * 70_000)]),
    ("hostile_future_cause", [msgpack.packb([1, "n", 1, 0, 99, 0]), b"Tick", EMPTY]),
]


@pytest.mark.parametrize(("reason", "frames"), HOSTILE, ids=[f"{i}-{r}" for i, (r, _) in enumerate(HOSTILE)])
def test_hostile_frames_are_counted_by_reason_and_hurt_nobody(
    short_path: Path, reason: str, frames: list[bytes]
) -> None:
    hub = Hub(HubSettings(directory=str(short_path / "s"), journal=str(short_path / "j")))
    hub.ledger.hello("n", 1, "raw", 0)
    context = zmq.Context()
    push = context.socket(zmq.PUSH)
    push.connect(hub.endpoints.events_in)
    push.send_multipart(frames)
    for _ in range(200):
        hub.step(0.05)
        if reason in hub.counters:
            break
    assert hub.counters[reason] == 1
    number = hub.ledger.nodes["n"].expected
    assert number == (1 if reason.split("_")[1] in ("type", "body", "too", "future") else 0)
    push.send_multipart([msgpack.packb([1, "n", 1, number, 0, 0]), b"Tick", EMPTY])
    for _ in range(200):
        if hub.step(0.05):
            break
    assert hub.journal.head == 1
    context.destroy(linger=0)
    hub.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(st.binary(max_size=80), min_size=1, max_size=5))
def test_random_frames_never_become_events(hub: HubThread, raw: RawClient, frames: list[bytes]) -> None:
    raw.push.send_multipart(frames)
    raw.control.send_multipart(frames)
    raw.control.recv_multipart()
    assert head_of(raw) == 0


def test_refusals_are_said_on_the_side_channel(hub: HubThread, raw: RawClient) -> None:
    raw.hello("n")
    raw.send("n", 0, 0, packed=b"\x90")
    while True:
        frames = raw.side.recv_multipart()
        if frames[0] == b"hub":
            break
    assert msgpack.unpackb(frames[2]) == {"about": "refused", "message": "Tick of n is not one msgpack map"}


@pytest.mark.parametrize(
    "request_bytes",
    [b"", b"\xc1", msgpack.packb({"op": "format_disk"}), msgpack.packb({"op": "hello"}), b"\x80" * 5000],
)
def test_a_request_that_is_none_is_answered(hub: HubThread, raw: RawClient, request_bytes: bytes) -> None:
    assert raw.ask(request_bytes)["reason"] == "request"
    assert raw.ask({"op": "head"})["op"] == "head"


@pytest.mark.parametrize("name", ["", ".", "../x", "a/b", "x" * 65, "ü"])
def test_a_name_that_could_mean_something_elsewhere_is_refused(
    hub: HubThread, raw: RawClient, name: str
) -> None:
    assert raw.hello(name)["reason"] == "name"


def test_a_flood_of_types_is_stopped(hub: HubThread, raw: RawClient) -> None:
    raw.hello("n")
    for number in range(1005):
        raw.send("n", number, number, event_type=f"T{number}")
    beacon = raw.beacon_when(lambda beacon: beacon["nodes"].get("n", [0, 0])[1] == 1005)
    assert beacon["counters"]["hostile_type"] == 5
    assert beacon["head"] == 1000


def test_fetch_gives_chunks_within_the_asked_size(hub: HubThread, raw: RawClient) -> None:
    raw.hello("n")
    for number in range(20):
        raw.send("n", number, number, packed=body(pad="x" * 1000))
    raw.beacon_when(lambda beacon: beacon["head"] == 20)
    seen: list[Any] = []
    while len(seen) < 20:
        raw.control.send(msgpack.packb({"op": "fetch", "first": len(seen) + 1, "max_bytes": 5000}))
        reply, chunk = raw.control.recv_multipart()
        records = msgpack.unpackb(chunk)
        assert msgpack.unpackb(reply)["count"] == len(records)
        assert 1 <= len(records) <= 5
        seen += records
    assert [record[0] for record in seen] == list(range(1, 21))
    assert seen[0][6:8] == ["Tick", {"pad": "x" * 1000}]


def test_a_fetch_behind_the_head_gives_nothing(hub: HubThread, raw: RawClient) -> None:
    raw.control.send(msgpack.packb({"op": "fetch", "first": 7}))
    reply, chunk = raw.control.recv_multipart()
    assert msgpack.unpackb(reply)["count"] == 0
    assert msgpack.unpackb(chunk) == []


def test_heartbeats_are_forwarded_and_progress_is_in_the_beacon(
    hub: HubThread, raw: RawClient, connect: Callable[..., Link]
) -> None:
    speaker = connect(["n"], 3)
    listener = connect(side=("heartbeat",))
    for _ in range(100):
        assert speaker.report("heartbeat", {"seq": 17, "handling": ""}, node="n")
        listener.poll(0.05)
        reports = listener.reports()
        if reports:
            break
    assert reports[0] == ("heartbeat", "n", 3, {"seq": 17, "handling": ""})
    assert raw.beacon_when(lambda beacon: beacon["nodes"]["n"][5] == 17)


@pytest.mark.parametrize(
    "frames",
    [[b"log"], [b"beacon", b"\x93\x01\xa0\x00", EMPTY], [b"log", b"\xc1", EMPTY], [b"log", b"\x90", b"\x90"]],
)
def test_a_report_that_is_none_or_pretends_to_be_the_hub_is_dropped(
    hub: HubThread, raw: RawClient, frames: list[bytes]
) -> None:
    context = zmq.Context()
    push = context.socket(zmq.PUSH)
    push.connect(hub.endpoints.side_in)
    push.send_multipart(frames)
    raw.beacon_when(lambda beacon: beacon["counters"].get("hostile_report") == 1)
    context.destroy(linger=0)


def test_a_full_disk_keeps_events_waiting_and_loses_none(
    hub: HubThread, raw: RawClient, connect: Callable[..., Link]
) -> None:
    link = connect(["n"], 1, side=("hub",))
    raw.beacon_when(lambda beacon: link.poll() == [] and link.beacon is not None)  # it hears the side channel
    real = hub.hub.journal._write

    def refuse(data: bytes) -> int:
        hub.hub.journal.failure = "No space left on device (errno 28)"
        return 0

    hub.hub.journal._write = refuse  # type: ignore[method-assign]
    for index in range(50):
        link.emit("n", 0, index, "Tick", body(i=index))
    beacon = raw.beacon_when(lambda beacon: beacon["journal"]["state"] == "failing")
    assert "No space left" in beacon["journal"]["reason"]
    assert beacon["head"] == 0
    assert link.poll(0.2) == []
    assert link.outbox_size == 50
    assert any("wait in the outboxes" in report[3]["message"] for report in link.reports())
    hub.hub.journal._write = real  # type: ignore[method-assign]
    assert [record.index for record in collect(link, 50)] == list(range(50))
    assert link.flush(10.0)
    beacon = raw.beacon_when(lambda beacon: beacon["journal"]["state"] == "ok" and beacon["head"] == 50)
    assert beacon["counters"]["journal_failures"] == 1


def test_hello_waits_while_the_journal_cannot_be_written(hub: HubThread, raw: RawClient) -> None:
    """A HELLO that is answered but not written down would not fence after a restart."""
    real = hub.hub.journal._write
    hub.hub.journal._write = lambda data: 0  # type: ignore[method-assign]
    assert raw.hello("n")["op"] == "retry"
    hub.hub.journal._write = real  # type: ignore[method-assign]
    assert raw.hello("n")["op"] == "welcome"


def test_types_that_must_not_be_lost_are_synced_before_anybody_sees_them(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(
        HubSettings(
            directory=str(short_path / "s"),
            journal=str(short_path / "j"),
            sync_each=("Order",),
            sync_seconds=1000,
        )
    )
    hub.ledger.hello("n", 1, "raw", 0)
    context = zmq.Context()
    push = context.socket(zmq.PUSH)
    push.connect(hub.endpoints.events_in)
    real, syncs = os.fdatasync, []
    published: list[int] = []

    def sync(descriptor: int) -> None:
        syncs.append((hub.journal.head, len(published)))
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    for number, event_type in enumerate(("Tick", "Order")):
        push.send_multipart([msgpack.packb([1, "n", 1, number, 0, number]), event_type.encode(), EMPTY])
        count = 0
        while not count:
            count = hub.step(0.05)
        published.append(count)
        assert hub.journal.synced == (0, 2)[number]
    assert syncs == [(2, 1)]
    monkeypatch.undo()
    context.destroy(linger=0)
    hub.close()


def test_the_journal_rotates_under_load_and_links_do_not_notice(short_path: Path) -> None:
    hub = HubThread(short_path, segment_bytes=8192, batch_events=20)
    link = Link(hub.endpoints, ["n"], 1)
    for index in range(500):
        link.emit("n", 0, index, "Tick", body(pad="x" * 100))
    assert [record.seq for record in collect(link, 500)] == list(range(1, 501))
    late = Link(hub.endpoints)
    assert [record.seq for record in collect(late, 500)] == list(range(1, 501))
    link.close()
    late.close()
    hub.stop()
    assert len(segments(hub.journal)) > 3


def test_an_orderly_stop_orders_what_has_arrived_and_removes_its_sockets(short_path: Path) -> None:
    hub = HubThread(short_path)
    link = Link(hub.endpoints, ["n"], 1)
    link.connect(20.0)
    link.emit("n", 0, 0, "Tick", EMPTY)
    assert link.flush(10.0)
    hub.stop()
    link.close()
    assert list((short_path / "s").iterdir()) == []
    assert len(hub.records()) == 1


def test_two_hubs_on_one_journal_are_refused(hub: HubThread, short_path: Path) -> None:
    with pytest.raises(JournalError, match="another hub"):
        Hub(HubSettings(directory=str(short_path / "s"), journal=str(hub.journal)))


def test_a_socket_directory_that_others_may_enter_is_refused(short_path: Path) -> None:
    (short_path / "s").mkdir(mode=0o755)
    os.chmod(short_path / "s", 0o755)
    with pytest.raises(ConfigurationError, match="0755, expected 0700"):
        Hub(HubSettings(directory=str(short_path / "s"), journal=str(short_path / "j")))


def test_the_program_says_in_one_line_what_is_wrong(
    short_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = short_path / ("x" * 100)
    assert main(["--directory", str(long), "--journal", str(short_path / "j")]) == 2
    error = capsys.readouterr().err
    assert "choose a shorter directory" in error
    assert error.count("\n") == 1
