"""The promise of the bus: whatever is killed, each effect is in the journal exactly once and in order."""

from __future__ import annotations

import itertools
import time

import pytest

from optix_bus.bus.journal_reader import read_journal
from optix_bus.bus.journal_verify import verify_journal
from optix_bus.bus.link import Link
from optix_bus.bus.record import Record
from tests.processes.bus_processes import Processes, processes
from tests.processes.counting_node import NODES, CountingFold

TOKENS, HOPS = 200, 500
#: Somebody is killed every second, on a quick machine after so many events: there is no lucky run.
KILL_SECONDS, KILL_EVENTS = 1.0, 4000


def start_node(children: Processes, name: str, incarnation: int) -> None:
    arguments = [str(children.sockets), name, str(incarnation), str(TOKENS), str(HOPS)]
    children.start(name, "-m", "tests.processes.counting_node", *arguments)


def assert_each_effect_once_and_in_order(records: list[Record]) -> None:
    """Run the same folds over the journal: what each node must have emitted is what is there, exactly."""
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    folds = {name: CountingFold(name, TOKENS, HOPS) for name in NODES}
    expected = {name: fold.roots() for name, fold in folds.items()}
    for record in records:
        for name, fold in folds.items():
            expected[name] += fold.handle(record)
    for name in NODES:
        found = [(record.cause, record.index, record.body) for record in records if record.node == name]
        assert found == expected[name], f"{name} lost, repeated or changed something"


@pytest.mark.processes
@pytest.mark.timeout(280)
def test_100_000_events_survive_a_kill_every_second() -> None:
    total = TOKENS * HOPS
    with processes() as children:
        children.start_hub()
        incarnations = dict.fromkeys(NODES, 1)
        for name in NODES:
            start_node(children, name, 1)
        link = Link(children.endpoints)
        link.connect(30.0)
        followed: list[int] = []
        kills = 0
        victims = itertools.cycle(["hub", "n0", "hub", "n1", "hub", "n2", "hub", "n3"])
        deadline = time.monotonic() + 240
        next_kill, next_count = time.monotonic() + KILL_SECONDS, KILL_EVENTS
        while len(followed) < total:
            assert time.monotonic() < deadline, f"only {len(followed)} events in 240 s, after {kills} kills"
            followed += [record.seq for record in link.poll(0.1)]
            due = time.monotonic() > next_kill or len(followed) > next_count
            if due and len(followed) < total:
                victim = next(victims)
                children.kill(victim)
                kills += 1
                if victim == "hub":
                    children.start_hub()
                else:
                    incarnations[victim] += 1
                    start_node(children, victim, incarnations[victim])
                next_kill, next_count = time.monotonic() + KILL_SECONDS, len(followed) + KILL_EVENTS
        assert link.poll(1.0) == []
        link.close()
        assert all(children.is_running(name) for name in NODES), "a node ended by itself"
        assert children.stop("hub") == 0
        print(f"{total} events, {kills} kills, {link.counters}")
        assert kills >= 16, "two rounds through hub and nodes"
        assert followed == list(range(1, total + 1))
        records = list(read_journal(children.journal))
        assert len(records) == total
        assert_each_effect_once_and_in_order(records)
        assert verify_journal(children.journal).damages == []
