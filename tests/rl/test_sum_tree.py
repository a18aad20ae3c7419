"""The sum tree draws in proportion to priorities and finds every place by its running sum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optix_bus.rl.sum_tree import SumTree


@pytest.mark.parametrize("capacity", [1, 2, 3, 7, 8, 100])
def test_it_finds_what_a_running_sum_finds(capacity):
    rng = np.random.default_rng(capacity)
    tree = SumTree(capacity)
    priorities = rng.integers(0, 5, capacity).astype(float)
    priorities[rng.integers(capacity)] = 3.0
    tree.set(np.arange(capacity), priorities)
    assert tree.total == priorities.sum()
    masses = np.arange(int(priorities.sum())) + 0.5
    np.testing.assert_array_equal(tree.find(masses), np.searchsorted(np.cumsum(priorities), masses, "right"))


def test_filling_is_setting_all_at_once():
    priorities = np.random.default_rng(0).random(13)
    one, two = SumTree(16), SumTree(16)
    one.set(np.arange(13), priorities)
    two.set(np.array([15]), np.array([9.0]))
    two.fill(priorities)
    np.testing.assert_array_equal(one._nodes[1:], two._nodes[1:])


@given(st.lists(st.tuples(st.integers(0, 19), st.floats(0, 1e6)), min_size=1, max_size=60))
def test_after_any_changes_the_total_is_the_sum_and_places_without_priority_are_never_found(changes):
    tree, plain = SumTree(20), np.zeros(20)
    for place, priority in changes:
        tree.set(np.array([place]), np.array([priority]))
        plain[place] = priority
    np.testing.assert_array_equal(tree[np.arange(20)], plain)
    assert tree.total == pytest.approx(plain.sum())
    if tree.total > 0.0:
        found = tree.find(np.array([0.0, 0.3, 0.9, 1.0]) * tree.total)
        assert (plain[found] > 0.0).all()


def test_of_a_place_that_is_set_twice_the_last_priority_counts():
    tree = SumTree(4)
    tree.set(np.array([2, 1, 2]), np.array([5.0, 1.0, 3.0]))
    assert tree[np.array([2])] == [3.0]
    assert tree.total == 4.0


def test_its_work_grows_with_the_logarithm_of_its_size():
    assert SumTree(1_000_000).depth == 20
    assert SumTree(1_000).depth == 10
