"""How fast a journal is read: at a glance, verified to the last byte, exported, compared with itself.

    python -m tests.benchmarks.bench_log [--quick]

The journal holds the events of a training loop in the proportions of a real one. Beside it stand the plain
`mcap` reader, which decodes nothing and compares no checksum, and the bare reading of the file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path

from mcap.reader import make_reader

from optix_bus.bus.codec import Codec
from optix_bus.bus.journal_export import Selection, export_json
from optix_bus.bus.journal_files import segment_path, segments
from optix_bus.bus.journal_reader import read_journal
from optix_bus.bus.journal_verify import verify_journal
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import Ledger
from optix_bus.bus.record import Record, encode_record
from optix_bus.messages import (
    VOCABULARY,
    CollectWindow,
    Event,
    HyperparametersChanged,
    HyperparametersProposed,
    PolicyUpdated,
    RunStarted,
    WindowCollected,
    WindowJudged,
    WindowScored,
)
from optix_bus.runtime.journal_summary import summarise
from optix_bus.runtime.run_diff import diff_runs
from optix_bus.types import BlobRef
from tests.benchmarks import measure
from tests.benchmarks.measure import Demand, Series, Table, interleaved, seconds

_BATCH = 256
_PARAMS = {"learning_rate": 3e-4, "clip_range": 0.2, "ent_coef": 0.01, "gamma": 0.99}


def bench(quick: bool) -> Table:
    """The table."""
    events, rounds = (3_000, 1) if quick else (200_000, 5)
    table = Table("Reading a journal", judged=not quick)
    with tempfile.TemporaryDirectory(prefix="optix-bus-bench-") as name:
        folder = Path(name)
        write(folder, events)
        files = [segment_path(folder, first) for first in segments(folder)]
        megabytes = sum(path.stat().st_size for path in files) / 1e6
        codec = Codec(VOCABULARY)

        def per_second(action: Callable[[], object]) -> Callable[[], float]:
            return lambda: events / seconds(action)

        found = interleaved(
            rounds,
            {
                "file": per_second(lambda: [raw(path) for path in files]),
                "mcap": per_second(lambda: [stock(path) for path in files]),
                "records": per_second(lambda: sum(1 for _ in read_journal(folder))),
                "info": per_second(lambda: clean(summarise(folder).report.is_clean)),
                "bytes": per_second(lambda: clean(verify_journal(folder).is_clean)),
                "verify": per_second(lambda: clean(verify_journal(folder, decode=codec.decode).is_clean)),
                "json": per_second(lambda: export(folder)),
                "diff": per_second(lambda: clean(diff_runs(folder, folder).equal)),
            },
        )
    demand = Demand(">=", 100_000, "events/s")
    peers = {"plain mcap reader": found["mcap"], "bare file": found["file"]}
    table.add("the file itself", found["file"].map(lambda rate: rate * megabytes / events), "MB/s")
    for name, label in (
        ("info", "log info"),
        ("verify", "log verify"),
        ("bytes", "log verify --no-bodies"),
        ("records", "events as records"),
        ("json", "log export --json"),
        ("diff", "diff with itself"),
    ):
        judged = demand if name in ("info", "verify") else None
        table.add(label, found[name], "events/s", demand=judged)
        for peer, series in peers.items():
            if judged is not None:
                table.add(
                    f"{label} beside the {peer}", found[name], "events/s", **beside(peer, found[name], series)
                )
    return table


def beside(peer: str, ours: Series, theirs: Series) -> dict[str, object]:
    """The columns of a comparison."""
    return {"beside": peer, "peer": theirs, "ratio": ours.over(theirs)}


def write(folder: Path, events: int) -> None:
    """A journal of a loop that goes on and on."""
    ledger, codec = Ledger(), Codec(VOCABULARY)
    writer = JournalWriter(folder, ledger, run="bench")
    for node in ("supervisor", *dict.fromkeys(node for node, _ in islice(loop(), 30))):
        writer.append_hello(node, 1, "0" * 16)
        ledger.note_hello(node, 1, "0" * 16)
    entries: list[bytes] = []
    topics: list[str] = []
    stamps: list[int] = []
    script = loop()
    for seq in range(1, events + 1):
        node, event = next(script) if seq > 1 else ("supervisor", RunStarted(run_id="bench", seed=0))
        stamp = 1_700_000_000_000_000_000 + seq * 1_000_000
        name, body = codec.encode(event)
        record = Record(seq, stamp, node, 1, seq - 1, 0, name, body)
        ledger.note_record(record)
        entries.append(writer.encode(name, seq, stamp, encode_record(record)))
        topics.append(name)
        stamps.append(stamp)
        if len(entries) == _BATCH or seq == events:
            assert writer.append(entries, topics, stamps) == len(entries)
            entries, topics, stamps = [], [], []
            if writer.is_full:
                assert writer.rotate()
    writer.close()


def loop() -> Iterator[tuple[str, Event]]:
    """What the nodes say, window after window."""
    for window in count():
        versions = {"window": window, "policy_version": window, "hyperparams_version": 0}
        blob = BlobRef(
            name=f"pipeline/window-{window:06d}", bytes=123_456, checksum="0" * 32, owner="pipeline"
        )
        yield "scheduler", CollectWindow(**versions, evaluate=True)
        for role, purpose in (("train", "train"), ("validation", "score")):
            yield (
                "pipeline" if role == "train" else "validation",
                WindowCollected(
                    role=role,  # type: ignore[arg-type]
                    purpose=purpose,  # type: ignore[arg-type]
                    **versions,
                    evaluate=True,
                    data=blob,
                    steps=2048,
                    total_steps=2048 * window,
                    episodes=20,
                ),
            )
        numbers = {"loss": 0.1 + window, "entropy": 0.6, "kl": 0.01, "clip_fraction": 0.1}
        yield (
            "learner",
            PolicyUpdated(
                version=window + 1,
                window=window,
                hyperparams_version=0,
                origin="learned",
                policy=blob,
                diagnostics=numbers,
            ),
        )
        yield (
            "evaluator",
            WindowScored(
                **versions,
                purpose="score",
                learnt_with=0,
                score=1.5 * window,
                n=20,
                standard_error=0.1,
                std=0.4,
                train_score=1.4,
                generalization_gap=0.1,
                metrics=numbers,
            ),
        )
        yield "optimizer", HyperparametersProposed(window=window, params=_PARAMS, changed=False)
        yield "learner", HyperparametersChanged(version=0, window=window, params=_PARAMS, changed=False)
        yield (
            "scheduler",
            WindowJudged(
                window=window,
                policy_version=window,
                verdict="improved",
                state="active",
                interval=1,
                score=1.5 * window,
                standard_error=0.1,
                smoothed=1.5,
                margin=0.2,
                best_score=1.5,
                best_policy_version=window,
                steps=2048 * window,
            ),
        )


def raw(path: Path) -> int:
    """Read a file and do nothing with it."""
    size = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(512 * 1024):
            size += len(chunk)
    return size


def stock(path: Path) -> int:
    """What a tool that only knows MCAP does, at its fastest: in the order of the file, bodies as bytes."""
    with path.open("rb") as stream:
        return sum(1 for _ in make_reader(stream).iter_messages(log_time_order=False))


def export(folder: Path) -> None:
    """All of it as JSON lines, into nothing."""
    with open(os.devnull, "wb") as nothing:
        export_json(folder, nothing, Selection())


def clean(fact: bool) -> None:
    """A benchmark of something that went wrong says nothing."""
    if not fact:
        raise RuntimeError("the journal of the benchmark is not as it should be")


if __name__ == "__main__":
    measure.run(bench)
