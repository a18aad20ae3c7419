from __future__ import annotations

import numpy as np
import pytest

from optix_bus.agents.storage import FILE, read_state, save_state
from optix_bus.errors import CheckpointError
from optix_bus.types import NamedArrays

STATE = NamedArrays(
    {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "count": np.array(3.0),
        "t": np.arange(6).reshape(2, 3).T,
    },
    {"policy": {"format": 1, "layers": [{"op": "tanh"}]}, "version": 3, "nothing": None},
)


@pytest.mark.parametrize("name", ["deep/er/folder", "weights.safetensors"])
def test_a_state_comes_back_whole_from_a_file_or_a_folder(tmp_path, name):
    save_state(STATE, str(tmp_path / name))
    found = read_state(str(tmp_path / name))
    assert dict(found.metadata) == STATE.metadata
    for key, array in STATE.arrays.items():
        np.testing.assert_array_equal(found.arrays[key], array)
        assert (found.arrays[key].dtype, found.arrays[key].shape) == (array.dtype, array.shape)


def test_saving_again_replaces_and_leaves_nothing_beside(tmp_path):
    save_state(STATE, str(tmp_path))
    save_state(NamedArrays({"b": np.zeros(1)}), str(tmp_path))
    assert list(read_state(str(tmp_path)).arrays) == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_the_same_state_gives_the_same_bytes(tmp_path):
    save_state(STATE, str(tmp_path / "1"))
    save_state(STATE, str(tmp_path / "2"))
    assert (tmp_path / "1" / FILE).read_bytes() == (tmp_path / "2" / FILE).read_bytes()


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"found no weights at .*agent\.safetensors"):
        read_state(str(tmp_path))
    save_state(STATE, str(tmp_path))
    content = (tmp_path / FILE).read_bytes()
    for cut in (0, 4, 50, len(content) - 1):
        (tmp_path / FILE).write_bytes(content[:cut])
        with pytest.raises(CheckpointError, match="are damaged"):
            read_state(str(tmp_path))


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "occupied").write_text("a file")
    with pytest.raises(CheckpointError, match="cannot write the weights to"):
        save_state(STATE, str(tmp_path / "occupied" / "below"))
