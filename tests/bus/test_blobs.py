from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optix_bus.bus import blob_files, blob_format
from optix_bus.bus.blob_budget import BlobBudget
from optix_bus.bus.blobs import FileBlobStore, MemoryBlobStore, sweep_directory
from optix_bus.errors import BlobError, BlobMissing
from optix_bus.types import BlobRef, NamedArrays

CONTENT = NamedArrays(
    {
        "observations": np.arange(12, dtype=np.float32).reshape(3, 4),
        "dones": np.array([True, False, True]),
        "steps": np.int64(7),
        "nothing": np.zeros((0, 4), np.float64),
        "opaque": np.frombuffer(b"bytes of an agent's own", np.uint8),
    },
    {"role": "train", "versions": [1, 2], "ratio": 0.5},
)


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileBlobStore | MemoryBlobStore:
    return MemoryBlobStore() if request.param == "memory" else file_store(tmp_path)


def file_store(path: Path, budget: int = 10**6, owner: str = "pipeline", **options: Any) -> FileBlobStore:
    return FileBlobStore(path / "shm", path / "run", budget, owner, **options)


def floats(count: int) -> NamedArrays:
    return NamedArrays({"x": np.arange(count, dtype=np.float64)})


def assert_equal(found: NamedArrays, expected: NamedArrays) -> None:
    assert dict(found.metadata) == dict(expected.metadata)
    assert set(found.arrays) == set(expected.arrays)
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, strict=True)


def test_what_was_written_is_read_back_with_its_types_and_shapes(store: FileBlobStore) -> None:
    assert_equal(store.read(store.write("pipeline/window-000001", CONTENT)), CONTENT)


def test_what_is_read_cannot_be_written_to(store: FileBlobStore) -> None:
    array = store.read(store.write("pipeline/window-000001", CONTENT)).arrays["observations"]
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


def test_files_and_memory_give_the_same_reference(tmp_path: Path) -> None:
    written = file_store(tmp_path).write("pipeline/window-000001", CONTENT)
    assert written == MemoryBlobStore().write("pipeline/window-000001", CONTENT)
    assert written.owner == "pipeline"


def test_the_bytes_are_those_of_safetensors(tmp_path: Path) -> None:
    content = NamedArrays(CONTENT.arrays, {"only": "one"})
    file_store(tmp_path).write("pipeline/window-000001", content)
    stored = (tmp_path / "shm/pipeline/window-000001.safetensors").read_bytes()
    arrays = {name: np.asarray(array) for name, array in content.arrays.items()}
    assert stored == safetensors.numpy.save(arrays, {"only": '"one"'})


def test_the_stock_reader_opens_a_blob_and_we_open_its_files() -> None:
    stored = b"".join(blob_format.parts(CONTENT))
    for name, array in safetensors.numpy.load(stored).items():
        np.testing.assert_array_equal(array, CONTENT.arrays[name])
    arrays = {"a": np.arange(3.0), "b": np.arange(4, dtype=np.int8)}
    assert_equal(blob_format.parse(safetensors.numpy.save(arrays), "x"), NamedArrays(arrays))


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        hnp.arrays(
            st.sampled_from([np.dtype(name) for name in ("f4", "f8", "i8", "u1", "?", "f2", "i4", ">f4")]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        max_size=4,
    )
)
def test_any_arrays_survive(arrays: dict[str, npt.NDArray[Any]]) -> None:
    found = blob_format.parse(b"".join(blob_format.parts(NamedArrays(arrays))), "x").arrays
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.aligned


@given(st.binary(max_size=300))
def test_random_bytes_are_no_blob_and_no_crash(data: bytes) -> None:
    with pytest.raises(BlobError, match="damaged"):
        blob_format.parse(data, "x")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": [12, 20]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [2**63], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]},
        {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]},
    ],
)
def test_a_header_that_does_not_fit_its_bytes_is_damage(entry: dict[str, Any]) -> None:
    text = json.dumps({"x": entry}).encode()
    with pytest.raises(BlobError, match="damaged"):
        blob_format.parse(len(text).to_bytes(8, "little") + text + bytes(16), "x")


@pytest.mark.parametrize(
    "value",
    [
        math.inf,
        -math.inf,
        [1.5, {"a": -math.inf}],
        10**30,
        1e-320,
        0.1 + 0.2,
        "\ud800",
        "\u00e9\x00",
        None,
        -0.0,
    ],
)
def test_what_only_python_calls_json_comes_back_too(value: Any) -> None:
    content = NamedArrays({}, {"value": value, "nan": math.nan})
    found = blob_format.parse(b"".join(blob_format.parts(content)), "x").metadata
    assert repr(found["value"]) == repr(value)
    assert math.isnan(found["nan"])


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_changed_byte_never_passes_the_checksum(position: int, value: int) -> None:
    store = MemoryBlobStore()
    ref = store.write("pipeline/window-000001", CONTENT)
    stored = bytearray(store._blobs[ref.name])
    position %= len(stored)
    if stored[position] == value:
        value ^= 1
    stored[position] = value
    store._blobs[ref.name] = bytes(stored)
    with pytest.raises(BlobError, match="its checksum is"):
        store.read(ref)


def test_strided_arrays_are_stored_as_they_look(store: FileBlobStore) -> None:
    array = np.arange(24.0).reshape(4, 6)[::2, ::3].T
    found = store.read(store.write("pipeline/window-000001", NamedArrays({"x": array}))).arrays["x"]
    np.testing.assert_array_equal(found, array)


def test_what_cannot_be_stored_is_named(store: FileBlobStore) -> None:
    with pytest.raises(BlobError, match="array 'x' has dtype object"):
        store.write("pipeline/window-1", NamedArrays({"x": np.array([object()])}))
    with pytest.raises(BlobError, match="metadata of a blob holds what JSON cannot say"):
        store.write("pipeline/window-1", NamedArrays({}, {"x": object()}))


@pytest.mark.parametrize(
    "name",
    ["x", "pipeline/", "/etc/passwd", "pipeline/../x", "../pipeline/x", "pipeline/.x", "pipeline/a b", ""],
)
def test_a_name_that_leaves_the_directory_is_refused(store: FileBlobStore, name: str) -> None:
    with pytest.raises(BlobError, match="no blob name"):
        store.write(name, CONTENT)
    with pytest.raises(BlobError, match="no blob name"):
        store.read(BlobRef(name, 1, "", "pipeline"))


def test_a_reference_with_another_owner_is_refused(store: FileBlobStore) -> None:
    ref = store.write("pipeline/window-000001", CONTENT)
    with pytest.raises(BlobError, match="said to be 'learner'"):
        store.read(replace(ref, owner="learner"))


def test_only_the_owner_writes_and_retires(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    with pytest.raises(BlobError, match="not a name of 'pipeline'"):
        store.write("learner/policy-000001", CONTENT)
    with pytest.raises(BlobError, match="is not for 'pipeline' to retire"):
        store.retire("learner/policy-000001")
    other = file_store(tmp_path, owner="learner")
    assert_equal(store.read(other.write("learner/policy-000001", CONTENT)), CONTENT)


def test_a_missing_blob_says_so(store: FileBlobStore) -> None:
    ref = store.write("pipeline/window-000001", CONTENT)
    store.retire(ref.name)
    store.retire(ref.name)
    with pytest.raises(BlobError, match="it was retired"):
        store.read(ref)
    assert store.used_bytes == 0


def test_a_truncated_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    ref = store.write("pipeline/window-000001", CONTENT)
    path = tmp_path / "shm/pipeline/window-000001.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(BlobError, match=f"has {len(data) - 1} bytes, its reference says {len(data)}"):
        store.read(ref)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BlobError, match="checksum"):
        store.read(ref)
    assert store.read(ref, verify=False).metadata["role"] == "train"


def test_a_reader_keeps_what_it_has_mapped(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    found = store.read(store.write("pipeline/window-000001", CONTENT))
    store.retire("pipeline/window-000001")
    assert_equal(found, CONTENT)


def test_writing_a_name_again_replaces_it_and_counts_it_once(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    first = store.write("pipeline/window-000001", floats(10))
    second = store.write("pipeline/window-000001", floats(10))
    assert first == second
    assert store.used_bytes == second.bytes


def test_where_shared_memory_cannot_be_used_the_run_directory_is(tmp_path: Path) -> None:
    (tmp_path / "shm").write_text("a file, no directory")
    store = file_store(tmp_path)
    ref = store.write("pipeline/window-000001", CONTENT)
    assert (tmp_path / "run/pipeline/window-000001.safetensors").exists()
    assert_equal(store.read(ref), CONTENT)


def test_where_shared_memory_is_full_nothing_half_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = file_store(tmp_path)
    real = os.writev

    def full(descriptor: int, data: Any) -> int:
        if "/shm/" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "writev", full)
    ref = store.write("pipeline/window-000001", CONTENT)
    assert [path for path in (tmp_path / "shm").rglob("*") if path.is_file()] == []
    assert_equal(store.read(ref), CONTENT)
    monkeypatch.setattr(os, "writev", lambda descriptor, data: _refuse())
    with pytest.raises(BlobError, match=r"found no room \(.*No space left.*No space left"):
        store.write("pipeline/window-000002", CONTENT)
    assert store.used_bytes == ref.bytes


def test_one_name_is_in_one_place_wherever_it_was_written_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shared memory was full, and is not any more; and the other way round."""
    store, real = file_store(tmp_path), blob_files.write

    def write(directory: str, *args: Any) -> str:
        return str(_refuse()) if "/shm" in directory and full else real(directory, *args)

    monkeypatch.setattr(blob_files, "write", write)
    rooms = [False, True, False, True]
    while rooms:
        full = not rooms.pop()
        ref = store.write("pipeline/window-000001", CONTENT)
        assert len(list(tmp_path.rglob("*.safetensors"))) == 1
        assert_equal(file_store(tmp_path).read(ref), CONTENT)
    file_store(tmp_path).retire(ref.name)
    assert list(tmp_path.rglob("*.safetensors")) == []


def _refuse() -> int:
    raise OSError(28, "No space left on device")


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "writev", lambda descriptor, pieces: real(descriptor, pieces[0][:5]))
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:33]))
    store = file_store(tmp_path, archive_directory=tmp_path / "archive")
    ref = store.write("pipeline/window-000001", CONTENT)
    assert_equal(store.read(ref), CONTENT)
    assert store.archive(ref.name) == ref.bytes
    store.retire(ref.name)
    assert_equal(store.read(ref), CONTENT)


def test_over_its_budget_an_owner_waits_until_something_is_retired(tmp_path: Path) -> None:
    turns: list[int] = []

    def serve() -> None:
        turns.append(1)
        if len(turns) == 3:
            store.retire("pipeline/window-000001")

    store = file_store(tmp_path, budget=2000, wait=serve)
    store.write("pipeline/window-000001", floats(200))
    assert store.admits("pipeline/window-000002", 300)
    assert not store.admits("pipeline/window-000002", 1700)
    store.write("pipeline/window-000002", floats(200))
    assert len(turns) == 3


def test_without_somebody_to_wait_for_a_spent_budget_is_an_error(tmp_path: Path) -> None:
    store = file_store(tmp_path, budget=2000)
    store.write("pipeline/window-000001", floats(200))
    with pytest.raises(
        BlobError, match=r"does not fit the budget of 'pipeline': 1\d\d\d of 2000 bytes are alive"
    ):
        store.write("pipeline/window-000002", floats(200))


def test_waiting_for_space_has_an_end(tmp_path: Path) -> None:
    store = file_store(tmp_path, budget=2000, wait=lambda: None, timeout_seconds=0.01)
    store.write("pipeline/window-000001", floats(200))
    with pytest.raises(BlobError, match=r"nobody retired any for 0\.01 s"):
        store.write("pipeline/window-000002", floats(200))


def test_one_blob_of_each_kind_is_always_admitted(tmp_path: Path) -> None:
    """Else a window larger than what is left would wait for a consumer that waits for the window."""
    store = file_store(tmp_path, budget=100)
    store.write("pipeline/window-000001", floats(200))
    store.write("pipeline/state-000001", floats(200))
    with pytest.raises(BlobError, match="budget"):
        store.write("pipeline/window-000002", floats(1))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 60), st.booleans()), max_size=60))
def test_the_budget_is_never_exceeded_but_by_the_first_of_a_kind(steps: list[tuple[int, int, bool]]) -> None:
    budget = BlobBudget(100)
    for number, size, remove in steps:
        name = f"a/k{number % 2}-{number}"
        if remove:
            budget.remove(name)
        elif budget.admits(name, size):
            alone = not any(other.startswith(f"a/k{number % 2}-") for other in budget.names if other != name)
            budget.add(name, size)
            assert budget.used_bytes <= 100 or alone


def test_a_restarted_owner_counts_what_is_alive_and_removes_what_is_half_written(tmp_path: Path) -> None:
    ref = file_store(tmp_path).write("pipeline/window-000001", CONTENT)
    half = tmp_path / "shm/pipeline/.writing-window-000002.safetensors"
    half.write_bytes(b"half")
    again = file_store(tmp_path)
    assert again.used_bytes == ref.bytes
    assert not half.exists()
    assert again.sweep(keep={ref.name}) == []
    assert again.sweep() == [ref.name]


def test_what_is_persisted_survives_the_loss_of_shared_memory(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    ref = store.write("pipeline/window-000001", CONTENT)
    store.persist(ref)
    store.persist(ref)
    assert sweep_directory(tmp_path / "shm") == ref.bytes
    assert_equal(store.read(ref), CONTENT)
    store.retire(ref.name)
    with pytest.raises(BlobError, match="is in none of"):
        store.read(ref)


@pytest.mark.parametrize("recorded", [True, False])
def test_what_is_persisted_for_a_cut_stays_no_longer_than_it_is_needed(
    tmp_path: Path, recorded: bool
) -> None:
    store = file_store(tmp_path, archive_directory=tmp_path / "old")
    ref = store.write("pipeline/window-000001", CONTENT)
    store.persist(ref)
    assert store.archived_bytes == ref.bytes
    if recorded:  # its bytes count then, and only once
        assert [store.archive(ref.name) for _ in range(2)] == [ref.bytes, 0]
    store.retire(ref.name)
    assert store.archived_bytes == (ref.bytes if recorded else 0)


@pytest.fixture(autouse=True)
def _no_leftovers(tmp_path: Path) -> Iterator[None]:
    yield
    assert [path for path in tmp_path.rglob(".writing-*")] == []


def test_two_of_a_kind_are_admitted_where_the_owner_asks_for_it(tmp_path: Path) -> None:
    """With lookahead one window is consumed while the next is made."""
    store = file_store(tmp_path, budget=100, always_admitted=2)
    store.write("pipeline/window-000001", floats(200))
    store.write("pipeline/window-000002", floats(200))
    with pytest.raises(BlobError, match="budget"):
        store.write("pipeline/window-000003", floats(1))


def test_an_archived_blob_is_read_after_it_was_retired(tmp_path: Path) -> None:
    store = file_store(tmp_path, archive_directory=tmp_path / "archive")
    ref = store.write("pipeline/window-000001", CONTENT)
    assert store.archive(ref.name) == ref.bytes
    assert store.archive(ref.name) == 0
    store.retire(ref.name)
    assert store.used_bytes == 0
    assert_equal(store.read(ref), CONTENT)
    assert file_store(tmp_path, archive_directory=tmp_path / "archive").used_bytes == 0
    with pytest.raises(BlobMissing):
        store.archive("pipeline/window-000002")
