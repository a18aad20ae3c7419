from __future__ import annotations

import builtins
import io
import json
from pathlib import Path
from typing import Any

import msgpack
import pytest

from optix_bus.bus import journal_export
from optix_bus.bus.journal_export import Selection, body_as_json, export_json, export_parquet
from optix_bus.bus.journal_files import segment_path, segments
from optix_bus.errors import JournalError, MissingExtra
from tests.bus.journals import Journal, flip, spans, write


def lines(folder: Path, selection: Selection | None = None) -> list[dict[str, Any]]:
    output = io.BytesIO()
    export_json(folder, output, selection or Selection())
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_each_event_becomes_a_line_with_its_header_and_its_body(tmp_path: Path) -> None:
    records = write(tmp_path, 40, segment_bytes=2000)
    assert lines(tmp_path) == [
        {
            "seq": record.seq,
            "stamp_ns": record.stamp_ns,
            "node": record.node,
            "incarnation": record.incarnation,
            "cause": record.cause,
            "index": record.index,
            "type": record.type,
            "body": msgpack.unpackb(record.body),
        }
        for record in records
    ]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(first=38), [38, 39, 40]),
        (Selection(last=2), [1, 2]),
        (Selection(first=17, last=19), [17, 18, 19]),
        (Selection(types={"Asked"}, last=9), [3, 6, 9]),
        (Selection(nodes={"learner", "pipeline"}, last=6), [1, 2, 4, 5]),
        (Selection(nodes={"learner"}, types={"Asked"}), []),
        (Selection(first=100), []),
    ],
)
def test_events_are_chosen_by_type_node_and_number(
    tmp_path: Path, selection: Selection, expected: list[int]
) -> None:
    write(tmp_path, 40, segment_bytes=2000)
    assert [line["seq"] for line in lines(tmp_path, selection)] == expected
    assert (selection.taken, selection.damages) == (len(expected), 0)


def test_segments_that_hold_nothing_of_what_is_wanted_are_not_read(tmp_path: Path) -> None:
    write(tmp_path, 40, segment_bytes=2000)
    first, second, third = segments(tmp_path)[:3]
    for other in (first, third):
        segment_path(tmp_path, other).write_bytes(b"not read")
    selection = Selection(first=second, last=third - 1)
    assert [line["seq"] for line in lines(tmp_path, selection)] == list(range(second, third))
    assert selection.damages == 0


def test_of_a_damaged_journal_everything_is_given_that_can_be_read(tmp_path: Path) -> None:
    write(tmp_path, 40, segment_bytes=2000)
    path = segment_path(tmp_path, 1)
    flip(path, spans(path.read_bytes())[4][1] - 12)
    selection = Selection()
    assert [line["seq"] for line in lines(tmp_path, selection)] == [1, 2, 3, 4, *range(6, 41)]
    assert selection.damages == 1
    _, second, third = segments(tmp_path)[:3]
    segment_path(tmp_path, second).unlink()
    selection = Selection()
    assert len(lines(tmp_path, selection)) == 39 - (third - second)
    assert selection.damages == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": float("nan"), "b": float("-inf")}, b'{"a":null,"b":null}'),
        ({"a": b"\x00\xff"}, b'{"a":"AP8="}'),
        ({1: "one"}, b'{"1":"one"}'),
        ({(1, 2): 3}, b'{"msgpack":"gZIBAgM="}'),
    ],
)
def test_bodies_become_json_whatever_they_hold(value: Any, text: bytes) -> None:
    assert body_as_json(msgpack.packb(value)) == text


def test_bytes_that_are_no_body_are_kept_as_they_are() -> None:
    assert json.loads(body_as_json(b"\x81\xa1")) == {"msgpack": "gaE="}


def test_a_table_has_the_same_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(journal_export, "_ROWS", 7)
    write(tmp_path / "j", 40, segment_bytes=2000)
    output = tmp_path / "events.parquet"
    output.write_bytes(b"an older one")
    selection = Selection(types={"Asked", "Learnt"})
    export_parquet(tmp_path / "j", output, selection)
    rows = parquet.read_table(output).to_pylist()
    for row in rows:
        row["body"] = json.loads(row["body"])
    assert rows == lines(tmp_path / "j", Selection(types={"Asked", "Learnt"}))
    assert selection.taken == len(rows) == 27
    assert parquet.ParquetFile(output).schema.names == list(rows[0])
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["events.parquet"]


def test_a_table_of_nothing_has_its_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "j", 3)
    export_parquet(tmp_path / "j", tmp_path / "none.parquet", Selection(types={"Unheard"}))
    table = parquet.read_table(tmp_path / "none.parquet")
    assert (table.num_rows, table.num_columns) == (0, 8)


def test_a_table_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    write(tmp_path / "j", 3)
    (tmp_path / "there").mkdir()
    with pytest.raises(JournalError, match="cannot be written"):
        export_parquet(tmp_path / "j", tmp_path / "there", Selection())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["j", "there"]


def test_without_pyarrow_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    journal.close()
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"pyarrow is needed .* pip install 'optix-bus\[parquet\]'"):
        export_parquet(tmp_path, tmp_path / "x.parquet", Selection())


def test_no_journal_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="holds no journal"):
        lines(tmp_path)
