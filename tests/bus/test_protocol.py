"""The protocol page and the code say the same: golden bytes, and the page's own examples."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgpack
import pytest
import safetensors.numpy
import xxhash

import optix_bus
from optix_bus.bus import wire
from optix_bus.bus.journal_reader import read_journal
from tests.bus.golden_frames import GOLDEN, STAMP, frames
from tests.bus.harness import HubThread

PAGE = Path(optix_bus.__file__).parent / "PROTOCOL.md"

#: What the golden bytes mean, by the plain msgpack package.
MEANINGS: dict[str, Any] = {
    "event_header": [1, "learner", 2, 5, 6, 0],
    "ordered_header": [1, 7, STAMP, "learner", 2, 6, 0],
    "hello": {"op": "hello", "node": "learner", "incarnation": 2, "session": "s", "number": 5},
    "head_request": {"op": "head"},
    "fetch": {"op": "fetch", "first": 3, "max_bytes": 1000, "id": 9},
    "welcome": {
        "op": "welcome",
        "id": 0,
        "node": "learner",
        "incarnation": 2,
        "boot": "00ff",
        "run": "golden",
        "head": 7,
        "number": 5,
        "cause": 6,
        "index": 0,
        "root": 3,
        "journal": "/run/journal",
    },
    "refused": {"op": "refused", "id": 0, "node": "learner", "reason": "another_process", "message": "words"},
    "retry": {"op": "retry", "id": 0, "message": "words"},
    "head": {"op": "head", "id": 0, "boot": "00ff", "run": "golden", "head": 7, "journal": None},
    "records": {"op": "records", "id": 9, "first": 3, "count": 2, "head": 7},
    "beacon": {
        "version": 1,
        "boot": "00ff",
        "run": "golden",
        "head": 7,
        "nodes": {"learner": [2, 5, 6, 0, 3, 7]},
        "counters": {"duplicate": 1},
        "journal": {"state": "ok", "reason": "", "segment": 1, "offset": 4096, "synced": 6},
    },
    "side_header": [1, "learner", 2],
    "cut_announced": {"cut": 3, "window": 5},
    "cut_taken": {
        "cut": 3,
        "node": "learner",
        "file": "cuts/000003/learner.safetensors",
        "bytes": 248,
        "checksum": "3b24d0c330dde91cb2f79f665ddae38b",
        "repeats": False,
    },
}


def test_there_is_a_golden_file_for_every_piece_and_no_other() -> None:
    assert {path.stem for path in GOLDEN.glob("*.bin")} == set(frames())


@pytest.mark.parametrize("name", sorted(frames()))
def test_the_bytes_are_the_golden_ones(name: str) -> None:
    assert frames()[name] == (GOLDEN / f"{name}.bin").read_bytes()


@pytest.mark.parametrize("name", sorted(MEANINGS))
def test_the_golden_bytes_mean_what_the_page_says(name: str) -> None:
    assert msgpack.unpackb((GOLDEN / f"{name}.bin").read_bytes()) == MEANINGS[name]


def test_the_golden_requests_and_answers_are_understood() -> None:
    for name in ("hello", "head_request", "fetch"):
        assert wire.encode(wire.decode_request((GOLDEN / f"{name}.bin").read_bytes())) == frames()[name]
    for name in ("welcome", "refused", "retry", "head", "records"):
        assert wire.encode(wire.decode_reply((GOLDEN / f"{name}.bin").read_bytes())) == frames()[name]


def test_a_golden_journal_is_read(tmp_path: Path) -> None:
    (tmp_path / f"{1:020d}.mcap").write_bytes((GOLDEN / "journal.bin").read_bytes())
    assert [(record.seq, record.type, record.cause) for record in read_journal(tmp_path)] == [
        (1, "Counted", 0),
        (2, "Asked", 1),
    ]


def test_a_golden_cut_is_read_by_stock_tools() -> None:
    state, taken = (GOLDEN / "cut_state.bin").read_bytes(), MEANINGS["cut_taken"]
    assert (len(state), xxhash.xxh3_128_hexdigest(state)) == (taken["bytes"], taken["checksum"])
    arrays = safetensors.numpy.load(state)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "weights": [[0.0, 1.0], [2.0, 3.0]],
        "moments": [0.5, -1.0],
    }
    place = json.loads((GOLDEN / "cut_place.bin").read_bytes())
    assert place == {"cut": 3, "sequence": 77, "window": 5, "near": [70, 1, 4096]}


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_examples_of_the_page_run_with_plain_msgpack_and_pyzmq(hub: HubThread) -> None:
    blocks = examples()
    assert len(blocks) >= 4
    for block in blocks:
        assert "optix_bus" not in block
        assert "msgspec" not in block
    names: dict[str, Any] = {
        "sockets": hub.endpoints.control.removeprefix("ipc://").removesuffix("/ctl"),
        "journal": str(hub.journal),
    }
    try:
        exec(compile("\n".join(blocks), str(PAGE), "exec"), names)
    finally:
        if "context" in names:
            names["context"].destroy(linger=0)
    assert [record.type for record in hub.records()] == ["Noted", "Noted"]


def test_every_rule_of_the_page_has_its_reason() -> None:
    rules = re.findall(
        r"^\*\*R\d+\.\*\* .*?(?=^\*\*R\d+\.\*\*|^#|\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    assert len(rules) >= 20
    assert [rule.split("\n")[0] for rule in rules if "Why:" not in rule] == []


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    page = PAGE.read_text()
    for limit in (wire.MAX_BODY_BYTES, wire.MAX_HEADER_BYTES, wire.MAX_CONTROL_BYTES):
        assert f"{limit:,} bytes" in page
    assert f"Protocol version {wire.PROTOCOL_VERSION}" in page
