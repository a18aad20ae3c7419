"""The bytes of protocol version 1, as they were when it was written down.

`python -m tests.bus.golden_frames` writes them again; a change means that a new protocol version is due.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from optix_bus.bus import blob_format, mcap_format, wire
from optix_bus.bus.codec import Codec
from optix_bus.bus.journal_files import segment_path
from optix_bus.bus.journal_writer import JournalWriter
from optix_bus.bus.ledger import Ledger
from optix_bus.bus.record import stored_form
from optix_bus.messages import VOCABULARY, CutAnnounced
from optix_bus.runtime.cuts import Place, take
from optix_bus.runtime.node import Node
from optix_bus.types import NamedArrays

GOLDEN = Path(__file__).parent / "golden"
STAMP = 1_700_000_000_000_000_000
BODY = b"\x82\xa5count\x03\xa4note\xa2hi"


def _journal() -> bytes:
    """A segment with a HELLO and two events, closed in order."""
    with tempfile.TemporaryDirectory() as directory:
        ledger = Ledger()
        journal = JournalWriter(directory, ledger, run="golden")
        journal.append_hello("learner", 2, "0123456789abcdef")
        for seq, topic in ((1, "Counted"), (2, "Asked")):
            head = wire.encode((seq, STAMP + seq, "learner", 2, seq - 1, 0))[1:]
            data = stored_form(head, wire.encode(topic), BODY)
            journal.append([journal.encode(topic, seq, STAMP + seq, data)], [topic], [STAMP + seq])
        journal.close()
        return segment_path(Path(directory), 1).read_bytes()


def _blob() -> bytes:
    import numpy as np

    arrays = {"weights": np.arange(3, dtype=np.float32), "mask": np.array([True, False])}
    return b"".join(blob_format.parts(NamedArrays(arrays, {"version": 3, "name": "p"})))


class _Golden(Node):
    """A node that knows a little of everything that a state may hold."""

    repeats = False

    def state(self) -> NamedArrays:
        import numpy as np

        arrays = {"weights": np.arange(4, dtype=np.float32).reshape(2, 2), "moments": np.array([0.5, -1.0])}
        return NamedArrays(arrays, {"version": 12, "best": float("nan"), "open": {"7": [1, None, "ä"]}})


def _cut() -> dict[str, bytes]:
    """The third cut of a run, announced as event 77, with the one state of the learner."""
    codec = Codec(VOCABULARY)
    announced = CutAnnounced(cut=3, window=5)
    taken = take("learner", _Golden(), announced)
    return {
        "cut_announced": codec.encode(announced)[1],
        "cut_taken": codec.encode(taken.event)[1],
        "cut_state": b"".join(taken.pieces),
        "cut_place": msgspec.json.encode(Place(3, 77, 5, (70, 1, 4096))),
    }


def frames() -> dict[str, bytes]:
    """Every golden piece by the name of its file."""
    beacon = wire.Beacon(
        version=1,
        boot="00ff",
        run="golden",
        head=7,
        nodes={"learner": wire.NodeBeacon(2, 5, 6, 0, 3, 7)},
        counters={"duplicate": 1},
        journal=wire.JournalState("ok", "", 1, 4096, 6),
    )
    return {
        "event_header": wire.encode(wire.EventHeader(1, "learner", 2, 5, 6, 0)),
        "ordered_header": wire.encode(wire.OrderedHeader(1, 7, STAMP, "learner", 2, 6, 0)),
        "hello": wire.encode(wire.Hello(node="learner", incarnation=2, session="s", number=5)),
        "head_request": wire.encode(wire.HeadRequest()),
        "fetch": wire.encode(wire.Fetch(first=3, max_bytes=1000, id=9)),
        "welcome": wire.encode(
            wire.Welcome(0, "learner", 2, "00ff", "golden", 7, 5, 6, 0, 3, "/run/journal")
        ),
        "refused": wire.encode(wire.Refused(0, "learner", "another_process", "words")),
        "retry": wire.encode(wire.Retry(0, "words")),
        "head": wire.encode(wire.Head(0, "00ff", "golden", 7, None)),
        "records": wire.encode(wire.Records(9, 3, 2, 7)),
        "beacon": wire.encode(beacon),
        "side_header": wire.encode(wire.SideHeader(1, "learner", 2)),
        "channel_record": mcap_format.channel(1, "Counted"),
        "journal": _journal(),
        "blob": _blob(),
        **_cut(),
    }


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, data in frames().items():
        (GOLDEN / f"{name}.bin").write_bytes(data)
