from __future__ import annotations

import numpy as np
import pytest

from optix_bus.rl import make_minibatches


def test_every_row_comes_once_and_rows_stay_together():
    data = {"x": np.arange(10), "y": np.arange(10) * 2}
    parts = list(make_minibatches(data, 4, rng=np.random.default_rng(0)))
    assert [len(part["x"]) for part in parts] == [4, 4, 2]
    seen = np.concatenate([part["x"] for part in parts])
    assert sorted(seen.tolist()) == list(range(10))
    assert seen.tolist() != list(range(10))
    assert all((part["y"] == 2 * part["x"]).all() for part in parts)


def test_without_shuffling_the_order_stays():
    parts = list(make_minibatches({"x": np.arange(5)}, 2, shuffle=False))
    assert [part["x"].tolist() for part in parts] == [[0, 1], [2, 3], [4]]


def test_the_same_generator_gives_the_same_minibatches():
    first, second = (
        [p["x"].tolist() for p in make_minibatches({"x": np.arange(50)}, 7, rng=np.random.default_rng(3))]
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    ("data", "size", "message"),
    [
        ({}, 4, "no arrays"),
        ({"x": np.zeros(3), "y": np.zeros(4)}, 4, "differ in length"),
        ({"x": np.zeros(3)}, 0, "at least 1"),
    ],
)
def test_what_cannot_be_cut_is_refused_at_once(data, size, message):
    with pytest.raises(ValueError, match=message):
        make_minibatches(data, size)
