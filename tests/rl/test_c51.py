"""Moving distributions of returns along transitions conserves their mass, and their mean where it can."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optix_bus.rl.c51 import atoms, project
from tests.oracles import c51 as oracle


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 60),
    v_min=st.sampled_from([-10.0, 0.0, -3.3]),
    reach=st.sampled_from([0.5, 10.0, 20.0]),
)
def test_it_is_what_the_algorithm_does_atom_by_atom(seed, n, v_min, reach):
    rng = np.random.default_rng(seed)
    support = atoms(v_min, v_min + reach, n)
    probabilities = rng.dirichlet(np.ones(n), 5)
    rewards, discounts = 5 * rng.standard_normal(5), rng.choice([0.0, 0.9, 1.0], 5)
    found = project(probabilities, rewards, discounts, support)
    for row in range(5):
        wanted = oracle.project(
            probabilities[row].tolist(), rewards[row], discounts[row], v_min, v_min + reach
        )
        np.testing.assert_allclose(found[row], wanted, atol=1e-9)
    np.testing.assert_allclose(found.sum(1), 1.0)


@pytest.mark.parametrize("reward", [-99.0, -10.0, -9.6, 0.0, 0.4, 10.0, 77.0])
@pytest.mark.parametrize("discount", [0.0, 1.0])
def test_mass_is_conserved_where_targets_fall_on_atoms_and_beyond_the_ends(reward, discount):
    support = atoms(-10.0, 10.0, 51)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(51), 1)
    found = project(probabilities, np.array([reward]), np.array([discount]), support)
    assert found.sum() == pytest.approx(1.0, abs=1e-12)
    if discount == 0.0:
        assert found @ support == pytest.approx(np.clip(reward, -10.0, 10.0))
    if (reward, discount) == (0.4, 1.0):
        np.testing.assert_allclose(found[0, 1:50], probabilities[0, :49], atol=1e-9)


def test_the_mean_moves_with_the_transition_inside_the_ends():
    support = atoms(-10.0, 10.0, 51)
    probabilities = np.zeros((3, 51))
    probabilities[:, 20:30] = np.random.default_rng(0).dirichlet(np.ones(10), 3)
    rewards, discounts = np.array([0.3, -1.0, 2.0]), np.array([0.9, 1.0, 0.0])
    found = project(probabilities, rewards, discounts, support)
    np.testing.assert_allclose(found @ support, rewards + discounts * (probabilities @ support))


def test_shapes_and_ends_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="v_min below v_max"):
        atoms(1.0, 1.0, 51)
    with pytest.raises(ValueError, match="two or more"):
        atoms(0.0, 1.0, 1)
    with pytest.raises(ValueError, match="expected"):
        project(np.ones((2, 51)) / 51, np.zeros(3), np.zeros(2), atoms(0.0, 1.0, 51))
