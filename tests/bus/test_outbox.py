from __future__ import annotations

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from optix_bus.bus.ledger import ACCEPTED, REPEATED, Ledger
from optix_bus.bus.outbox import Outbox


def send_all(outbox: Outbox) -> list[list[int]]:
    headers = []
    while outbox.unsent:
        headers.append(msgpack.unpackb(outbox.peek()[0]))
        outbox.sent()
    return headers


def test_numbers_count_from_zero_and_survive_sending_again() -> None:
    outbox = Outbox("n", 1)
    for index in range(3):
        outbox.add(0, index, b"T", b"\x80")
    first = send_all(outbox)
    assert [header[3] for header in first] == [0, 1, 2]
    outbox.rewind()
    assert send_all(outbox) == first


def test_an_echo_removes_the_first() -> None:
    outbox = Outbox("n", 1)
    outbox.add(4, 0, b"T", b"\x80")
    outbox.add(4, 1, b"T", b"\x80")
    send_all(outbox)
    outbox.echo(4, 0)
    assert len(outbox) == 1
    assert outbox.acknowledged == 1


def test_the_beacon_acknowledges_many_at_once_and_only_once() -> None:
    outbox = Outbox("n", 1)
    for index in range(5):
        outbox.add(0, index, b"T", b"\x80")
    send_all(outbox)
    assert outbox.acknowledge(3)
    assert not outbox.acknowledge(3)
    assert len(outbox) == 2
    outbox.rewind()
    assert [header[3] for header in send_all(outbox)] == [3, 4]


def test_what_the_journal_knows_is_never_sent() -> None:
    outbox = Outbox("n", 2)
    outbox.known(7, 1, 3)
    assert not outbox.add(7, 1, b"T", b"\x80")
    assert not outbox.add(0, 3, b"T", b"\x80")
    assert outbox.add(7, 2, b"T", b"\x80")
    assert outbox.add(0, 4, b"T", b"\x80")
    assert outbox.already_known == 2


def test_what_turns_out_to_be_known_before_it_was_sent_leaves_no_hole_in_the_numbers() -> None:
    outbox = Outbox("n", 2)
    outbox.add(5, 0, b"T", b"\x80")
    outbox.add(6, 0, b"T", b"\x80")
    outbox.known(5, 0, -1)
    assert [header[3:] for header in send_all(outbox)] == [[0, 6, 0]]


@given(st.lists(st.sampled_from(["add", "send", "lose", "ack", "echo", "rehello", "restart"]), max_size=80))
def test_outbox_and_ledger_agree_whatever_is_lost(steps: list[str]) -> None:
    """Frames may be lost, the hub may restart, HELLO may come again: each event is taken once, in order."""
    outbox, ledger = Outbox("n", 1), Ledger()
    ledger.hello("n", 1, "s", outbox.acknowledged)
    taken: list[int] = []
    emitted = 0

    def send(lost: bool) -> None:
        if not outbox.unsent:
            return
        _, node, incarnation, number, cause, index = msgpack.unpackb(outbox.peek()[0])
        outbox.sent()
        if not lost:
            verdict = ledger.accept(node, incarnation, number, cause, index, head=10**6)
            if verdict == ACCEPTED:
                taken.append(index)
            assert verdict != REPEATED or index in taken

    def hello() -> None:
        nonlocal ledger
        ledger.hello("n", 1, "s", outbox.acknowledged)
        state = ledger.nodes["n"]
        outbox.known(state.cause, state.index, state.root)
        outbox.acknowledge(state.expected)
        outbox.rewind()

    for step in [*steps, "rehello"]:
        if step == "add":
            outbox.add(0, emitted, b"T", b"\x80")
            emitted += 1
        elif step in ("send", "lose"):
            send(step == "lose")
        elif step == "ack":
            ledger.settle()
            outbox.acknowledge(ledger.nodes["n"].journaled)
        elif step == "echo":
            if taken:
                outbox.echo(0, taken[-1])
        else:
            if step == "restart":
                summary = ledger.dump()
                ledger = Ledger()
                ledger.load(summary.items())
            hello()
    while outbox.unsent:
        send(lost=False)
    assert taken == list(range(emitted))
