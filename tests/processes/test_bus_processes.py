"""The hub as a real process: stopped subscribers, full disks, orderly ends."""

from __future__ import annotations

import resource
import signal
import subprocess
import time
from pathlib import Path

import msgpack
import pytest
from mcap.reader import make_reader

from optix_bus.bus.journal_files import segment_path, segments
from optix_bus.bus.journal_reader import read_journal
from optix_bus.bus.link import Link
from tests.processes.bus_processes import Processes, processes

pytestmark = pytest.mark.processes

BODY: bytes = msgpack.packb({"pad": "x" * 100})


def emit_until(link: Link, first: int, seconds: float, rate: int) -> int:
    """Emit at this rate for so long; returns the next index."""
    start = time.monotonic()
    index = first
    while (now := time.monotonic() - start) < seconds:
        while index - first < now * rate:
            link.emit("source", 0, index, "Tick", BODY)
            index += 1
        link.poll(0.01)
    return index


def memory_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def connected(children: Processes) -> Link:
    link = Link(children.endpoints, ["source"], 1)
    link.connect(30.0)
    return link


@pytest.mark.timeout(120)
def test_a_subscriber_that_was_stopped_for_ten_seconds_under_load_catches_up() -> None:
    with processes() as children:
        hub = children.start_hub()
        link = connected(children)
        rate, total = 2000, 26_000
        arguments = ["-m", "tests.processes.following_node", str(children.sockets), str(total)]
        children.start("follower", *arguments, stdout=subprocess.PIPE)
        output = children._children["follower"].stdout
        assert output is not None
        assert output.readline() == b"connected\n"
        index = emit_until(link, 0, 1.0, rate)
        children.signal("follower", signal.SIGSTOP)
        index = emit_until(link, index, 10.0, rate)
        children.signal("follower", signal.SIGCONT)
        while index < total:
            index = min(emit_until(link, index, 0.2, rate), total)
        assert link.flush(20.0)
        assert children._children["follower"].wait(30) == 0, output.read().decode()
        assert output.read().startswith(b"catch_ups ")
        assert memory_megabytes(hub) < 70, "a slow subscriber must cost the hub nothing"
        link.close()
        output.close()


def test_a_tail_that_the_socket_of_a_stopped_subscriber_dropped_is_delivered() -> None:
    """The last events overflow its queue and nothing follows that would show a gap."""
    with processes() as children:
        children.start_hub()
        link = connected(children)
        total = 30_000
        arguments = ["-m", "tests.processes.following_node", str(children.sockets), str(total)]
        children.start("follower", *arguments, stdout=subprocess.PIPE)
        output = children._children["follower"].stdout
        assert output is not None
        assert output.readline() == b"connected\n"
        children.signal("follower", signal.SIGSTOP)
        for index in range(total):
            link.emit("source", 0, index, "Tick", BODY)
            if index % 100 == 0:
                link.poll()
        assert link.flush(30.0)
        children.signal("follower", signal.SIGCONT)
        assert children._children["follower"].wait(30) == 0
        assert int(output.read().split()[1]) >= 1
        link.close()
        output.close()


def test_a_disk_that_is_full_and_then_has_room_again_loses_nothing() -> None:
    """The real thing: the system refuses, and takes a part of one write, at a file size limit."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    with processes() as children:
        hub = children.start_hub(preexec_fn=limit)
        link = connected(children)
        seen = []
        for index in range(2000):
            link.emit("source", 0, index, "Tick", BODY)
        while link.beacon is None or link.beacon.journal.state == "ok":
            seen += [record.index for record in link.poll(0.1)]
        assert link.beacon.journal.reason
        before = len(seen) + len(link.poll(0.3))
        assert 100 < before < 2000
        assert segment_path(children.journal, 1).stat().st_size <= 100_000
        resource.prlimit(hub, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert link.flush(30.0)
        assert [record.index for record in read_journal(children.journal)] == list(range(2000))
        link.close()
        assert children.stop("hub") == 0


def test_a_hub_killed_while_its_disk_is_full_loses_nothing_either() -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))

    with processes() as children:
        children.start_hub(preexec_fn=limit)
        link = connected(children)
        for index in range(1000):
            link.emit("source", 0, index, "Tick", BODY)
        while link.beacon is None or link.beacon.journal.state == "ok":
            link.poll(0.1)
        children.kill("hub")
        children.start_hub()
        assert link.flush(30.0)
        assert [record.index for record in read_journal(children.journal)] == list(range(1000))
        link.close()


def test_an_orderly_end_leaves_a_journal_that_stock_tools_open() -> None:
    with processes() as children:
        children.start_hub("--segment-bytes", "20000", "--sync-each", "Tick")
        link = connected(children)
        for index in range(500):
            link.emit("source", 0, index, "Tick", BODY)
            link.poll(0.0)
        assert link.flush(30.0)
        link.close()
        assert children.stop("hub") == 0
        sequences = []
        for first in segments(children.journal):
            with segment_path(children.journal, first).open("rb") as stream:
                reader = make_reader(stream, validate_crcs=True)
                assert reader.get_summary() is not None
                sequences += [message.sequence for _, _, message in reader.iter_messages()]
        assert sequences == list(range(1, 501))
        assert len(segments(children.journal)) >= 2


def test_a_hub_starts_light() -> None:
    """It must not load what only nodes need."""
    with processes() as children:
        hub = children.start_hub()
        connected(children).close()
        mapped = Path(f"/proc/{hub}/maps").read_text()
        assert not [name for name in ("numpy", "torch", "scipy", "xxhash") if f"/{name}/" in mapped]
        assert memory_megabytes(hub) < 40
