"""Speed of the bus on this machine: `python -m tests.benchmarks.bench_bus [--quick]`.

Echo latency with the journal on beside a bare ZeroMQ echo, events a second through the journal from four
producing processes, reading back, and blobs beside a plain copy of the same bytes. Medians over repetitions
with their range. Both echoes run in the same rounds, so that a noisy neighbour hits both.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import zmq

from optix_bus.bus.blobs import FileBlobStore
from optix_bus.bus.endpoints import HubEndpoints
from optix_bus.bus.journal_reader import JournalCursor
from optix_bus.bus.link import Link
from optix_bus.types import NamedArrays

#: About the size of a `WindowCollected`.
BODY = b"\x82\xa6window\xce\x00\x00\x00\x01\xa4data\xd9\xc8" + b"x" * 200

_BARE = """
import sys, zmq
context = zmq.Context()
pull, pub = context.socket(zmq.PULL), context.socket(zmq.PUB)
pull.bind(sys.argv[1]); pub.bind(sys.argv[2])
while True:
    frames = pull.recv_multipart()
    pub.send_multipart(frames)
"""


def spread(values: list[float], unit: str, scale: float = 1.0) -> str:
    """Median [lowest to highest]."""
    scaled = [value * scale for value in values]
    return f"{statistics.median(scaled):,.1f} [{min(scaled):,.1f} to {max(scaled):,.1f}] {unit}"


@contextmanager
def running_hub(base: Path) -> Iterator[HubEndpoints]:
    """A hub in its own process, journal on."""
    arguments = ["--directory", str(base / "s"), "--journal", str(base / "j")]
    process = subprocess.Popen([sys.executable, "-m", "optix_bus.bus.hub", *arguments])
    try:
        yield HubEndpoints.in_directory(base / "s")
        status = Path(f"/proc/{process.pid}/status").read_text()
        print(f"hub memory: {int(status.split('VmRSS:')[1].split()[0]) / 1024:.1f} MB")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def timed(count: int, once: Callable[[int], None]) -> list[float]:
    """Seconds of each call, sorted."""
    times = []
    for number in range(count):
        start = time.perf_counter()
        once(number)
        times.append(time.perf_counter() - start)
    return sorted(times)


def echo(base: Path, rounds: int, count: int) -> None:
    """Round trips of one event, ours and bare, in turns."""
    addresses = [f"ipc://{base}/bare_in", f"ipc://{base}/bare_out"]
    bare = subprocess.Popen([sys.executable, "-c", _BARE, *addresses])
    context = zmq.Context()
    try:
        push, sub = context.socket(zmq.PUSH), context.socket(zmq.SUB)
        push.connect(addresses[0])
        sub.connect(addresses[1])
        sub.setsockopt(zmq.SUBSCRIBE, b"")
        while not sub.poll(20):
            push.send_multipart([b"Tick", b"header", BODY])
        while sub.poll(100):
            sub.recv_multipart()
        with running_hub(base) as endpoints:
            link = Link(endpoints, ["bench"], 1)
            link.connect(20.0)
            emitted = 0

            def bare_once(_: int) -> None:
                push.send_multipart([b"Tick", b"header header header", BODY])
                sub.recv_multipart()

            def ours_once(_: int) -> None:
                nonlocal emitted
                link.emit("bench", 0, emitted, "Tick", BODY)
                emitted += 1
                while not link.poll(1.0):
                    continue

            results: dict[str, list[list[float]]] = {"bare": [], "ours": []}
            for _ in range(rounds):
                results["bare"].append(timed(count, bare_once))
                results["ours"].append(timed(count, ours_once))
            medians = {}
            for name, runs in results.items():
                medians[name] = [run[len(run) // 2] for run in runs]
                tails = [run[len(run) * 99 // 100] for run in runs]
                print(f"echo {name}: p50 {spread(medians[name], 'us', 1e6)}, p99 {spread(tails, 'us', 1e6)}")
            pairs = zip(medians["ours"], medians["bare"], strict=True)
            print(
                f"echo ours / bare: {spread([ours / other for ours, other in pairs], 'x')} (demand: under 3)"
            )
            link.close()
    finally:
        bare.kill()
        bare.wait()
        context.destroy(linger=0)


_PRODUCER = """
import sys
from optix_bus.bus.endpoints import HubEndpoints
from optix_bus.bus.link import Link
from tests.benchmarks.bench_bus import BODY
node, count = sys.argv[2], int(sys.argv[3])
link = Link(HubEndpoints.in_directory(sys.argv[1]), [node], 1, from_seq=None, types=())
link.connect(20.0)
for number in range(count):
    link.emit(node, 0, number, "Tick", BODY)
    if number % 64 == 0:
        link.poll()
assert link.flush(60.0)
link.close()
"""


def throughput(base: Path, rounds: int, producers: int, count: int) -> None:
    """Events a second, from the first to the last journaled, producers in their own processes."""
    rates = []
    for number in range(rounds):
        place = base / f"t{number}"
        place.mkdir()
        with running_hub(place) as endpoints:
            names = [f"n{producer}" for producer in range(producers)]
            arguments = [sys.executable, "-c", _PRODUCER, str(place / "s")]
            children = [subprocess.Popen([*arguments, name, str(count)]) for name in names]
            for child in children:
                assert child.wait(120) == 0
            del endpoints
        cursor = JournalCursor(place / "j")
        start = time.perf_counter()
        stamps = []
        while records := cursor.read(5000):
            stamps += [record.stamp_ns for record in records]
        reading = time.perf_counter() - start
        assert len(stamps) == producers * count
        rates.append(len(stamps) / ((stamps[-1] - stamps[0]) / 1e9))
        print(f"  read back {len(stamps) / reading:,.0f} events/s")
    print(f"{producers} producers: {spread(rates, 'journaled events/s')} (demand: 30,000)")


def blobs(base: Path, rounds: int, megabytes: int) -> None:
    """Writing and reading a blob beside copying the same bytes once."""
    shared = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        store = FileBlobStore(shared / "b", base / "b", 1 << 40, "bench")
        source = np.random.default_rng(0).random(megabytes << 17)
        target = np.zeros_like(source)
        content = NamedArrays({"x": source})
        times: dict[str, list[float]] = {"copy": [], "write": [], "read verified": [], "map only": []}
        for _ in range(rounds):
            marks = [time.perf_counter()]
            np.copyto(target, source)
            marks.append(time.perf_counter())
            ref = store.write("bench/x-000001", content)
            marks.append(time.perf_counter())
            store.read(ref)
            marks.append(time.perf_counter())
            store.read(ref, verify=False)
            marks.append(time.perf_counter())
            for name, start, end in zip(times, marks, marks[1:], strict=False):
                times[name].append(end - start)
        for name, found in times.items():
            print(f"blob {megabytes} MiB {name}: {spread(found, 'ms', 1e3)}")
    finally:
        shutil.rmtree(shared)


def main() -> None:
    """Run everything and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    quick = parser.parse_args().quick
    base = Path(tempfile.mkdtemp())
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f} before the start")
    try:
        echo(base, 3 if quick else 7, 1500 if quick else 4000)
        throughput(base, 1 if quick else 3, 4, 25_000)
        blobs(base, 5 if quick else 15, 8)
        blobs(base, 3 if quick else 9, 64)
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
